"""FHIR resources for tests: valid, small, each field changeable."""

import json
from typing import Any

SITE = """\
site: test-hospital
systems:
  ehr:
    kind: fhir-rest
    base_url: http://ehr.test/fhir
    auth: {kind: none}
    receive: [push]
routes:
  ckd-risk:
    source: ehr
    match: "Observation.code.coding.where(system='http://loinc.org' and code='2160-0')"
    consent: {purpose: TREAT, default: deny}
    model: ckd-risk@1
    sink: {system: ehr}
"""

LOINC = "http://loinc.org"
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
SCOPE = "http://terminology.hl7.org/CodeSystem/consentscope"

Json = dict[str, Any]


def raw(resource: Json) -> bytes:
    """Write a resource as a system would send it."""
    return json.dumps(resource).encode()


def meta(version: int | str | None = None, updated: str | None = None) -> Json:
    """Give `meta` with what is not None; nothing at all when everything is."""
    told = {"versionId": version if version is None else str(version), "lastUpdated": updated}
    kept = {name: value for name, value in told.items() if value is not None}
    return {"meta": kept} if kept else {}


def patient(number: int | str = 1, **changed: Any) -> Json:
    """A Patient with nothing but an id and a birth date."""
    return {"resourceType": "Patient", "id": f"p{number}", "birthDate": "1961-05-01", **changed}


def creatinine(number: int | str = 1, subject: str = "Patient/p1", **changed: Any) -> Json:
    """A serum creatinine, which the route of `SITE` wants."""
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": "2160-0"}]},
        "subject": {"reference": subject},
        "effectiveDateTime": "2026-11-20T08:00:00+05:30",
        "valueQuantity": {
            "value": 1.5,
            "unit": "mg/dL",
            "system": "http://unitsofmeasure.org",
            "code": "mg/dL",
        },
        **changed,
    }


def consent(number: int | str = 1, subject: str = "Patient/p1", **changed: Any) -> Json:
    """An active Consent that permits treatment; `provision` and all else can be changed."""
    return {
        "resourceType": "Consent",
        "id": f"c{number}",
        "status": "active",
        "scope": {"coding": [{"system": SCOPE, "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": LOINC, "code": "59284-0"}]}],
        "patient": {"reference": subject},
        "policyRule": {"text": "as agreed at admission"},
        "provision": {"type": "permit", "purpose": [{"system": ACT_REASON, "code": "TREAT"}]},
        **changed,
    }


def bundle(*resources: Json, kind: str = "collection", **changed: Any) -> Json:
    """A Bundle; where entries have requests each is an update of its resource."""
    return {
        "resourceType": "Bundle",
        "type": kind,
        "entry": [_entry(resource, kind) for resource in resources],
        **changed,
    }


def _entry(resource: Json, kind: str) -> Json:
    url = f"{resource['resourceType']}/{resource['id']}" if "id" in resource else None
    entry: Json = {"resource": resource}
    if url:
        entry["fullUrl"] = f"http://ehr.test/fhir/{url}"
    if kind == "history":
        entry["response"] = {"status": "200"}
    if kind in {"transaction", "batch", "history"}:
        entry["request"] = (
            {"method": "PUT", "url": url}
            if url
            else {"method": "POST", "url": resource["resourceType"]}
        )
    return entry
