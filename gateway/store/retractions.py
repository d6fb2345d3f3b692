"""Results that are to be marked as entered in error in an EHR: each once, tried until it is done.

A claim counts the attempt up and puts the next one off by a lease, so that who died while it worked
is followed by somebody else; the attempt fences the settlement.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from gateway.core.delivery import DeliveryState
from gateway.store.sealing import Place
from gateway.store.tables import deliveries, jobs, retractions

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

_IDS: sa.BindParameter[Any] = sa.bindparam("ids", expanding=True)
_IS_DUE = (
    retractions.c.state == "pending",
    retractions.c.next_attempt_ms <= sa.bindparam("now"),
)
_DUE = sa.select(retractions.c.delivery_id).where(*_IS_DUE).limit(sa.bindparam("most"))
_OF = sa.select(retractions).where(retractions.c.delivery_id.in_(_IDS))
_CLAIM = (
    sa.update(retractions)
    .where(retractions.c.delivery_id.in_(_IDS), *_IS_DUE)
    .values(attempt=retractions.c.attempt + 1, next_attempt_ms=sa.bindparam("until"))
    .returning(retractions)
)
_SETTLE = (
    sa.update(retractions)
    .where(
        retractions.c.delivery_id == sa.bindparam("held_id"),
        retractions.c.state == "pending",
        retractions.c.attempt == sa.bindparam("held_attempt"),
    )
    .values(
        state=sa.bindparam("new_state"),
        next_attempt_ms=sa.bindparam("new_next_ms"),
        last_answer=sa.bindparam("new_answer"),
        settled_ms=sa.bindparam("new_settled_ms"),
    )
)
#: In an EHR for sure, or perhaps: tried, and stopped without knowing what came of it.
_MAY_BE_WRITTEN = sa.or_(
    deliveries.c.state == DeliveryState.DELIVERED,
    sa.and_(
        deliveries.c.state.in_([DeliveryState.CANCELLED, DeliveryState.FAILED]),
        sa.or_(deliveries.c.attempt > 1, deliveries.c.last_answer != ""),
    ),
)
_WRITTEN = (
    sa.select(
        deliveries.c.id,
        deliveries.c.patient_key,
        deliveries.c.body,
        jobs.c.route,
        jobs.c.event_id,
        jobs.c.model,
        jobs.c.model_digest,
    )
    .join(jobs, jobs.c.id == deliveries.c.job_id)
    .where(
        jobs.c.patient_key == sa.bindparam("patient"),
        _MAY_BE_WRITTEN,
        deliveries.c.id.not_in(sa.select(retractions.c.delivery_id)),
    )
)


class RetractionState(StrEnum):
    """Where a retraction stands."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Retraction:
    """One result to be marked, or marked.

    Attributes:
        reason: Why, as the consent decision words it.
        last_answer: What came of it so far; never the EHR's text.
    """

    delivery_id: str
    patient_key: str
    reason: str
    state: RetractionState
    attempt: int
    next_attempt_ms: int
    last_answer: str
    created_ms: int
    settled_ms: int | None


@dataclass(frozen=True)
class WrittenResult:
    """A result that is in an EHR, or may be, and was not retracted."""

    delivery_id: str
    patient_key: str
    route: str
    event_id: str
    model: str
    model_digest: str
    sealed: bytes = field(repr=False)


class Retractions:
    """Retractions within one unit of work."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    def written(self, patient_key: str) -> list[WrittenResult]:
        """Give the results of a patient that are in an EHR, or may be, and were not retracted."""
        rows = self._uow.connection.execute(_WRITTEN, {"patient": patient_key})
        return [
            WrittenResult(
                row.id,
                row.patient_key,
                row.route,
                row.event_id,
                row.model,
                row.model_digest,
                row.body,
            )
            for row in rows
        ]

    def body(self, written: WrittenResult) -> bytes:
        """Open the report that was written.

        Raises:
            Unsealable: The row was changed or the patient's key is gone.
        """
        place = Place("deliveries", "body", written.delivery_id)
        return self._uow.patient_keys.unseal(written.patient_key, place, written.sealed)

    def add(self, delivery_id: str, patient_key: str, reason: str, *, delay_ms: int = 0) -> None:
        """Have a result marked; one that is on the list already stays as it is.

        Args:
            delivery_id: Its delivery.
            patient_key: Whose it is.
            reason: Why, as the consent decision words it.
            delay_ms: How long to wait before it is looked for.
        """
        row = {
            "delivery_id": delivery_id,
            "patient_key": patient_key,
            "reason": reason,
            "state": RetractionState.PENDING,
            "next_attempt_ms": self._uow.now_ms + delay_ms,
            "created_ms": self._uow.now_ms,
        }
        dialect = self._uow.connection.dialect.name
        insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
        self._uow.connection.execute(insert(retractions).on_conflict_do_nothing(), row)

    def is_any_due(self) -> bool:
        """Say whether there is something to do."""
        values = {"now": self._uow.now_ms, "most": 1}
        return self._uow.connection.scalar(_DUE, values) is not None

    def claim(self, most: int, *, lease_ms: int) -> list[Retraction]:
        """Take what is due; nobody else gets it before the lease is over."""
        now = self._uow.now_ms
        ids = list(self._uow.connection.scalars(_DUE, {"now": now, "most": most}))
        values = {"ids": ids, "now": now, "until": now + lease_ms}
        return [_retraction(row) for row in self._uow.connection.execute(_CLAIM, values)]

    def settle(
        self, held: Retraction, state: RetractionState, answer: str, *, next_attempt_ms: int = 0
    ) -> bool:
        """Write what became of one; say whether it still was the caller's."""
        is_over = state is not RetractionState.PENDING
        values = {
            "held_id": held.delivery_id,
            "held_attempt": held.attempt,
            "new_state": state,
            "new_next_ms": next_attempt_ms,
            "new_answer": answer,
            "new_settled_ms": self._uow.now_ms if is_over else None,
        }
        return self._uow.connection.execute(_SETTLE, values).rowcount == 1

    def of(self, delivery_ids: Collection[str]) -> dict[str, Retraction]:
        """Give the retraction of each of these deliveries that has one."""
        rows = self._uow.connection.execute(_OF, {"ids": list(delivery_ids)})
        return {row.delivery_id: _retraction(row) for row in rows}

    def counts(self) -> dict[RetractionState, int]:
        """Count them by state."""
        counted = sa.select(retractions.c.state, sa.func.count()).group_by(retractions.c.state)
        rows: Sequence[Any] = self._uow.connection.execute(counted).all()
        return {RetractionState(row[0]): row[1] for row in rows}


def _retraction(row: Any) -> Retraction:  # noqa: ANN401 - a row of SQLAlchemy's
    values = {**row._mapping, "state": RetractionState(row.state)}  # noqa: SLF001 - its public name
    return Retraction(**values)
