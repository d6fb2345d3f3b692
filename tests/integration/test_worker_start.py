"""A worker that starts frees what a predecessor of its name held when it died."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.core.clock import new_id
from gateway.core.delivery import DeliveryState, NewDelivery
from gateway.core.jobs import BusinessStatus, EventId, JobState, NewJob
from gateway.store.audit_log import AuditFilter
from gateway.store.engine import migrate
from gateway.store.keys import load_or_create
from gateway.store.sealing import Sealer
from gateway.store.unit_of_work import Store

pytestmark = pytest.mark.integration

START = """
import sys
from gateway.queue import celery
from workers import app
celery.amqp.queues.select([sys.argv[1]])
app._prepare()
app._close()
print("onnxruntime" in sys.modules)
"""
HOUR_MS = 3_600_000


def start(folder: Path, queue: str) -> str:
    """Go through a worker's start in a process of its own."""
    environment = {
        **os.environ,
        "NADI_DATA_DIR": str(folder),
        "NADI_WORKER_NAME": "worker@here",
    }
    done = subprocess.run(
        [sys.executable, "-c", START, queue],
        env=environment,
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def new_job(number: int) -> NewJob:
    return NewJob(
        event_id=EventId(f"event-{number}"),
        route="ckd-risk",
        model="ckd-risk@1",
        model_digest="d" * 64,
        patient_key="p" * 64,
        state=JobState.READY,
        business_status=BusinessStatus.QUEUED,
    )


def test_a_worker_frees_its_own_leases_of_its_own_queue_only(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nadi.db'}"
    migrate(url)
    store = Store(url, Sealer(load_or_create(tmp_path).master))
    mine, other = new_job(1), new_job(2)
    sent = NewDelivery(
        job_id=mine.id, system="ehr", patient_key="p" * 64, identifier=new_id(), body=b"[]"
    )
    with store.write() as uow:
        uow.jobs.add([mine, other])
        uow.deliveries.add([sent])
    with store.write() as uow:
        uow.jobs.claim([mine.id], "worker@here", lease_ms=HOUR_MS)
        uow.jobs.claim([other.id], "worker@there", lease_ms=HOUR_MS)
        uow.deliveries.claim([sent.id], "worker@here", lease_ms=HOUR_MS)

    loaded = start(tmp_path, "deliver")

    assert loaded == "False", "a worker that only delivers does not load the inference runtime"
    with store.read() as uow:
        assert uow.deliveries.of_jobs([mine.id])[mine.id].state is DeliveryState.PENDING
        states = {job.id: job.state for job in uow.jobs.get_many([mine.id, other.id]).values()}
        assert set(states.values()) == {JobState.IN_PROGRESS}
    assert start(tmp_path, "infer") == "True"
    with store.read() as uow:
        states = {job.id: job.state for job in uow.jobs.get_many([mine.id, other.id]).values()}
        assert states == {mine.id: JobState.READY, other.id: JobState.IN_PROGRESS}
        assert len(uow.audit_log.search(AuditFilter(event="rescue"))) == 1
    store.close()
