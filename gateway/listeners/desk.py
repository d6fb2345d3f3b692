"""What a listener works with: its feed, the door, what it remembers, and how it tells how it is."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from adapters.site import Site
from adapters.site_feeds import Feed
from gateway import telemetry
from gateway.core.audit import Source
from gateway.core.clock import to_ms, utc_now
from gateway.core.errors import TransientError
from gateway.feed_standing import Standing, State, forget, say
from gateway.listeners.door import Door, Taken
from gateway.listeners.peer_refusals import PeerRefusals
from gateway.store.unit_of_work import Store

log = telemetry.get_logger()


class Listener(Protocol):
    """Serves one feed."""

    def run(self, stop: threading.Event) -> None:
        """Serve until told to stop.

        Raises:
            GatewayError: It can't; it is tried again after a while.
        """


@dataclass(frozen=True, kw_only=True)
class Desk:
    """The desk of one feed. Threads of its listener may share it.

    Attributes:
        feed: What it serves.
        site: Gives the site in force.
        store: The database, for what it remembers and for AuditEvents of what it does itself.
        source: Who writes these AuditEvents.
        host: Name of this machine.
    """

    feed: Feed
    site: Callable[[], Site]
    store: Store
    source: Source
    host: str
    door: Door
    standing: "Telling"
    peers: PeerRefusals

    def hand_over(
        self, bundle: bytes, stop: threading.Event, *, sender: str = ""
    ) -> tuple[Taken, ...]:
        """Hand over a Bundle; see `Door.hand_over`.

        Raises:
            NotTaken: The gateway refuses all of it.
            Interrupted: It was not taken before `stop` was set.
        """
        return self.door.hand_over(bundle, stop, sender=sender)

    def remembered(self, *keys: str) -> dict[str, Any]:
        """Give what it remembers under these keys, as far as there is something.

        Raises:
            StoreUnavailable: The database is away.
        """
        with self.store.read() as uow:
            return uow.listener_state.get_many(self.feed.name, keys)

    def remember(self, values: Mapping[str, Any], *, is_durable: bool = True) -> None:
        """Remember values over a restart.

        Args:
            values: JSON by key; nothing of a patient.
            is_durable: Whether they have to be on disk when this is done.

        Raises:
            StoreUnavailable: The database is away.
        """
        with self.store.write(is_durable=is_durable) as uow:
            uow.listener_state.put(self.feed.name, values)

    def count(self, outcome: str, count: int = 1) -> None:
        """Count what came: outcome `taken`, `repeat`, or why it was refused."""
        telemetry.count_listened(self.feed.name, outcome, count)
        self.standing.took()


class Telling:
    """Keeps, and tells the database, how a feed stands."""

    def __init__(self, store: Store, feed: str, host: str) -> None:
        self._store = store
        self._feed = feed
        self._host = host
        self._state: State = "not running"
        self._says = "is starting"
        self._taken_ms: int | None = None

    def up(self, says: str) -> None:
        """Tell that it listens, and where."""
        self._change("up", says)
        log.info("listening", route=self._feed)

    def failed(self, says: str) -> None:
        """Tell that it does not listen, and why."""
        self._change("failed", says)
        log.warning("listener-not-open", route=self._feed)

    def ended(self) -> None:
        """Tell that nothing listens any more."""
        try:
            with self._store.write(is_durable=False) as uow:
                forget(uow, self._feed, self._host)
        except TransientError:
            log.warning("database-away", route=self._feed)

    def took(self) -> None:
        """Note that something came."""
        self._taken_ms = to_ms(utc_now())

    def tell(self) -> None:
        """Tell the database; where that is away, it is told later."""
        now = Standing(self._feed, self._state, self._says, self._taken_ms, self._host)
        try:
            with self._store.write(is_durable=False) as uow:
                say(uow, now)
        except TransientError:
            log.warning("database-away", route=self._feed)

    def _change(self, state: State, says: str) -> None:
        self._state, self._says = state, says
        self.tell()
