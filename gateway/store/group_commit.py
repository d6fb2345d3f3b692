"""Many requests, one commit: what waits together is made durable together.

One thread takes everything that is waiting (up to a limit), hands it to `process` as one batch,
and answers each waiter when the batch's transaction has been committed. While one batch commits,
the next one gathers, so that the number of fsyncs falls as the load rises, and an idle gateway
waits for nobody. Only right after a batch of several, when more are surely on their way, it waits
a moment for them.

If a batch fails, its items are tried one by one, so that one bad item can't sink its neighbours;
an item that another process was a moment ahead of is tried again a few times.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Generic, TypeVar

from gateway.core.errors import Busy, StoreConflict, StoreUnavailable

Item = TypeVar("Item")
Answer = TypeVar("Answer")

#: How often one item is tried while other processes are ahead of it.
MOST_TRIES = 5

#: How long a busy committer waits for more to come, in seconds: a fraction of one commit.
GATHER_S = 0.002


class GroupCommit(Generic[Item, Answer]):
    """A single committing thread in front of the database."""

    def __init__(
        self,
        process: Callable[[Sequence[Item]], Sequence[Answer]],
        *,
        limit: int,
        max_waiting: int,
        weigh: Callable[[Item], int] = lambda _item: 1,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Start the thread.

        Args:
            process: Does a whole batch in one transaction and returns one answer per item, in
                order, after the commit. It raises when nothing was committed.
            limit: Most weight in one batch.
            max_waiting: Most weight that may wait before `submit` refuses.
            weigh: What an item counts for: a Bundle as much as its entries.
            pause: Waits for some seconds.
        """
        self._process = process
        self._limit = limit
        self._max_waiting = max_waiting
        self._weigh = weigh
        self._pause = pause
        self._queue: SimpleQueue[tuple[Item, Future[Answer]] | None] = SimpleQueue()
        self._waiting = 0
        self._is_open = True
        self._is_busy = False
        self._lock = Lock()
        self._thread = Thread(target=self._run, name="group-commit", daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> "Future[Answer]":
        """Queue an item; the future is done when it is durable or refused.

        Raises:
            Busy: Too much is waiting already, or this process is stopping; nothing was accepted.
        """
        future: Future[Answer] = Future()
        with self._lock:
            if not self._is_open:
                raise Busy("This process is stopping.", retry_after_s=1)
            if self._waiting >= self._max_waiting:
                raise Busy("Too many events are waiting to be stored.", retry_after_s=1)
            self._waiting += self._weigh(item)
            # Within the lock: whatever is accepted stands in the queue before the end mark.
            self._queue.put((item, future))
        return future

    def close(self) -> None:
        """Commit what is waiting, then stop."""
        with self._lock:
            self._is_open = False
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = self._gather()
            self._is_busy = len(batch) > 1
            # A waiter that has gone away is dropped here; from here on none can leave any more.
            wanted = [pair for pair in batch if pair[1].set_running_or_notify_cancel()]
            self._release([pair for pair in batch if pair[1].cancelled()])
            if wanted:
                self._commit(wanted)

    def _gather(self) -> tuple[list[tuple[Item, "Future[Answer]"]], bool]:
        first = self._queue.get()
        if first is None:
            return [], False
        if self._is_busy:
            self._pause(GATHER_S)
        batch, weight = [first], self._weigh(first[0])
        while weight < self._limit:
            try:
                another = self._queue.get_nowait()
            except Empty:
                break
            if another is None:
                return batch, False
            batch.append(another)
            weight += self._weigh(another[0])
        return batch, True

    def _commit(self, batch: Sequence[tuple[Item, "Future[Answer]"]], *, tries: int = 1) -> None:
        try:
            answers = self._process([item for item, _ in batch])
        except StoreUnavailable as error:
            self._fail(batch, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, every waiter is answered
            if len(batch) > 1:
                for single in batch:
                    self._commit([single])
            elif isinstance(error, StoreConflict) and tries < MOST_TRIES:
                self._commit(batch, tries=tries + 1)
            else:
                self._fail(batch, error)
        else:
            self._release(batch)
            for (_, future), answer in zip(batch, answers, strict=True):
                future.set_result(answer)

    def _fail(self, batch: Sequence[tuple[Item, "Future[Answer]"]], error: Exception) -> None:
        self._release(batch)
        for _, future in batch:
            future.set_exception(error)

    def _release(self, batch: Sequence[tuple[Item, "Future[Answer]"]]) -> None:
        with self._lock:
            self._waiting -= sum(self._weigh(item) for item, _ in batch)
