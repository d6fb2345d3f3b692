"""Celery tasks: ids in, story called, batch reported finished.

A message may come twice, late or never: the claim decides who gets a job. So nothing is retried
here and no result is kept.
"""

from collections.abc import Callable, Sequence
from typing import Any

from gateway import telemetry
from gateway.core.errors import TransientError
from gateway.heartbeat import heartbeat
from gateway.queue import DELIVER_TASK, INFER_TASK, bell, celery
from workers import delivery
from workers.ports import Ports

log = telemetry.get_logger()


def register(ports: Callable[[], Ports]) -> None:
    """Give Celery the two tasks; `ports` is asked when a task runs."""

    def infer(task: Any, job_ids: Sequence[str]) -> None:  # noqa: ANN401 - Celery has no types
        # Imported when wanted: a worker that only delivers does without numpy and what needs it.
        from workers import inference  # noqa: PLC0415

        _run(lambda: inference.infer(job_ids, ports()), task.request.id, ports().owner)

    def deliver(task: Any, delivery_ids: Sequence[str]) -> None:  # noqa: ANN401
        _run(lambda: delivery.deliver(delivery_ids, ports()), task.request.id, ports().owner)

    celery.task(infer, name=INFER_TASK, bind=True, ignore_result=True)
    celery.task(deliver, name=DELIVER_TASK, bind=True, ignore_result=True)


def _run(story: Callable[[], int], batch_id: str, worker: str) -> None:
    try:
        with heartbeat().working():
            story()
    except TransientError as error:  # leases run out, the relay rings again
        log.warning("batch-given-up", batch_id=batch_id, error=type(error).__name__)
    except Exception:  # an edge: a message must not end the worker, and its text may quote
        log.exception("batch-failed", batch_id=batch_id)
    finally:
        bell().done(batch_id, worker)
