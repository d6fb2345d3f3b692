"""Celery tuned, one task per event: threads, a deep prefetch, no results, no chatter."""

import os
from collections.abc import Sequence

from celery import Celery

from benchmarks.queues.job import run

app = Celery("tuned", broker=os.environ["BENCH_BROKER"])
app.conf.update(
    task_ignore_result=True,
    task_publish_retry=False,
    task_default_delivery_mode="transient",
    worker_prefetch_multiplier=64,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    worker_detect_quorum_queues=False,
    # Only late acknowledgement is concerned, which is off; said to spare a warning.
    worker_cancel_long_running_tasks_on_connection_loss=True,
)


@app.task(ignore_result=True)  # type: ignore[untyped-decorator]  # Celery has no types
def infer(job_id: str) -> None:
    """Do one job."""
    run(job_id)


def send(job_ids: Sequence[str]) -> None:
    """Send a task per job over one producer that is held."""
    with app.producer_pool.acquire(block=True) as producer:
        for job_id in job_ids:
            infer.apply_async((job_id,), producer=producer, argsrepr="", kwargsrepr="")
