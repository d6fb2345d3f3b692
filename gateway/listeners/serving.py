"""The process of one kind of listener: its feeds as threads, following the site in force.

* A feed begins, ends, or begins anew when the site that is applied says so; others go on. It begins
  anew with any change of its system, or of the system whose patients it has: who follows an EHR
  asks where it was when the feed began.
* A listener that fails is started again after a delay that doubles from 1 to 30 s; how it stands
  is told by `/health/ready`, `nadi doctor` and the metrics.
* A stop lets every listener finish what it has in hand.
"""

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from adapters.site import LOOK_EVERY_S, Site, SiteWatch, System, name_of
from adapters.site_feeds import Feed
from gateway import heap, telemetry
from gateway.core.audit import Source
from gateway.core.clock import utc_now
from gateway.core.errors import GatewayError
from gateway.feed_standing import SAY_EVERY_S
from gateway.heartbeat import heartbeat
from gateway.listeners.desk import Desk, Listener, Telling
from gateway.listeners.door import Door
from gateway.listeners.peer_refusals import PeerRefusals
from gateway.settings import Settings, get_settings
from gateway.store.installation import MASTER, open_installation, record_start, record_stop
from gateway.store.listener_credentials import ListenerCredentials
from gateway.store.unit_of_work import Store

log = telemetry.get_logger()

_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 30.0
#: A listener gets so long to finish what it has in hand.
DRAIN_S = 10.0

Make = Callable[[Desk], Listener]


def serve(kind: str, make: Make) -> None:
    """Run the process of one kind until it is told to stop.

    Args:
        kind: As it stands in site files.
        make: Makes the listener of a feed.
    """
    settings = get_settings()
    telemetry.configure(kind, settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    store = open_installation(settings).store
    site = SiteWatch(store).current
    source = Source(name_of(site, "site"), settings.worker_name or kind)
    with store.write() as uow:
        record_start(uow, source, MASTER)
    heap.settle()
    heartbeat().start()
    Feeds(kind, make, Surroundings(settings, store, site, source)).run(stop)
    record_stop(store, source)
    store.close()


@dataclass(frozen=True)
class Surroundings:
    """What the feeds of a process share."""

    settings: Settings
    store: Store
    site: Callable[[], Site]
    source: Source


class Feeds:
    """The feeds of one kind, as the site in force has them."""

    def __init__(self, kind: str, make: Make, around: Surroundings) -> None:
        self._kind = kind
        self._make = make
        self._around = around
        self._serving: dict[str, _Serving] = {}

    def run(self, stop: threading.Event) -> None:
        """Follow the site until told to stop, then let every listener finish."""
        told = time.monotonic()
        while not stop.is_set():
            with heartbeat().working():
                self._follow()
            for serving in self._serving.values():
                serving.desk.peers.tell()
            if time.monotonic() - told > SAY_EVERY_S:
                told = time.monotonic()
                for serving in self._serving.values():
                    serving.desk.standing.tell()
            stop.wait(LOOK_EVERY_S)
        self._end(list(self._serving))

    def _follow(self) -> None:
        try:
            site = self._around.site()
        except GatewayError:  # what is served goes on
            log.warning("site-unusable")
            return
        feeds = site.feeds.items()
        wanted = {name: _Told.of(feed, site) for name, feed in feeds if feed.kind == self._kind}
        serving = self._serving
        self._end([name for name in serving if serving[name].told != wanted.get(name)])
        for name, told in wanted.items():
            if name not in serving:
                serving[name] = _Serving(told, self._desk(told.feed), self._make)

    def _end(self, names: list[str]) -> None:
        ending = [self._serving.pop(name) for name in names]
        for each in ending:
            each.stop.set()
        until = time.monotonic() + DRAIN_S
        for each in ending:
            each.thread.join(max(0.0, until - time.monotonic()))
            each.desk.standing.ended()
            each.desk.peers.tell()
            each.desk.door.close()

    def _desk(self, feed: Feed) -> Desk:
        around = self._around
        credentials = ListenerCredentials(around.store.sealer)
        return Desk(
            feed=feed,
            site=around.site,
            store=around.store,
            source=around.source,
            host=around.settings.host_name,
            door=Door(around.settings.api_address, lambda: credentials.token(feed.name, utc_now())),
            standing=Telling(around.store, feed.name, around.settings.host_name),
            peers=PeerRefusals(around.store, feed.name, around.settings.host_name),
        )


@dataclass(frozen=True)
class _Told:
    """What a site says of a feed: what it was begun with."""

    feed: Feed
    system: System | None
    speaks_for: System | None

    @classmethod
    def of(cls, feed: Feed, site: Site) -> "_Told":
        return cls(feed, site.system(feed.system), site.system(feed.speaks_for))


class _Serving:
    """One feed and its thread."""

    def __init__(self, told: _Told, desk: Desk, make: Make) -> None:
        self.told = told
        self.desk = desk
        self.stop = threading.Event()
        self._make = make
        self.thread = threading.Thread(target=self._run, name=desk.feed.name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        delay_s = _FIRST_DELAY_S
        while not self.stop.is_set():
            started = time.monotonic()
            self._once()
            if time.monotonic() - started > _LONGEST_DELAY_S:
                delay_s = _FIRST_DELAY_S
            self.stop.wait(delay_s)
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)

    def _once(self) -> None:
        try:
            self._make(self.desk).run(self.stop)
        except GatewayError as error:
            self.desk.standing.failed(error.message)
        except Exception as error:  # the edge of the thread: the other feeds go on
            log.exception("listener-failed", route=self.desk.feed.name)
            self.desk.standing.failed(f"It ended unexpectedly ({type(error).__name__}).")
