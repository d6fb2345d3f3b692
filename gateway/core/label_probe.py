"""A result that is none, to find out what an EHR keeps of one: of a made-up patient, by no model.

It has every label that a result has, and says in all its words that it is a probe. Who writes it,
marks it as entered in error afterwards.
"""

from datetime import datetime

from gateway.core.findings import Report
from gateway.core.result_terms import (
    AI_ROLE,
    AIAST,
    CANONICAL,
    DIGEST_SYSTEM,
    RESULT_SYSTEM,
    TERMINOLOGY,
    UCUM,
    Json,
    device_urn,
    instant,
    result_identifier,
)

_DIGEST = "write-back-probe"
_CODE = (f"{CANONICAL}/CodeSystem/probe", "write-back")
_SAYS = "Probe of Nadi, not a finding (AI)"
_XHTML = "http://www.w3.org/1999/xhtml"


def label_probe(patient: str, at: datetime, code: tuple[str, str] | None = None) -> Report:
    """Write a probe.

    Args:
        patient: `Patient/id` of a made-up patient.
        at: When it is made; this and its code tell two probes apart.
        code: System and code of a model's answer, for an EHR that takes no other; else the probe's.
    """
    system, name = code or _CODE
    identifier = result_identifier("probe", f"{instant(at)} {name}", patient, _DIGEST)
    normal = {"system": f"{TERMINOLOGY}/v3-ObservationInterpretation", "code": "N"}
    unit = {"unit": "probability", "system": UCUM, "code": "{probability}"}
    observation: Json = {
        "resourceType": "Observation",
        "meta": {"security": [AIAST]},
        "identifier": [{"system": RESULT_SYSTEM, "value": identifier}],
        "status": "preliminary",
        "text": {"status": "generated", "div": f'<div xmlns="{_XHTML}"><p>{_SAYS}</p></div>'},
        "category": [_category()],
        "code": {"coding": [{"system": system, "code": name}], "text": _SAYS},
        "subject": {"reference": patient},
        "effectiveDateTime": instant(at),
        "issued": instant(at),
        "valueQuantity": {"value": 0.5, **unit},
        "interpretation": [{"coding": [normal]}],
        "method": {"text": _SAYS},
        "device": {"reference": device_urn(_DIGEST)},
        "note": [{"text": _SAYS}],
    }
    return Report(observation, _device(), None)


def _category() -> Json:
    return {"coding": [{"system": f"{TERMINOLOGY}/observation-category", "code": "survey"}]}


def _device() -> Json:
    return {
        "resourceType": "Device",
        "identifier": [{"system": DIGEST_SYSTEM, "value": _DIGEST}],
        "status": "active",
        "deviceName": [{"name": _SAYS, "type": "user-friendly-name"}],
        "type": AI_ROLE,
    }
