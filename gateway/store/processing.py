"""What was processed, in numbers, for the record of processing."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from gateway.core.canary import CANARY
from gateway.store.break_glass import ReviewVerdict
from gateway.store.tables import break_glass_uses, jobs

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork


def jobs_by_route(uow: "UnitOfWork", since_ms: int) -> dict[str, dict[str, int]]:
    """Count the jobs made since a moment by route and state."""
    query = (
        sa.select(jobs.c.route, jobs.c.state, sa.func.count())
        .where(jobs.c.created_ms >= since_ms)
        .group_by(jobs.c.route, jobs.c.state)
    )
    found: dict[str, dict[str, int]] = {}
    for route, state, count in uow.connection.execute(query):
        found.setdefault(route, {})[state] = count
    return found


@dataclass(frozen=True)
class Reviews:
    """Uses of break-glass since a moment, and what became of their reviews."""

    uses: int
    not_justified: int
    waiting: int
    overdue: int


def reviews_since(uow: "UnitOfWork", since_ms: int) -> Reviews:
    """Count the uses of break-glass since a moment by what became of their reviews."""
    columns = break_glass_uses.c
    is_open = columns.reviewed_ms.is_(None)
    counted = [
        sa.func.count(),
        *(
            sa.func.coalesce(sa.func.sum(sa.case((which, 1), else_=0)), 0)
            for which in (
                columns.verdict == ReviewVerdict.NOT_JUSTIFIED.value,
                is_open,
                is_open & (columns.due_ms < uow.now_ms),
            )
        ),
    ]
    query = sa.select(*counted).where(columns.used_ms >= since_ms)
    return Reviews(*uow.connection.execute(query).one())


def patients_since(uow: "UnitOfWork", since_ms: int) -> int:
    """Count the patients of whom a job was made since a moment; the canary is none."""
    query = sa.select(sa.func.count(jobs.c.patient_key.distinct())).where(
        jobs.c.created_ms >= since_ms, jobs.c.route.not_like(f"%{CANARY}%")
    )
    return uow.connection.execute(query).scalar_one()
