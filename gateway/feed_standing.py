"""How the feeds of a site stand: what their listeners said of themselves, and how long ago.

A listener says it when something changes, and at least every `SAY_EVERY_S`; one that was silent
for `SILENT_AFTER_S` does not run any more. Whether its source is silent, one that follows an EHR
says itself; of a port, a folder, and of what is pushed it is seen here, by the last that came.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from adapters.site import Site, SiteWatch
from adapters.site_following import ProbedEntry
from adapters.site_silence import SilentEntry
from gateway.core.errors import GatewayError
from gateway.store.listener_credentials import ListenerCredentials
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
    told = [each for name, there in found.items() for each in there or [_absent(name)]]
    return [_with_silence(uow, site, each) for each in told]


@dataclass(frozen=True)
class Pushing:
    """How it stands with what a system pushes.

    Attributes:
        heard_ms: When the newest came; None when nothing ever did.
        after_s: After so long it is silent; None where the site does not say.
    """

    system: str
    heard_ms: int | None
    after_s: float | None
    is_silent: bool


def pushings(uow: UnitOfWork, site: Site) -> list[Pushing]:
    """Give how every system stands that pushes, in the order of their names."""
    callers = uow.credentials.list()
    found = []
    for name, system in sorted(site.systems.items()):
        if system.push is not None:
            ids = [each.id for each in callers if each.system == name]
            heard_ms, after_s = _newest_ms(uow, ids), system.push.silent_after_s
            is_silent = after_s is not None and _is_over(uow, heard_ms, after_s)
            found.append(Pushing(name, heard_ms, after_s, is_silent))
    return found


def _with_silence(uow: UnitOfWork, site: Site, standing: Standing) -> Standing:
    """Let a port or a folder to which nothing came for too long count as failed."""
    entry = site.feeds[standing.feed].entry
    if not isinstance(entry, SilentEntry) or isinstance(entry, ProbedEntry):
        return standing
    if entry.silent_after_s is None or standing.state != "up":
        return standing
    listener = ListenerCredentials(uow.sealer).credential_id(standing.feed)
    heard_ms = max(_newest_ms(uow, [listener]) or 0, standing.taken_ms or 0)
    if not _is_over(uow, heard_ms, entry.silent_after_s):
        return standing
    words = f"Nothing came for more than {entry.silent_after_s:g} s (silent_after_s)"
    return replace(standing, state="failed", says=f"{words}; it {standing.says}")


def _newest_ms(uow: UnitOfWork, principals: Iterable[str]) -> int | None:
    newest = [uow.events.recent(principal_id=each, limit=1) for each in principals]
    return max((event.received_ms for found in newest for event in found), default=None)


def _is_over(uow: UnitOfWork, heard_ms: int | None, after_s: float) -> bool:
    """Say whether nothing came for too long, since it was last heard or the site was applied."""
    row = uow.sites.current()
    since_ms = max(heard_ms or 0, row.applied_ms if row else 0)
    return uow.now_ms - since_ms > after_s * 1000


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
