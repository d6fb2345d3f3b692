"""Many rows at once, for tests of what a backlog costs."""

from typing import Any

import sqlalchemy as sa

from gateway.core.clock import new_id
from gateway.core.delivery import DeliveryState
from gateway.core.jobs import BusinessStatus, JobState
from gateway.core.lanes import Lane
from gateway.store.tables import deliveries, jobs
from gateway.store.unit_of_work import UnitOfWork

DIGEST = "d" * 64


def fill_jobs(uow: UnitOfWork, count: int, *, route: str, lane: Lane, **more: Any) -> list[str]:
    """Add ready jobs of no event, one a millisecond and the last of them now; give their ids."""
    ids = [new_id() for _ in range(count)]
    rows = [
        {
            "id": job_id,
            "event_id": f"event-{job_id}"[:36],
            "route": route,
            "model": "toy@1",
            "model_digest": DIGEST,
            "state": JobState.READY,
            "business_status": BusinessStatus.QUEUED,
            "available_ms": uow.now_ms - count + number,
            "lane": lane,
            "created_ms": uow.now_ms,
            "updated_ms": uow.now_ms,
            **more,
        }
        for number, job_id in enumerate(ids)
    ]
    uow.connection.execute(sa.insert(jobs), rows)
    return ids


def fill_deliveries(uow: UnitOfWork, count: int, *, line: str, lane: Lane) -> list[str]:
    """Add due deliveries of no job, one a millisecond and the last of them now; give their ids."""
    ids = [new_id() for _ in range(count)]
    rows = [
        {
            "id": delivery_id,
            "job_id": delivery_id,
            "system": line.partition("/")[0],
            "line": line,
            "lane": lane,
            "patient_key": "p",
            "identifier": delivery_id,
            "body": b"",
            "state": DeliveryState.PENDING,
            "next_attempt_ms": uow.now_ms - count + number,
            "created_ms": uow.now_ms,
        }
        for number, delivery_id in enumerate(ids)
    ]
    uow.connection.execute(sa.insert(deliveries), rows)
    return ids
