"""Who follows a feed, where several hosts share a database: one at a time.

A feed that listens at a port of its own may run on every host; one that asks an EHR would ask twice
as often. So whoever takes turns holds a lease, which runs out when it dies; the others stand by.
"""

from collections.abc import Callable
from datetime import datetime

from gateway.core.clock import to_ms
from gateway.core.errors import TransientError
from gateway.store.unit_of_work import Store

_KEY = "lease"
LEASE_MS = 15_000
_RENEW_MS = 5_000


class Lease:
    """The right of one host to follow a feed."""

    def __init__(self, store: Store, feed: str, holder: str, now: Callable[[], datetime]) -> None:
        """Take whose it is.

        Args:
            store: The database that the hosts share.
            feed: Name of the feed.
            holder: Name of this host.
            now: Gives the present.
        """
        self._store = store
        self._feed = feed
        self._holder = holder
        self._now = now
        self._renew_at_ms = 0
        self.held_by = ""

    def holds(self) -> bool:
        """Say whether this host may take a turn; the lease is taken, or made longer, on the way."""
        now_ms = to_ms(self._now())
        if self.held_by == self._holder and now_ms < self._renew_at_ms:
            return True
        try:
            self._take(now_ms)
        except TransientError:
            self.held_by = ""  # without the database nothing can be done anyway
        return self.held_by == self._holder

    def give_up(self) -> None:
        """Let another host begin at once."""
        if self.held_by != self._holder:
            return
        with self._store.write() as uow:
            uow.listener_state.remove(self._feed, _KEY)
        self.held_by = ""

    def _take(self, now_ms: int) -> None:
        with self._store.write(is_durable=False) as uow:
            uow.lock_patients([f"{self._feed} {_KEY}"])
            kept = uow.listener_state.get(self._feed, _KEY) or {"holder": "", "until_ms": 0}
            is_free = kept["holder"] in ("", self._holder) or kept["until_ms"] <= now_ms
            if is_free:
                kept = {"holder": self._holder, "until_ms": now_ms + LEASE_MS}
                uow.listener_state.put(self._feed, {_KEY: kept})
        self.held_by = str(kept["holder"])
        self._renew_at_ms = now_ms + _RENEW_MS
