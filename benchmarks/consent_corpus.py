"""Patients with consents of the simplest kind, drawn from a seed, for those who decide otherwise.

Each Consent permits or denies one purpose or all, is active or not, and has a period. That is what
every engine can be told; what Nadi reads beyond it (labels, actors, nested exceptions, REDACT) is
not in the corpus, since a table with five columns knows nothing of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
PURPOSES = ("TREAT", "HRESCH", None)
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_MOST_CONSENTS = 3


@dataclass(frozen=True)
class Wish:
    """What one Consent says.

    Attributes:
        purpose: None for all of them.
    """

    is_active: bool
    is_permit: bool
    begins: datetime
    ends: datetime
    purpose: str | None

    def as_consent(self, patient: str) -> dict[str, Any]:
        """Write it as a FHIR Consent."""
        provision: dict[str, Any] = {
            "type": "permit" if self.is_permit else "deny",
            "period": {"start": self.begins.isoformat(), "end": self.ends.isoformat()},
        }
        if self.purpose:
            provision["purpose"] = [
                {"system": f"{_TERMINOLOGY}/v3-ActReason", "code": self.purpose}
            ]
        scope = {"system": f"{_TERMINOLOGY}/consentscope", "code": "patient-privacy"}
        return {
            "resourceType": "Consent",
            "status": "active" if self.is_active else "inactive",
            "scope": {"coding": [scope]},
            "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
            "patient": {"reference": patient},
            "dateTime": "2026-01-01",
            "policyRule": {"text": "as agreed at admission"},
            "provision": provision,
        }

    def as_policy(self) -> str:
        """Write it as a Cedar policy; the patient's policies are a set of their own."""
        effect = "permit" if self.is_permit else "forbid"
        action = f'action == Action::"{self.purpose}"' if self.purpose else "action"
        since, until = (int(each.timestamp()) for each in (self.begins, self.ends))
        when = f"context.now >= {since} && context.now <= {until}"
        return f"{effect}(principal, {action}, resource) when {{ {when} }};"


def people(count: int) -> list[Sequence[Wish]]:
    """Draw the wishes of so many patients; some have none."""
    draw = Random(20261126)  # noqa: S311 - a benchmark has to repeat itself
    return [[_wish(draw) for _ in range(draw.randint(0, _MOST_CONSENTS))] for _ in range(count)]


def _wish(draw: Random) -> Wish:
    begins = datetime(draw.choice((2024, 2025, 2027)), draw.randint(1, 12), 1, tzinfo=UTC)
    return Wish(
        is_active=draw.random() < 0.9,  # noqa: PLR2004 - nine in ten
        is_permit=draw.random() < 0.8,  # noqa: PLR2004 - four in five
        begins=begins,
        ends=begins.replace(year=begins.year + draw.choice((1, 3))),
        purpose=draw.choice(PURPOSES),
    )
