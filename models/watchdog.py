"""Does something at a deadline unless what it watches has ended by then.

One thread watches for the whole process. It is woken only when a deadline comes before the moment
it will look next: runs of a few microseconds are watched at hardly any cost.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Watched:
    """Something with a deadline.

    Attributes:
        deadline: On the monotonic clock, in seconds.
        stop: What is done when it comes; must not block.
        is_late: Whether it came.
    """

    deadline: float
    stop: Callable[[], None]
    is_late: bool = False


class Watchdog:
    """Keeps deadlines; threads may share it, processes must not."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._by_id: dict[int, Watched] = {}
        self._looks_at = float("inf")
        self._thread: threading.Thread | None = None

    @contextmanager
    def watch(self, timeout_s: float, stop: Callable[[], None]) -> Iterator[Watched]:
        """Call `stop` if the block takes longer; what is given says afterwards whether it did."""
        watched = Watched(time.monotonic() + timeout_s, stop)
        self._add(watched)
        try:
            yield watched
        finally:
            with self._changed:
                self._by_id.pop(id(watched), None)

    def _add(self, watched: Watched) -> None:
        with self._changed:
            self._by_id[id(watched)] = watched
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                self._thread.start()
            if watched.deadline < self._looks_at:
                self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while True:
                for watched in self._late(time.monotonic()):
                    del self._by_id[id(watched)]
                    watched.is_late = True
                    watched.stop()
                deadlines = (each.deadline for each in self._by_id.values())
                self._looks_at = min(deadlines, default=float("inf"))
                idle = self._looks_at == float("inf")
                self._changed.wait(None if idle else self._looks_at - time.monotonic())

    def _late(self, now: float) -> list[Watched]:
        """What is past its deadline, the earliest first."""
        late = [each for each in self._by_id.values() if each.deadline <= now]
        return sorted(late, key=lambda each: each.deadline)


WATCHDOG = Watchdog()
"""The one of this process."""
