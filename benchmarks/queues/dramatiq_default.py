"""Dramatiq with its defaults, in an environment of its own: one message per event."""

import os
from collections.abc import Sequence

import dramatiq  # type: ignore[import-not-found]  # of another environment
from dramatiq.brokers.redis import RedisBroker  # type: ignore[import-not-found]

from benchmarks.queues.job import run

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_BROKER"]))


@dramatiq.actor  # type: ignore[untyped-decorator]  # it has no types here
def infer(job_id: str) -> None:
    """Do one job."""
    run(job_id)


def send(job_ids: Sequence[str]) -> None:
    """Send a message per job."""
    for job_id in job_ids:
        infer.send(job_id)
