"""Peers that a port refuses: a line in the log for each, a count, and what is kept for people.

* In a minute a peer gets one line for each reason, and all peers get `LINES_A_MINUTE` together, so
  that who tries every port can't fill the log. One more line says how many had none.
* What is kept is told to the database by who calls `tell`; what can't be told now is with the next.
"""

import threading
import time
from collections.abc import Callable

from adapters.peer_refusal import PeerRefusal
from gateway import telemetry
from gateway.core.clock import to_ms, utc_now
from gateway.core.errors import GatewayError
from gateway.refused_peers import MOST_KEPT, RefusedPeer, keep_refused
from gateway.store.unit_of_work import Store

log = telemetry.get_logger()

LINES_A_MINUTE = 20
_MINUTE_S = 60.0

_Kind = tuple[str, PeerRefusal]


class PeerRefusals:
    """Those of one feed; threads may share it, and noting one does not wait for anything."""

    def __init__(
        self,
        store: Store,
        feed: str,
        host: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without any.

        Args:
            store: Keeps them.
            feed: Its name.
            host: Name of this machine.
            monotonic: Tells the time that passes.
        """
        self._store = store
        self._feed = feed
        self._host = host
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._waiting: dict[_Kind, RefusedPeer] = {}
        self._told: set[_Kind] = set()
        self._minute_from = monotonic()
        self._untold = 0

    def note(self, why: PeerRefusal, peer: str) -> None:
        """Note that a peer was refused.

        Args:
            why: The reason.
            peer: Its network address.
        """
        telemetry.count_refused_peer(self._feed, why)
        if not why.is_told:
            return
        with self._lock:
            now_ms = to_ms(utc_now())
            self._add(RefusedPeer(self._feed, peer, why, 1, now_ms, now_ms))
            untold, has_line = self._end_minute(), self._has_line((peer, why))
        self._say_untold(untold)
        if has_line:
            says = f"it {why.says}"
            log.warning(
                "peer-refused", route=self._feed, peer=peer, reason_code=why.value, reason=says
            )

    def tell(self) -> None:
        """Tell the database of those that were noted since, and the log of those without a line."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            untold = self._end_minute()
        self._say_untold(untold)
        if not waiting:
            return
        try:
            with self._store.write(is_durable=False) as uow:
                keep_refused(uow, self._feed, self._host, waiting.values())
        except GatewayError:
            log.warning("database-away", route=self._feed)
            with self._lock:
                since, self._waiting = self._waiting, waiting
                for each in since.values():
                    self._add(each)

    def _add(self, refused: RefusedPeer) -> None:
        kind = (refused.peer, refused.why)
        known = self._waiting.pop(kind, None)
        self._waiting[kind] = known.and_then(refused) if known else refused
        if len(self._waiting) > MOST_KEPT:  # the one of which nothing was heard for longest
            del self._waiting[next(iter(self._waiting))]

    def _has_line(self, kind: _Kind) -> bool:
        if kind in self._told or len(self._told) >= LINES_A_MINUTE:
            self._untold += 1
            return False
        self._told.add(kind)
        return True

    def _end_minute(self) -> int:
        """Begin another minute where one is over; give how many refusals had no line in it."""
        now = self._monotonic()
        if now - self._minute_from < _MINUTE_S:
            return 0
        untold, self._untold = self._untold, 0
        self._minute_from, self._told = now, set()
        return untold

    def _say_untold(self, count: int) -> None:
        if count:
            log.warning("more-peers-refused", route=self._feed, count=count)
