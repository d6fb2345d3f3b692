"""The sign of life that a process of ours gives to its supervisor, see `gateway.pulse`.

A thread writes a byte into the pipe that the supervisor left open for us, every few seconds. A
process that is frozen gives none, nor one in which a native call keeps the interpreter to itself.
The API's come out of its event loop instead: they end when that stands still.
A call that lets the others run but never comes back is known by the work that it is part of:
`working` marks one piece, and no byte is written while one takes too long. The supervisor then
ends the process; what it held is free when its leases run out, or when its successor starts.

Without a supervisor (`NADI_HEARTBEAT_FD` is not set) nothing happens.
"""

import asyncio
import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from functools import lru_cache

from gateway import telemetry
from gateway.settings import get_settings

_LONGEST_PAUSE_S = 5.0
#: So many signs may be lost before anybody is worried.
_SIGNS_PER_BOUND = 4

log = telemetry.get_logger()


class Heartbeat:
    """Gives signs of life until one piece of work takes too long."""

    def __init__(
        self,
        descriptor: int | None,
        *,
        hung_after_s: float,
        stuck_after_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take where to write to.

        Args:
            descriptor: A pipe; None, or anything else, and nothing is written.
            hung_after_s: How long the supervisor bears silence.
            stuck_after_s: How long one piece of work may take.
            monotonic: A clock in seconds that never goes back.
        """
        self._descriptor = descriptor if _is_pipe(descriptor) else None
        self._pause_s = min(_LONGEST_PAUSE_S, hung_after_s / _SIGNS_PER_BOUND)
        self._stuck_after_s = stuck_after_s
        self._monotonic = monotonic
        self._began: dict[object, float] = {}

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Mark a piece of work, of whatever thread."""
        piece = object()
        self._began[piece] = self._monotonic()
        try:
            yield
        finally:
            del self._began[piece]

    def start(self) -> None:
        """Give signs from now on, until the process ends."""
        if self._descriptor is not None:
            threading.Thread(target=self._beat_on, name="heartbeat", daemon=True).start()

    async def keep_beating(self) -> None:
        """Give signs from within an event loop: one that stands still gives none."""
        while self.beat():  # noqa: ASYNC110 - nobody tells it anything: it is a metronome
            await asyncio.sleep(self._pause_s)

    def beat(self) -> bool:
        """Give one sign, unless something is stuck; say whether anybody may still listen."""
        if self._descriptor is None:
            return False
        if self.is_stuck:
            log.error("work-stuck")
            return True
        try:
            os.write(self._descriptor, b".")
        except BlockingIOError:
            return True  # nobody read for days; there are signs enough
        except OSError:
            return False
        return True

    @property
    def is_stuck(self) -> bool:
        """Whether a piece of work takes longer than it may."""
        oldest = min(tuple(self._began.values()), default=None)
        return oldest is not None and self._monotonic() - oldest > self._stuck_after_s

    def _beat_on(self) -> None:
        while self.beat():
            time.sleep(self._pause_s)


def _is_pipe(descriptor: int | None) -> bool:
    """Say whether it is a pipe: the number may have been inherited, and mean another file here."""
    if descriptor is None:
        return False
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return False


@lru_cache(maxsize=1)
def heartbeat() -> Heartbeat:
    """Give this process's own."""
    settings = get_settings()
    return Heartbeat(
        settings.heartbeat_fd,
        hung_after_s=settings.hung_after_s,
        stuck_after_s=settings.stuck_after_s,
    )
