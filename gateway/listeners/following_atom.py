"""Follow the Atom feeds of one EHR: what an entry points at is read by FHIR and handed in.

The marker of a feed moves when what its entries point at was handed in, a page at a time. What is
pointed at more than once within a page is read once. A resource that the EHR refuses is passed over
as long as it gives others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from adapters.feeds.atom import FETCHED, Entry, Marker, Page, beginning, news
from adapters.feeds.page import Found, found_in, resources_of
from adapters.feeds.poll import Query
from gateway import telemetry
from gateway.core.clock import to_ms
from gateway.core.errors import ProcessingError, TransientError
from gateway.listeners.following import Ehr, WayIn
from gateway.store.unit_of_work import Store

_MARKER = "marker/"
_FIRST_DELAY_MS, _LONGEST_DELAY_MS = 1000, 60_000

log = telemetry.get_logger()


class Feeds(Protocol):
    """Where pages come from; `AtomClient` is one."""

    def page(self, feed: str, number: int | None) -> Page | None:
        """Read a page of a feed, the newest for None; None where there is no such page."""


@dataclass(frozen=True)
class AtomPlan:
    """What is followed, and how.

    Attributes:
        feeds: Names of the feeds.
        every_ms: Between two looks.
        from_beginning: Whether a feed that is new here is read from its first page.
    """

    feeds: tuple[str, ...]
    every_ms: int
    from_beginning: bool


class AtomFollower:
    """Follows the feeds of one system; used by one thread."""

    def __init__(
        self,
        feed_name: str,
        plan: AtomPlan,
        ports: tuple[Store, Feeds, Ehr, WayIn],
        now: Callable[[], datetime],
    ) -> None:
        """Take what is followed.

        Args:
            feed_name: Name under which it remembers.
            plan: What is followed.
            ports: The database, the feeds, the EHR, and the way in.
            now: Gives the present.
        """
        self._name = feed_name
        self._plan = plan
        self._store, self._feeds, self._ehr, self._way_in = ports
        self._now = now
        self._due_ms = 0
        self._delay_ms = 0
        self.problem = ""

    def turn(self) -> bool:
        """Look at every feed when it is time; say whether that could be done."""
        now_ms = to_ms(self._now())
        if now_ms < self._due_ms:
            return self._delay_ms == 0
        try:
            for feed in self._plan.feeds:
                self._follow(feed)
        except (TransientError, ProcessingError) as error:
            self.problem = error.message
            self._delay_ms = min(max(2 * self._delay_ms, _FIRST_DELAY_MS), _LONGEST_DELAY_MS)
            self._due_ms = now_ms + self._delay_ms
            log.warning("feed-waits", system=self._name, error=type(error).__name__)
            return False
        self._delay_ms, self.problem = 0, ""
        self._due_ms = to_ms(self._now()) + self._plan.every_ms
        return True

    def _follow(self, feed: str) -> None:
        def read(number: int | None) -> Page | None:
            return self._feeds.page(feed, number)

        with self._store.read() as uow:
            kept = uow.listener_state.get(self._name, f"{_MARKER}{feed}")
        marker = Marker.from_json(kept) if kept else None
        if marker is None:
            marker = beginning(read, from_beginning=self._plan.from_beginning)
            if marker is None:
                return
            self._keep(feed, marker)
        for entries, after in news(read, marker):
            self._hand_in(feed, entries)
            self._keep(feed, after)

    def _keep(self, feed: str, marker: Marker) -> None:
        with self._store.write() as uow:
            uow.listener_state.put(self._name, {f"{_MARKER}{feed}": marker.as_json()})

    def _hand_in(self, feed: str, entries: Sequence[Entry]) -> None:
        ids = dict.fromkeys(each.resource_id for each in entries if each.resource_id)
        wanted = [text.format(id=each) for each in ids for text in FETCHED[feed]]
        found: dict[bytes, Found] = {}
        refused: list[ProcessingError] = []
        for text in wanted:
            try:
                found |= {each.mark: each for each in self._fetched(text)}
            except ProcessingError as error:
                refused.append(error)
        if refused:
            self._tell_refused(refused, len(wanted))
        if found:
            self._way_in.take(list(found.values()))

    def _tell_refused(self, refused: Sequence[ProcessingError], wanted: int) -> None:
        """Pass over what the EHR refuses, unless that is everything: then it is us whom it refuses.

        Raises:
            ProcessingError: It refuses everything; the marker stays where it is.
        """
        log.warning("feed-not-read", system=self._name, count=len(refused))
        if len(refused) == wanted:
            raise refused[0]

    def _fetched(self, wanted: str) -> list[Found]:
        """Read a resource, or what a search finds."""
        if "?" in wanted:
            query = Query(wanted)
            pages = self._ehr.pages(query.resource_type, query.params)
            return [each for body, _ in pages for each in resources_of(body)]
        raw = self._ehr.read_bytes(wanted)
        if raw is None:
            self._way_in.gone([wanted])
            return []
        return [found_in(raw)]
