"""Celery with its defaults, one task per event: prefork, two processes."""

import os
from collections.abc import Sequence

from celery import Celery

from benchmarks.queues.job import run

app = Celery("default", broker=os.environ["BENCH_BROKER"])


@app.task  # type: ignore[untyped-decorator]  # Celery has no types
def infer(job_id: str) -> None:
    """Do one job."""
    run(job_id)


def send(job_ids: Sequence[str]) -> None:
    """Send a task per job."""
    for job_id in job_ids:
        infer.delay(job_id)
