"""Uses of break-glass and requests of patients, compared with what the audit log says of them.

Both are few, name no patient and are never removed: each row was made by one AuditEvent, and closed
by another or not yet. What older entries did not tell is not compared (docs/audit.md).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gateway.core.audit_rights import REQUEST_SYSTEM
from gateway.store.sealing import Place
from gateway.store.verification_report import Kind, Verification, as_bytes

if TYPE_CHECKING:
    from gateway.store.evidence import Claim
    from gateway.store.unit_of_work import UnitOfWork

Row = Mapping[str, Any]

USES, REQUESTS = "break_glass_uses", "rights_requests"
_MADE = {USES: "that the glass was broken", REQUESTS: "that it was received"}
_CLOSED = {USES: "whether it was reviewed", REQUESTS: "whether it was answered"}


@dataclass
class Acts:
    """What the log says of the rows of one table.

    Attributes:
        made: How each came into being, by id.
        closed: How each was reviewed or answered, by id.
    """

    made: dict[str, "Claim"] = field(default_factory=dict)
    closed: dict[str, "Claim"] = field(default_factory=dict)


@dataclass
class ActEvidence:
    """What the log says of uses of break-glass and of requests."""

    uses: Acts = field(default_factory=Acts)
    requests: Acts = field(default_factory=Acts)

    def add(self, claim: "Claim") -> bool:
        """Take a claim into account; say whether it was one of these."""
        event, use = claim.record.event, claim.facts.get("review", "")
        if event == "break-glass":
            # Who was refused left no use behind.
            if use:
                self.uses.made[use] = claim
        elif event == "break-glass-review":
            self.uses.closed[use] = claim
        elif event == "request":
            is_made = claim.facts.get("what") == "received"
            kept = self.requests.made if is_made else self.requests.closed
            kept[claim.names[REQUEST_SYSTEM]] = claim
        else:
            return False
        return True


class ActVerifier:
    """Compares the rows of both tables, one after the other."""

    def __init__(
        self,
        uow: "UnitOfWork",
        evidence: ActEvidence,
        report: Verification,
        is_erased: Callable[[Row, int], bool],
    ) -> None:
        self._uow = uow
        self._evidence = evidence
        self._report = report
        self._is_erased = is_erased

    def check_use(self, row: Row) -> None:
        """Compare a use of break-glass.

        Raises:
            Unsealable: What was sealed of it does not open.
        """
        pair = self._told(USES, self._evidence.uses, row, "reviewed_ms")
        if pair is None:
            return
        made, closed = pair
        self._compare(USES, row, _of_use(made), made)
        if row["clinician"] not in made.agent_names:
            self._found(USES, row, "column clinician is not who broke the glass", made)
        if closed is not None:
            self._compare(USES, row, _of_review(closed), closed)
            if row["reviewer"] not in closed.agent_names:
                self._found(USES, row, "column reviewer is not who reviewed it", closed)
        if not self._is_erased(row, row["used_ms"]):
            self._check_words(row)

    def check_request(self, row: Row) -> None:
        """Compare a request of a patient."""
        pair = self._told(REQUESTS, self._evidence.requests, row, "closed_ms")
        if pair is None:
            return
        made, closed = pair
        self._compare(REQUESTS, row, _of_request(made), made)
        if row["added_by"] not in made.agents:
            self._found(REQUESTS, row, "column added_by is not who put it down", made)
        answered = _of_answer(closed) if closed else {"outcome": "", "closed_by": None}
        self._compare(REQUESTS, row, answered, closed or made)
        if closed is not None and not _is_by(closed, str(row["closed_by"])):
            self._found(REQUESTS, row, "column closed_by is not who answered it", closed)

    def _told(
        self, table: str, acts: Acts, row: Row, closed_column: str
    ) -> tuple["Claim", "Claim | None"] | None:
        """Give what is on record of a row, having compared whether it is closed."""
        made, closed = acts.made.get(row["id"]), acts.closed.get(row["id"])
        if made is None:
            what = f"{_MADE[table]} is not on record"
            self._report.found(table, row["id"], what, kind=Kind.INVENTED)
            return None
        if row[closed_column] != (closed.recorded_ms if closed else None):
            what = f"{_CLOSED[table]}, and when, is not what was recorded"
            self._found(table, row, what, closed or made)
        return made, closed

    def _check_words(self, row: Row) -> None:
        """Open why it was done and what was remarked: both were sealed for this very row."""
        if row["reviewed_ms"] is not None and row["comment"] is None:
            self._found(USES, row, "what the review remarked is gone", None)
        for column in ("reason", "comment"):
            if row[column] is not None:
                place = Place(USES, column, row["id"])
                keys = self._uow.patient_keys
                keys.unseal(row["patient_key"], place, as_bytes(row[column]))

    def _compare(
        self, table: str, row: Row, expected: Mapping[str, object], claim: "Claim"
    ) -> None:
        for column, value in expected.items():
            if row[column] != value:
                self._found(table, row, f"column {column} is not what was recorded", claim)

    def _found(self, table: str, row: Row, what: str, claim: "Claim | None") -> None:
        self._report.found(table, row["id"], what, claim.seq if claim else None)


def _of_use(claim: "Claim") -> dict[str, object]:
    record = claim.record
    return {
        "job_id": record.job_id,
        "patient_key": record.patient_key,
        "route": claim.facts.get("route"),
        "clinician_id": claim.agents[0],
        "used_ms": claim.recorded_ms,
        **dict(_moments(claim, "due_ms")),
    }


def _of_review(claim: "Claim") -> dict[str, object]:
    return {"verdict": claim.facts.get("verdict"), "reviewer_id": claim.agents[0]}


def _of_request(claim: "Claim") -> dict[str, object]:
    return {
        "kind": claim.facts.get("kind"),
        "patient_key": claim.record.patient_key,
        **dict(_moments(claim, "received_ms", "due_ms")),
    }


def _of_answer(claim: "Claim") -> dict[str, object]:
    return {"outcome": claim.facts.get("outcome", "")}


def _moments(claim: "Claim", *columns: str) -> Iterator[tuple[str, int]]:
    """Give the times that an entry tells to the millisecond; older ones did not."""
    for column in columns:
        told = claim.facts.get(column.replace("_", "-"))
        if told is not None:
            yield column, int(told)


def _is_by(claim: "Claim", name: str) -> bool:
    return name in claim.agent_names or any(agent.endswith(name) for agent in claim.agents)
