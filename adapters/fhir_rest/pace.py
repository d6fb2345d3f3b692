"""How fast an EHR is asked: requests leave evenly spaced, however many threads want to send.

A token bucket that holds one token. A larger one would let a second's worth out at once, which is
what a small EHR can't take; so in any span of time no more leave than its length allows, and one.

Source: the generic cell rate algorithm, ITU-T I.371, with no tolerance.
"""

import threading
import time
from collections.abc import Callable


class Pace:
    """Lets requests leave, `per_second` of them; safe to share among threads."""

    def __init__(
        self,
        per_second: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._apart_s = 1 / per_second
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next_s = float("-inf")

    def __call__(self) -> None:
        """Wait until the next request may leave; who came first leaves first."""
        with self._lock:
            now_s = self._monotonic()
            leaves_s = max(self._next_s, now_s)
            self._next_s = leaves_s + self._apart_s
        if leaves_s > now_s:
            self._sleep(leaves_s - now_s)
