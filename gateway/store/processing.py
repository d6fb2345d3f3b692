"""What was processed, in numbers, for the record of processing."""

from typing import TYPE_CHECKING

import sqlalchemy as sa

from gateway.core.canary import CANARY
from gateway.store.tables import jobs

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


def patients_since(uow: "UnitOfWork", since_ms: int) -> int:
    """Count the patients of whom a job was made since a moment; the canary is none."""
    query = sa.select(sa.func.count(jobs.c.patient_key.distinct())).where(
        jobs.c.created_ms >= since_ms, jobs.c.route.not_like(f"%{CANARY}%")
    )
    return uow.connection.execute(query).scalar_one()
