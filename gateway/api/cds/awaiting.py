"""Wait for results of jobs with a deadline: one look at the database for all that wait.

Nobody tells this process when a worker has finished, and the database is the truth: while anybody
waits it is looked at every few milliseconds, once for all of them.
"""

import asyncio
import time
from collections.abc import Collection

from starlette.concurrency import run_in_threadpool

from gateway.core.errors import TransientError
from gateway.core.jobs import BusinessStatus
from gateway.core.task import JobLine
from gateway.store.unit_of_work import Store

_LOOK_EVERY_S = 0.01
#: Where many wait: what they wait for is made in batches, and to look costs what the work needs.
_LOOK_RARELY_S, _MANY = 0.025, 3
#: A job that stands so is still to be run.
_UNDERWAY = frozenset({BusinessStatus.QUEUED, BusinessStatus.RUNNING})


def is_underway(job: JobLine) -> bool:
    """Say whether there is something to wait for."""
    return job.business_status in _UNDERWAY


class ResultWatch:
    """Waits for jobs; used by one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def wait(self, job_ids: Collection[str], until_s: float) -> bool:
        """Wait until there is nothing more to wait for of these jobs, or it is too late.

        Args:
            job_ids: The jobs.
            until_s: When it is too late, by `time.monotonic`.

        Returns:
            Whether it was not too late for any.
        """
        return all(await asyncio.gather(*(self._one(each, until_s) for each in job_ids)))

    async def _one(self, job_id: str, until_s: float) -> bool:
        settled = asyncio.Event()
        self._waiters.setdefault(job_id, set()).add(settled)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            await asyncio.wait_for(settled.wait(), max(0.0, until_s - time.monotonic()))
        except TimeoutError:
            return False
        finally:
            self._leave(job_id, settled)
        return True

    def _leave(self, job_id: str, settled: asyncio.Event) -> None:
        waiting = self._waiters.get(job_id, set())
        waiting.discard(settled)
        if not waiting:
            self._waiters.pop(job_id, None)

    async def _look(self) -> None:
        while self._waiters:
            for job_id in await run_in_threadpool(self._settled, list(self._waiters)):
                for each in self._waiters.get(job_id, ()):
                    each.set()
            are_many = len(self._waiters) >= _MANY
            await asyncio.sleep(_LOOK_RARELY_S if are_many else _LOOK_EVERY_S)

    def _settled(self, job_ids: list[str]) -> list[str]:
        try:
            with self._store.read() as uow:
                return uow.jobs.beyond(_UNDERWAY, job_ids)
        except TransientError:  # whoever waits is answered at the deadline
            return []
