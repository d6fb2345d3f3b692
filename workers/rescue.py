"""Free the jobs of workers that died: what the relay and a restarted worker have in common."""

from collections.abc import Sequence

from gateway.core import audit
from gateway.core.audit import Source, job_step
from gateway.core.jobs import Advance, JobState
from gateway.store.unit_of_work import UnitOfWork


def put_back(uow: UnitOfWork, changes: Sequence[Advance], source: Source) -> None:
    """Free jobs whose worker is gone, with their AuditEvents."""
    uow.jobs.advance(changes)
    uow.audit(
        *(
            audit.job_changed(
                job_step(change.job, uow.now, source, reason=change.reason),
                "fail" if change.state is JobState.FAILED else "rescue",
                state=change.state,
                business_status=change.business_status,
            )
            for change in changes
        )
    )
