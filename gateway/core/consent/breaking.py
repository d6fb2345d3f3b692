"""Break-glass: what may be done in an emergency although consent would not permit it.

A named clinician with the right asks, and says why; the use is labelled, alerted and reviewed. The
policy for it is implicit: what nobody forbade for emergencies is permitted.

1. A patient's refusal of all AI holds.
2. A rule that speaks of purposes holds: it denies BTG only where it names it, since BTG is covered
   by BTG alone. So does a Consent that can't be read, or leaves a doubt.
3. A denial for whatever purpose, and a permit that does not reach this use, are what the glass is
   broken over: they do not count, and the decision says so.

Source: HL7 v3-ActReason BTG; IHE PCF volume 1 (break-glass); docs/revocation.md.
"""

from collections.abc import Sequence
from dataclasses import replace

from gateway.core.consent.decision import STRICT, ConsentDecision, ConsentSettings, decide
from gateway.core.consent.judging import Finding, judge
from gateway.core.consent.record import ConsentRecord
from gateway.core.consent.request import ConsentRequest

_NOBODY_FORBADE = "An emergency: nobody forbade it."


def decide_broken(
    request: ConsentRequest,
    consents: Sequence[ConsentRecord],
    *,
    settings: ConsentSettings = STRICT,
) -> ConsentDecision:
    """Decide a use for which the glass was broken.

    Args:
        request: Its purpose is BTG.
        consents: Everything on record for the patient.
        settings: How the site wants consents to be taken.
    """
    findings = [judge(record, request) for record in consents]
    broken = [each for each in findings if _is_broken(each)]
    counted = [each.record for each in findings if not _is_broken(each)]
    decision = decide(request, counted, default="permit", settings=settings, unsaid=_NOBODY_FORBADE)
    over = tuple(f"{each.record.ref}: {each.why} The glass was broken over it." for each in broken)
    return replace(decision, reasons=(*over, *decision.reasons))


def _is_broken(finding: Finding) -> bool:
    record, rule = finding.record, finding.rule
    is_against = finding.verdict in ("deny", "withhold")
    if not is_against or rule is None or record.refuses_ai or record.doubts:
        return False
    return record.is_readable and all(each.element != "purpose" for each in rule.conditions)
