"""Free the jobs of workers that died: what the relay and a restarted worker have in common."""

from collections.abc import Sequence

from gateway.core import audit
from gateway.core.audit import Source, Step
from gateway.core.clock import new_id
from gateway.core.jobs import Advance, JobState
from gateway.store.unit_of_work import UnitOfWork


def put_back(uow: UnitOfWork, changes: Sequence[Advance], source: Source) -> None:
    """Free jobs whose worker is gone, with their AuditEvents."""
    uow.jobs.advance(changes)
    uow.audit(
        *(
            audit.job_changed(
                Step(
                    id=new_id(),
                    recorded=uow.now,
                    source=source,
                    patient_key=change.job.patient_key,
                    job_id=change.job.id,
                    event_id=change.job.event_id,
                    reason=change.reason,
                ),
                "fail" if change.state is JobState.FAILED else "rescue",
                state=change.state,
                business_status=change.business_status,
            )
            for change in changes
        )
    )
