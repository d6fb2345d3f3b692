"""Whether it is known what an EHR changed of its Consents, after Nadi or the EHR was away.

* A feed that follows Consents says so once it has asked for all that was changed or deleted, and
  again while it goes on. Where it has not said so for a while, it is not known.
* What was received from the EHR then waits: its patient may have withdrawn her consent meanwhile.
  It waits until the feed says that it has caught up, and at most for as long as the site file says
  (`consents_wait_s`), counted from when it was received or from the start of the process that would
  use it, whatever was later; what waits for an EHR that was away, from when the EHR is tried again.
  After that it is judged by the consents that are here.
* An EHR whose Consents are not followed is not waited for, and no emergency waits.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from adapters.feeds.poll import Query
from adapters.site import Site
from adapters.site_following import FollowEntry
from gateway.core.routing import Route
from gateway.store.events import Event
from gateway.store.unit_of_work import UnitOfWork

#: How often a feed says that it goes on, and after how long without a word it does not.
SAY_EVERY_MS, STALE_AFTER_MS = 10_000, 60_000
#: What is told of what waits.
WAITS = "It waits until it is known what the EHR changed of Consents while Nadi or it was away."

#: What began in the future did so on a host whose clock is so far ahead at most; further ahead, it
#: was before the clock was set back, and is not waited for.
_AHEAD_MS = STALE_AFTER_MS

#: It is looked again at what waits after this part of the time that it has waited, and so soon or
#: late at most.
_OF_WAITED = 0.25
_SOONEST_MS, _LATEST_MS = 2_000, 60_000

_KEY, _CONSENT = "caught-up", "Consent"


@dataclass(frozen=True)
class Lag:
    """The systems of whose Consents it is not known what changed.

    Attributes:
        waits_ms: How long what came from a system waits, by its name.
        began_ms: When this process began.
        now_ms: The present.
    """

    waits_ms: Mapping[str, int]
    began_ms: int
    now_ms: int

    def look_again_ms(self, event: Event, route: Route, *, away_ms: int = 0) -> int | None:
        """Say when it is looked again whether an event still waits; None where it does not.

        The longer it has waited, the more rarely: thousands may wait for days.

        Args:
            event: What came.
            route: Its route.
            away_ms: Until when nothing was sent to the EHR, since it did not answer.
        """
        wait_ms = self.waits_ms.get(event.system)
        if wait_ms is None or route.breaks_glass:
            return None
        begins = (event.received_ms, self.began_ms, away_ms)
        waited = [self.now_ms - each for each in begins if each < self.now_ms + _AHEAD_MS]
        waited_ms = max(min(waited, default=wait_ms), 0)
        if waited_ms >= wait_ms:
            return None
        seldom_ms = max(_SOONEST_MS, min(int(waited_ms * _OF_WAITED), _LATEST_MS))
        return self.now_ms + min(seldom_ms, wait_ms - waited_ms)


def lag(uow: UnitOfWork, site: Site, *, began_ms: int) -> Lag:
    """Say of which systems it is not known what changed of their Consents.

    Args:
        uow: Reads the database.
        site: The site in force.
        began_ms: When this process began.
    """
    following = _following(site)
    current = _current(uow, following) if following else ()
    known = {site.feeds[feed].speaks_for for feed in current}
    waits_ms: dict[str, int] = {}
    for feed, wait_ms in following.items():
        system = site.feeds[feed].speaks_for
        if system not in known:
            waits_ms[system] = max(wait_ms, waits_ms.get(system, 0))
    return Lag(waits_ms, began_ms, uow.now_ms)


def longest_wait_s(site: Site, system: str | None = None) -> float:
    """Say for how long what came may have waited, through no fault of whom it is tried with.

    Args:
        site: The site in force.
        system: From where it came; None for any.
    """
    waits_ms = [
        wait_ms
        for feed, wait_ms in _following(site).items()
        if system in (None, site.feeds[feed].speaks_for)
    ]
    return max(waits_ms, default=0) / 1000


def say_current(uow: UnitOfWork, feed: str) -> None:
    """Keep that a feed has asked for all that was changed or deleted of Consents."""
    uow.listener_state.put(feed, {_KEY: True})


def _following(site: Site) -> dict[str, int]:
    """Give the feeds that follow Consents, and how long is waited for each."""
    return {
        name: int(feed.entry.consents_wait_s * 1000)
        for name, feed in site.feeds.items()
        if isinstance(feed.entry, FollowEntry)
        and any(Query(each).resource_type == _CONSENT for each in feed.entry.types)
    }


def _current(uow: UnitOfWork, feeds: Collection[str]) -> list[str]:
    # What was said in the future was said before the clock was set back, or by a host whose clock
    # is a little ahead.
    said = uow.listener_state.kept_ms(feeds, _KEY)
    return [feed for feed, at_ms in said.items() if abs(uow.now_ms - at_ms) < STALE_AFTER_MS]
