"""`nadi doctor`, ports of DICOM: each is asked by C-ECHO, as one of its callers would."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import cast

from adapters.dicom.sender import NoAssociation, Target, echo
from adapters.site import Site
from adapters.site_dicom import DicomEntry
from adapters.site_feeds import Feed
from gateway.listeners.dicom import KIND
from gateway.settings import WILDCARDS

_WITHIN_S = 5.0


def echoes(site: Site) -> Iterator[tuple[str, bool, str]]:
    """Ask every port of the site that can be asked from here.

    Returns:
        For each the name of its feed, whether it answered, and words for people.
    """
    for feed in site.feeds.values():
        if feed.kind == KIND:
            entry = cast("DicomEntry", feed.entry)
            host = WILDCARDS.get(entry.host, entry.host)
            if entry.tls is None and _may_ask(entry, host):
                yield _echo(feed, entry, host)


def _may_ask(entry: DicomEntry, host: str) -> bool:
    """Say whether this machine is among those that may connect."""
    try:
        address = ip_address(host)
    except ValueError:
        return not entry.allow
    return not entry.allow or any(address in ip_network(each) for each in entry.allow)


def _echo(feed: Feed, entry: DicomEntry, host: str) -> tuple[str, bool, str]:
    target = Target(
        host=host,
        port=entry.port,
        called=entry.ae_title,
        calling=entry.callers[0],
        timeout_s=_WITHIN_S,
    )
    try:
        echo(target)
    except NoAssociation as error:
        return feed.name, False, error.message
    return feed.name, True, f"{entry.ae_title} answers C-ECHO at {host}:{entry.port}"
