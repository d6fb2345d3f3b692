"""Nadi's queue: one task holds up to 64 ids, sent over a connection that is held open."""

from collections.abc import Sequence

from benchmarks.queues.job import run
from gateway.queue import INFER_TASK, celery, ring_infer
from gateway.settings import get_settings

app = celery


@celery.task(name=INFER_TASK, ignore_result=True)  # type: ignore[untyped-decorator]  # no types
def infer(job_ids: Sequence[str]) -> None:
    """Do the jobs of one batch."""
    for job_id in job_ids:
        run(job_id)


def send(job_ids: Sequence[str]) -> None:
    """Ring for jobs as the relay does under load: in batches."""
    size = get_settings().batch_size
    for start in range(0, len(job_ids), size):
        ring_infer(job_ids[start : start + size])
