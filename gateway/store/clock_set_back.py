"""What waits for a moment of a clock that was ahead: brought forward once the clock is set back.

A machine that starts with a wrong clock, or one that a time server corrects, writes moments that
lie in the future when its clock is set back. Without this a job that was ready then would be ready
again only when the clock gets there, perhaps hours later, and a dead worker's lease would hold as
long.

Rules:

1. Everything that waits is moved by as much as the clock was, so that what an EHR asked for
   (Retry-After) still holds, and never to before the present.
2. A lease is shortened only where no clock of today can have given it, and never below the longest
   that there is: a worker may still hold it, and a withdrawal of consent counts on it.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from gateway.core.delivery import DeliveryState
from gateway.core.jobs import JobState
from gateway.store.tables import (
    audit_events,
    circuit_breakers,
    deliveries,
    jobs,
    retractions,
    witness_states,
)

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

#: No lease is longer, whatever the time limit of an EHR is.
LONGEST_LEASE_MS = 600_000


def newest_moment_ms(uow: "UnitOfWork") -> int | None:
    """Give the latest moment on record: when it is to come, the clock was ahead."""
    found: int | None = uow.connection.scalar(sa.select(sa.func.max(audit_events.c.recorded_ms)))
    return found


def bring_forward(uow: "UnitOfWork", by_ms: int) -> int:
    """Move everything that waits for a moment of the clock before it was set back.

    Args:
        uow: Write transaction.
        by_ms: By how much it was set back.

    Returns:
        How many rows were moved.
    """
    return sum(uow.connection.execute(each).rowcount for each in _moves(uow.now_ms, by_ms))


def _moves(now_ms: int, by_ms: int) -> Iterator[sa.Update]:
    yield _sooner(jobs.c.available_ms, now_ms, by_ms).where(jobs.c.state == JobState.READY)
    # What is in flight is due again at its old moment when its worker dies.
    yield _sooner(deliveries.c.next_attempt_ms, now_ms, by_ms).where(
        deliveries.c.state.in_((DeliveryState.PENDING, DeliveryState.IN_FLIGHT))
    )
    yield _sooner(retractions.c.next_attempt_ms, now_ms, by_ms).where(
        retractions.c.state == "pending"
    )
    yield _sooner(circuit_breakers.c.open_until_ms, now_ms, by_ms)
    yield _sooner(witness_states.c.next_attempt_ms, now_ms, by_ms)
    for table, held in ((jobs, JobState.IN_PROGRESS), (deliveries, DeliveryState.IN_FLIGHT)):
        yield _sooner(table.c.lease_until_ms, now_ms + LONGEST_LEASE_MS, by_ms).where(
            table.c.state == held
        )


def _sooner(column: sa.Column[Any], earliest_ms: int, by_ms: int) -> sa.Update:
    """Move what lies after a moment, but not to before it."""
    moved = sa.case((column - by_ms > earliest_ms, column - by_ms), else_=earliest_ms)
    return sa.update(column.table).where(column > earliest_ms).values({column.name: moved})
