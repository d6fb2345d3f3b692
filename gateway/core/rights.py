"""What a patient may ask for, and until when she has to be answered.

Source: DPDP Act 2023, s.11-14; DPDP Rules 2025, Rule 14(3): grievances within 90 days at most; EHR
Standards for India 2016: corrections within 30 days; Indian Medical Council Regulations 2002,
1.3.2: copies of records within 72 hours.
"""

from dataclasses import dataclass
from enum import StrEnum

from gateway.core.retention import DAY_MS


class RequestKind(StrEnum):
    """What is asked for."""

    ACCESS = "access"
    CORRECTION = "correction"
    ERASURE = "erasure"
    GRIEVANCE = "grievance"
    NOMINATION = "nomination"


@dataclass(frozen=True)
class Term:
    """How many days there are, and which provision says so."""

    days: int
    source: str


_RULE_14 = "DPDP Rules 2025, Rule 14(3)"
TERMS = {
    RequestKind.ACCESS: Term(3, "Indian Medical Council Regulations 2002, 1.3.2"),
    RequestKind.CORRECTION: Term(30, "EHR Standards for India 2016"),
    RequestKind.ERASURE: Term(90, _RULE_14),
    RequestKind.GRIEVANCE: Term(90, _RULE_14),
    RequestKind.NOMINATION: Term(90, _RULE_14),
}


@dataclass(frozen=True, kw_only=True)
class RightsRequest:
    """One request.

    Attributes:
        patient_key: Keyed hash of the patient.
        outcome: How it was answered; empty while it is open. It names no patient.
    """

    id: str
    kind: RequestKind
    patient_key: str
    received_ms: int
    due_ms: int
    added_by: str
    closed_ms: int | None = None
    closed_by: str | None = None
    outcome: str = ""

    def is_overdue(self, now_ms: int) -> bool:
        """Say whether it is open after its time."""
        return self.closed_ms is None and now_ms > self.due_ms


def due_ms(kind: RequestKind, received_ms: int) -> int:
    """Say until when a request has to be answered."""
    return received_ms + TERMS[kind].days * DAY_MS
