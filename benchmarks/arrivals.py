"""Lab results that start no model, of ever new patients: what is only to be received."""

from collections.abc import Sequence
from typing import Any

import orjson

from benchmarks.workload import Post

#: Codes of results that start no route of the benchmarks' sites.
OTHERS = ("718-7", "2951-2", "2823-3", "6690-2", "789-8")


def result(patient: str, number: int, code: str, value: float) -> dict[str, Any]:
    """Make up one result of a patient."""
    return {
        "resourceType": "Observation",
        "id": f"{patient}-{number}",
        "meta": {"versionId": "1"},
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": "2026-11-20T08:00:00Z",
        "valueQuantity": {
            "value": value,
            "unit": "mg/dL",
            "system": "http://unitsofmeasure.org",
            "code": "mg/dL",
        },
    }


def singles(count: int, name: str, *, of_a_patient: int = 10) -> list[Post]:
    """Give so many requests with one result each; another name gives other patients."""
    return [
        Post("/fhir/Observation", orjson.dumps(each), each["id"])
        for each in _results(count, name, of_a_patient)
    ]


def bundles(count: int, name: str, *, size: int) -> list[Post]:
    """Give so many requests with a batch Bundle of results of one patient each."""
    made = []
    for number in range(count):
        entries = [
            {"resource": each, "request": {"method": "POST", "url": "Observation"}}
            for each in _results(size, f"{name}-{number}", size)
        ]
        bundle = {"resourceType": "Bundle", "type": "batch", "entry": entries}
        made.append(Post("/fhir", orjson.dumps(bundle), f"{name}-{number}"))
    return made


def _results(count: int, name: str, of_a_patient: int) -> Sequence[dict[str, Any]]:
    return [
        result(f"{name}-{n // of_a_patient}", n, OTHERS[n % len(OTHERS)], 1 + n % 80 / 10)
        for n in range(count)
    ]
