"""What `nadi site apply` does in the EHRs: Subscriptions are made, renewed and ended.

An EHR that is away, or refuses, does not undo the site file: the listener goes on trying, and the
feed says in `nadi doctor` that its Subscription is not kept.
"""

from collections.abc import Iterator, Mapping

from adapters.site import Site
from adapters.site_feeds import Feed
from gateway.cli.context import Opened, operator
from gateway.core.errors import GatewayError
from gateway.listeners.keeping import Keeper, Kept
from workers.ehrs import Ehrs

_KIND = "subscription"
_WITHIN_S = 10.0


def keep_subscriptions(nadi: Opened, before: Site | None, now: Site) -> list[str]:
    """Bring the Subscriptions of both sites in line with the one in force; say what was done."""
    old, new = _feeds(before), _feeds(now)
    gone = {name: feed for name, feed in old.items() if name not in new}
    said = [*_done(nadi, now, new, is_ended=False)]
    return [*said, *_done(nadi, before or now, gone, is_ended=True)]


def _done(nadi: Opened, site: Site, feeds: Mapping[str, Feed], *, is_ended: bool) -> Iterator[str]:
    ehrs = Ehrs(lambda: site, store=nadi.store, timeout_s=_WITHIN_S)
    for name, feed in feeds.items():
        try:
            client = ehrs.connection(feed.system).client
            keeper = Keeper(nadi.store, feed, client, source=nadi.source(), by=operator())
            yield from (_in_words(name, each) for each in _see_to(keeper, is_ended=is_ended))
        except GatewayError as error:
            yield f"{name}: the Subscription could not be seen to: {error.message}"
    ehrs.close()


def _see_to(keeper: Keeper, *, is_ended: bool) -> list[Kept]:
    return keeper.end() if is_ended else keeper.keep()


def _in_words(name: str, kept: Kept) -> str:
    return f"{name}: {kept.reference} {kept.was} {kept.criteria}".rstrip()


def _feeds(site: Site | None) -> Mapping[str, Feed]:
    found = site.feeds.items() if site else ()
    return {name: feed for name, feed in found if feed.kind == _KIND}
