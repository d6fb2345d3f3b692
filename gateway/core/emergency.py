"""The marks of a result for which the glass was broken: everybody who reads it is to see that.

The purpose BTG stands among its security labels, and as a reason in its Provenance.

Source: HL7 v3-ActReason BTG ("break the glass"), of the value set PurposeOfUse.
"""

from dataclasses import replace

from gateway.core.consent import ACT_REASON, BREAK_GLASS
from gateway.core.findings import Json, Report

_BTG = {"system": ACT_REASON, "code": BREAK_GLASS, "display": "break the glass"}


def as_emergency(report: Report) -> Report:
    """Give a report with the marks of break-glass on all of its parts."""
    provenance = report.provenance
    return replace(
        report,
        result=_labelled(report.result),
        provenance=provenance
        and {
            **provenance,
            "reason": [*provenance.get("reason", ()), {"coding": [_BTG]}],
        },
        attachments=tuple(_labelled(each) for each in report.attachments),
        instead=report.instead and _labelled(report.instead),
    )


def _labelled(resource: Json) -> Json:
    meta = resource.get("meta") or {}
    return {**resource, "meta": {**meta, "security": [*meta.get("security", ()), _BTG]}}
