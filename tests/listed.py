"""A result that no EHR takes, as a worker leaves it: on the worklist."""

from dataclasses import replace

import sqlalchemy as sa

from gateway.core import audit
from gateway.core.audit import Source, Step
from gateway.core.clock import new_id
from gateway.core.delivery import DeliveryState, NewDelivery
from gateway.core.findings import Report
from gateway.core.jobs import Advance, BusinessStatus, JobId, JobState
from gateway.core.ladder import Rung
from gateway.store.deliveries import Settlement
from gateway.store.unit_of_work import Store
from tests.conftest import Api
from tests.factories import creatinine, raw


def with_result(api: Api, number: int, report: Report) -> JobId:
    """Push an event and put the result of its job on its way."""
    assert api.post(raw(creatinine(number))).status_code == 202
    with api.store.write() as uow:
        row = uow.connection.execute(
            sa.text("select id, patient_key from jobs order by created_ms desc, id desc limit 1")
        ).one()
        uow.deliveries.add(
            [
                NewDelivery(
                    job_id=row.id,
                    system="ehr",
                    patient_key=row.patient_key,
                    identifier=report.identifier,
                    body=report.to_json(),
                )
            ]
        )
    return JobId(row.id)


def keep_here(store: Store, job_id: JobId) -> None:
    """Put the result of a job, which waits for its delivery, onto the worklist."""
    with store.write() as uow:
        job, delivery = uow.jobs.get(job_id), uow.deliveries.of_jobs([job_id])[job_id]
        assert job is not None
        running = replace(job, state=JobState.IN_PROGRESS)
        status = BusinessStatus.ON_WORKLIST
        uow.jobs.advance(
            [
                Advance(job=job, state=running.state, business_status=BusinessStatus.RUNNING),
                Advance(job=running, state=JobState.COMPLETED, business_status=status),
            ]
        )
        uow.deliveries.settle(
            [
                Settlement(
                    delivery=delivery,
                    state=DeliveryState.DELIVERED,
                    delivered_ms=uow.now_ms,
                    rung=Rung.WORKLIST,
                )
            ]
        )
        step = Step(
            id=new_id(),
            recorded=uow.now,
            source=Source("site", "worker"),
            patient_key=job.patient_key,
            job_id=job.id,
            event_id=job.event_id,
        )
        uow.audit(
            audit.job_changed(step, "complete", state=JobState.COMPLETED, business_status=status)
        )
