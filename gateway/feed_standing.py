"""How the feeds of a site stand: what their listeners said of themselves, and how long ago.

A listener says it when something changes, and at least every `SAY_EVERY_S`; one that was silent
for `SILENT_AFTER_S` does not run any more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from adapters.site import Site, SiteWatch
from gateway.core.errors import GatewayError
from gateway.store.unit_of_work import UnitOfWork

SAY_EVERY_S = 15.0
SILENT_AFTER_S = 60.0
#: Begins the keys of what listeners say of themselves; the host's name ends them.
KEY = "standing/"

_LONGEST_KEY = 128

State = Literal["up", "failed", "not running"]


@dataclass(frozen=True)
class Standing:
    """How one feed stands on one host.

    Attributes:
        feed: Its name, `system/kind`.
        says: Where it listens, or why it does not.
        taken_ms: When it last took something; None when it never did.
        host: Where its listener runs; empty when it does not run.
    """

    feed: str
    state: State
    says: str = ""
    taken_ms: int | None = None
    host: str = ""


def standings(uow: UnitOfWork, site: Site) -> list[Standing]:
    """Give how every feed of a site stands, in the order of their names."""
    found: dict[str, list[Standing]] = {name: [] for name in sorted(site.feeds)}
    for kept in uow.listener_state.everywhere(KEY):
        if kept.listener in found and uow.now_ms - kept.updated_ms < SILENT_AFTER_S * 1000:
            host = kept.key.removeprefix(KEY)
            found[kept.listener].append(Standing(kept.listener, host=host, **kept.value))
    return [each for name, there in found.items() for each in there or [_absent(name)]]


def _absent(name: str) -> Standing:
    return Standing(name, "not running", "its listener does not run; `nadi up` starts it")


def say(uow: UnitOfWork, standing: Standing) -> None:
    """Keep how a feed stands."""
    value = {"state": standing.state, "says": standing.says, "taken_ms": standing.taken_ms}
    uow.listener_state.put(standing.feed, {_key(standing.host): value})


def forget(uow: UnitOfWork, feed: str, host: str) -> None:
    """Forget how a feed stood on a host: its listener ended there."""
    uow.listener_state.remove(feed, _key(host))


def _key(host: str) -> str:
    return f"{KEY}{host}"[:_LONGEST_KEY]


def listeners_of(watch: SiteWatch) -> Mapping[str, str]:
    """Give the listeners of the site in force, and the system each speaks for.

    None where the site can't be used: whoever calls then is no listener.
    """
    try:
        return {name: feed.speaks_for for name, feed in watch.current().feeds.items()}
    except GatewayError:
        return {}
