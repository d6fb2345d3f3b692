"""Refusals of a port on record, so that a flood of them can't fill the audit log.

* The first refusal is told within a turn; what follows is gathered, and told as one AuditEvent for
  each kind: from whom, why, how many, from when to when.
* Between two tellings passes a minute at first; while refusals go on that doubles, up to an hour.
  After such a pause without any it begins anew.
* `MOST_KINDS` kinds at most are told apart in one telling, all others without their senders. So a
  day of flood is some hundred entries, whoever sends.
* What can't be recorded now is told with the next.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from gateway import telemetry
from gateway.core.audit import Step
from gateway.core.audit_refusals import UNKNOWN, Refusals, refused
from gateway.core.clock import new_id, to_ms, utc_now
from gateway.core.errors import GatewayError
from gateway.listeners.desk import Desk

log = telemetry.get_logger()

FIRST_PAUSE_S, LONGEST_PAUSE_S = 60.0, 3600.0
MOST_KINDS = 20
_TURN_EVERY_S = 0.5
_NEVER = float("-inf")


@dataclass(frozen=True)
class _Counted:
    """How often, and from when to when (ms)."""

    count: int
    first_ms: int
    last_ms: int

    def and_then(self, later: "_Counted") -> "_Counted":
        """Give both together."""
        first_ms, last_ms = min(self.first_ms, later.first_ms), max(self.last_ms, later.last_ms)
        return _Counted(self.count + later.count, first_ms, last_ms)


class RefusalBook:
    """The refusals of one feed; threads may share it."""

    def __init__(self, desk: Desk, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._desk = desk
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._waiting: dict[Refusals, _Counted] = {}
        self._pause_s = FIRST_PAUSE_S
        self._told_at = _NEVER

    def note(self, refusal: Refusals) -> None:
        """Note a refusal, if it is of those that are told; it is on record with a later `tell`."""
        if not refusal.is_told:
            return
        now_ms = to_ms(utc_now())
        with self._lock:
            self._add(refusal, _Counted(1, now_ms, now_ms))

    def tell(self, *, is_last: bool = False) -> int:
        """Put on record what waits, when it is time; give how many entries that were.

        Args:
            is_last: Whether the port closes, so that nothing may wait any longer.
        """
        now = self._monotonic()
        if now - self._told_at < self._pause_s and not is_last:
            return 0
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        if not waiting:
            self._told_at, self._pause_s = _NEVER, FIRST_PAUSE_S
            return 0
        try:
            self._record(waiting)
        except GatewayError:  # the database is away: with the next
            log.warning("refusals-wait", route=self._desk.feed.name)
            with self._lock:
                for refusal, counted in waiting.items():
                    self._add(refusal, counted)
            return 0
        if self._told_at != _NEVER:
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._told_at = now
        return len(waiting)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Put on record what is noted meanwhile, for a listener that has no turns of its own."""
        over = threading.Event()
        telling = threading.Thread(target=self._keep, args=(over,), name="refusals", daemon=True)
        telling.start()
        try:
            yield
        finally:
            over.set()
            telling.join()
            self.tell(is_last=True)

    def _keep(self, over: threading.Event) -> None:
        while not over.wait(_TURN_EVERY_S):
            self.tell()

    def _add(self, refusal: Refusals, counted: _Counted) -> None:
        if refusal not in self._waiting and len(self._waiting) >= MOST_KINDS:
            refusal = replace(refusal, title=UNKNOWN, address=None)
        known = self._waiting.get(refusal)
        self._waiting[refusal] = known.and_then(counted) if known else counted

    def _record(self, waiting: dict[Refusals, _Counted]) -> None:
        desk = self._desk
        with desk.store.write() as uow:
            uow.audit(
                *(
                    refused(
                        Step(id=new_id(), recorded=uow.now, source=desk.source),
                        refusal,
                        feed=desk.feed.name,
                        count=counted.count,
                        within_ms=(counted.first_ms, counted.last_ms),
                    )
                    for refusal, counted in waiting.items()
                )
            )
