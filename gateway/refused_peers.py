"""Who was refused by the ports of a site lately, and why: for the engineer at the phone.

A listener keeps it among what it remembers, the newest of each peer and reason, and no more than
`MOST_KEPT` of them: who floods a port fills no database.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from adapters.peer_refusal import PeerRefusal
from adapters.site import Site
from gateway.store.unit_of_work import UnitOfWork

#: Begins the keys; the host's name ends them.
KEY = "refused-peers/"
MOST_KEPT = 20
_KEPT_MS = 7 * 86_400_000
_LONGEST_KEY = 128


@dataclass(frozen=True)
class RefusedPeer:
    """One peer that was refused for one reason, once or more often.

    Attributes:
        feed: Name of the port's feed, `system/kind`.
        peer: Network address.
    """

    feed: str
    peer: str
    why: PeerRefusal
    count: int
    first_ms: int
    last_ms: int

    def and_then(self, later: "RefusedPeer") -> "RefusedPeer":
        """Give both together."""
        count, first_ms = self.count + later.count, min(self.first_ms, later.first_ms)
        last_ms = max(self.last_ms, later.last_ms)
        return RefusedPeer(self.feed, self.peer, self.why, count, first_ms, last_ms)


def refused_peers(uow: UnitOfWork, site: Site, *, since_ms: int) -> list[RefusedPeer]:
    """Give who was refused by ports of the site on any host since a moment, the newest first."""
    found: dict[tuple[str, str, PeerRefusal], RefusedPeer] = {}
    for kept in uow.listener_state.everywhere(KEY):
        if kept.listener in site.feeds:
            _add(found, _read(kept.listener, kept.value))
    return _newest(found.values(), since_ms)


def keep_refused(uow: UnitOfWork, feed: str, host: str, refused: Iterable[RefusedPeer]) -> None:
    """Keep who was refused by a port on a host, beside who was before."""
    key = f"{KEY}{host}"[:_LONGEST_KEY]
    found: dict[tuple[str, str, PeerRefusal], RefusedPeer] = {}
    _add(found, _read(feed, uow.listener_state.get(feed, key) or []))
    _add(found, refused)
    newest = _newest(found.values(), uow.now_ms - _KEPT_MS)[:MOST_KEPT]
    uow.listener_state.put(feed, {key: [_written(each) for each in newest]})


def _add(
    found: dict[tuple[str, str, PeerRefusal], RefusedPeer], more: Iterable[RefusedPeer]
) -> None:
    for each in more:
        key = (each.feed, each.peer, each.why)
        known = found.get(key)
        found[key] = known.and_then(each) if known else each


def _newest(refused: Iterable[RefusedPeer], since_ms: int) -> list[RefusedPeer]:
    lately = [each for each in refused if each.last_ms >= since_ms]
    return sorted(lately, key=lambda each: each.last_ms, reverse=True)


def _written(refused: RefusedPeer) -> Mapping[str, Any]:
    written = asdict(refused)
    del written["feed"]
    return written


def _read(feed: str, kept: Iterable[Mapping[str, Any]]) -> list[RefusedPeer]:
    reasons = set(PeerRefusal)  # a newer Nadi may know others
    return [
        RefusedPeer(feed, **{**each, "why": PeerRefusal(each["why"])})
        for each in kept
        if each["why"] in reasons
    ]
