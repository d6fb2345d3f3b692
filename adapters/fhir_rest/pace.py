"""How fast an EHR is asked: requests leave evenly spaced, whatever process or thread sends them.

The line before an EHR is kept where all processes see it (`gateway.store.pacing`). A process takes
places in it, one at first and more while it uses them up, so that a cap costs few writes; its
threads leave at these moments.

A place may be used a little late, by a thread that overslept; one that is older is left alone. So a
process that was frozen lets nothing out at once that it had saved up, and in any span of time no
more requests leave than its length and that little allow, and one.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

#: When the first place is, by the monotonic clock, and the seconds from one to the next.
Places = tuple[float, float]
#: Takes the next so many places in the line.
Take = Callable[[int], Places]

#: No process takes places for longer ahead, in seconds: the others would stand behind it.
_MOST_AHEAD_S = 0.5
#: How late a place may be used, in seconds, where the next one is no further away.
LATE_S = 0.25


class Pace:
    """Lets the requests of one process leave; safe to share among threads."""

    def __init__(
        self,
        take: Take,
        per_second: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Begin; nothing is taken yet.

        Args:
            take: Takes places in the line that all processes share.
            per_second: The cap.
            monotonic: The clock of the places.
            sleep: Waits so many seconds.
        """
        self._take = take
        self._late_s = max(LATE_S, 1 / per_second)
        self._most = max(1, int(per_second * _MOST_AHEAD_S))
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = threading.Lock()
        self._places: deque[float] = deque()
        self._count = 1

    def __call__(self) -> None:
        """Wait until the next request may leave; who came first leaves first.

        Raises:
            RateTaken: The line is too long to wait.
            StoreUnavailable: Nobody can say how long it is.
        """
        while True:
            place_s = self._next()
            early_s = place_s - self._monotonic()
            if early_s > 0:
                self._sleep(early_s)
            if not self._is_late(place_s):
                return

    def _next(self) -> float:
        with self._lock:
            while self._places and self._is_late(self._places[0]):
                self._places.popleft()
                self._count = 1  # more was taken than used
            if not self._places:
                first_s, apart_s = self._take(self._count)
                self._places.extend(first_s + n * apart_s for n in range(self._count))
                self._count = min(2 * self._count, self._most)
            return self._places.popleft()

    def _is_late(self, place_s: float) -> bool:
        return self._monotonic() - place_s > self._late_s
