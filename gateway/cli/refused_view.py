"""How commands show the peers that ports refused: `nadi doctor` briefly, `nadi hl7 refused` all."""

from collections.abc import Iterator
from itertools import groupby

from adapters.site import Site
from gateway.cli.context import age, iso
from gateway.cli.doctor_feeds import FeedFinding
from gateway.refused_peers import RefusedPeer, refused_peers
from gateway.store.unit_of_work import Store

_LATELY_MS = 86_400_000
_MOST_SHOWN = 5


def refused_findings(site: Site, store: Store) -> Iterator[FeedFinding]:
    """Tell of the peers that each port refused within a day, the newest first."""
    with store.read() as uow:
        found = refused_peers(uow, site, since_ms=uow.now_ms - _LATELY_MS)
    for feed, refused in groupby(sorted(found, key=lambda each: each.feed), lambda each: each.feed):
        check, lately = f"refused {feed}", list(refused)
        for each in lately[:_MOST_SHOWN]:
            yield FeedFinding(check, told(each), is_fault=None)
        if lately[_MOST_SHOWN:]:
            more = f"{len(lately) - _MOST_SHOWN} more: `nadi hl7 refused`"
            yield FeedFinding(check, more, is_fault=None)


def told(refused: RefusedPeer) -> str:
    """Tell of one in a line."""
    times = f"{refused.count} times, last" if refused.count > 1 else "once,"
    when = f"{times} {age(refused.last_ms)} ago"
    return f"{refused.peer} {refused.why.says} ({when}): {refused.why.remedy}"


def cells(refused: RefusedPeer) -> tuple[str, ...]:
    """Give the cells of a listing: when last, feed, peer, how often, why and what to do."""
    why = refused.why
    when = f"{age(refused.last_ms)} ago"
    return when, refused.feed, refused.peer, str(refused.count), f"It {why.says}: {why.remedy}."


def for_scripts(refused: RefusedPeer) -> dict[str, object]:
    """Give one for scripts."""
    return {
        "feed": refused.feed,
        "peer": refused.peer,
        "reason": refused.why.value,
        "says": f"it {refused.why.says}",
        "remedy": refused.why.remedy,
        "count": refused.count,
        "first": iso(refused.first_ms),
        "last": iso(refused.last_ms),
    }
