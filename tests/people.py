"""Patients whose charts are complete enough for ckd-risk, for tests of the whole system.

Every call of `person` gives somebody new, so that tests can share one running Nadi.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from tests.factories import ACT_REASON, LOINC, SCOPE

Json = dict[str, Any]

_UCUM = "http://unitsofmeasure.org"
_numbers = count(1)
#: All that the model wants beside age and creatinine: code, value and UCUM unit.
_LABS = {
    "bp": ("8462-4", 92, "mm[Hg]"),
    "urea": ("22664-7", 21.5, "mmol/L"),
    "sodium": ("2951-2", 134, "mmol/L"),
    "potassium": ("2823-3", 5.1, "mmol/L"),
    "haemoglobin": ("718-7", 9.4, "g/dL"),
    "haematocrit": ("4544-3", 29, "%"),
    "leukocytes": ("6690-2", 9.1, "10*3/uL"),
    "erythrocytes": ("789-8", 3.6, "10*6/uL"),
    "glucose": ("14749-6", 9.8, "mmol/L"),
}
_PRIVACY = [{"system": SCOPE, "code": "patient-privacy"}]


@dataclass(frozen=True)
class Person:
    """One patient: the resources that an EHR would push about them."""

    id: str
    at: datetime

    @property
    def reference(self) -> str:
        return f"Patient/{self.id}"

    @property
    def patient(self) -> Json:
        return {"resourceType": "Patient", "id": self.id, "birthDate": "1961-05-01"}

    @property
    def labs(self) -> list[Json]:
        """Everything the model wants beside creatinine."""
        return [
            self.observation(name, code, value, unit) for name, (code, value, unit) in _LABS.items()
        ]

    def creatinine(self, value: float = 3.827, **changed: Any) -> Json:
        """The result that starts the route."""
        return {**self.observation("creatinine", "2160-0", value, "mg/dL"), **changed}

    def observation(self, name: str, code: str, value: float, unit: str) -> Json:
        """A result from just now."""
        return {
            "resourceType": "Observation",
            "id": f"{self.id}-{name}",
            "status": "final",
            "code": {"coding": [{"system": LOINC, "code": code}]},
            "subject": {"reference": self.reference},
            "effectiveDateTime": self.at.isoformat(),
            "valueQuantity": {"value": value, "unit": unit, "system": _UCUM, "code": unit},
        }

    def consent(self, kind: str = "permit", **changed: Any) -> Json:
        """A Consent to treatment with this base rule; fields can be changed."""
        return {
            "resourceType": "Consent",
            "id": f"{self.id}-consent",
            "status": "active",
            "scope": {"coding": _PRIVACY},
            "category": [{"coding": [{"system": LOINC, "code": "59284-0"}]}],
            "patient": {"reference": self.reference},
            "policyRule": {"text": "as agreed at admission"},
            "provision": {"type": kind, "purpose": [{"system": ACT_REASON, "code": "TREAT"}]},
            **changed,
        }

    def chart(self, consent: Json | None) -> list[Json]:
        """Everything but the creatinine; the consent only if there is one."""
        return [self.patient, *([consent] if consent else []), *self.labs]


def person(prefix: str = "person") -> Person:
    """Give a new patient."""
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    return Person(f"{prefix}-{next(_numbers):04d}", at)


def versioned(resource: Json, version: int) -> Json:
    """Give a resource with a version, as an EHR that keeps versions does."""
    return {**resource, "meta": {"versionId": str(version)}}
