"""What was recorded of consents, compared with what the audit log says of it.

Each act opens, is signed with the key that signs consents, has the document that it states, and is
the one on record; none is missing, so that nobody can make a revocation unsaid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from gateway.core.audit_consent import CONSENT_ACT_SYSTEM, EVENTS
from gateway.core.consent.statement import StatementForged, canonical
from gateway.store.verification_report import Kind, Verification

if TYPE_CHECKING:
    from gateway.store.evidence import Claim
    from gateway.store.unit_of_work import UnitOfWork

_TABLE = "consent_acts"
_KINDS = frozenset(EVENTS.values())


@dataclass(frozen=True, slots=True)
class RecordedAct:
    """What the log says of an act; as little as is needed, since there may be many.

    Attributes:
        seq: Number of the AuditEvent.
        sha256: Of the signed statement, hexadecimal.
    """

    seq: int
    sha256: str
    patient_key: str | None
    recorded_ms: int


def recorded_act(claim: "Claim") -> tuple[str, RecordedAct] | None:
    """Give the act that an AuditEvent tells of, by its id; None when it tells of none."""
    if claim.record.event not in _KINDS:
        return None
    told = RecordedAct(
        claim.seq, claim.facts["sha256"], claim.record.patient_key, claim.recorded_ms
    )
    return claim.names[CONSENT_ACT_SYSTEM], told


def check_consent_act(
    uow: "UnitOfWork",
    recorded: Mapping[str, RecordedAct],
    report: Verification,
    row: Mapping[str, Any],
) -> None:
    """Check one row; what is wrong goes into the report.

    Raises:
        Unsealable: It can't be opened.
    """
    told = recorded.get(row["id"])
    if told is None:
        report.found(_TABLE, row["id"], "it was never recorded", kind=Kind.INVENTED)
        return
    try:
        act = uow.consent_acts.verified(row)
    except StatementForged as error:
        report.found(_TABLE, row["id"], error.message, told.seq)
        return
    if sha256(canonical(act.statement)).hexdigest() != told.sha256:
        report.found(_TABLE, row["id"], "it is not what was stated", told.seq)
    if (row["patient_key"], row["recorded_ms"]) != (told.patient_key, told.recorded_ms):
        what = "its patient or its time is not what was recorded"
        report.found(_TABLE, row["id"], what, told.seq)
