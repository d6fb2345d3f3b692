"""What `nadi doctor` says of CDS Hooks: whether an EHR could ask, and others could listen."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from adapters.site import Site
from gateway.core.errors import ConfigurationError

_HERE = frozenset({"localhost", "127.0.0.1", "::1"})
_IN_CLEAR = (
    "cds_hooks.base_url is not https: tokens and charts travel in clear; put a proxy with TLS "
    "before Nadi and write its address"
)


def cds_problems(site: Site) -> Iterator[tuple[str, bool]]:
    """Give what is not as it should be, and whether that is a fault."""
    if not site.cds.services:
        return
    try:
        address = urlsplit(site.cds.base_url)
    except ConfigurationError as error:
        yield error.message, True
        return
    if address.scheme != "https" and address.hostname not in _HERE:
        yield _IN_CLEAR, False
    asking = {client.system for client in site.cds.clients.values()}
    for service in site.cds.services.values():
        route = site.route(service.route)
        if route is not None and route.source not in asking:
            says = f"{service.id}: no client of system '{route.source}' may ask"
            yield f"{says}, so it shows no card; name one in cds_hooks.clients", False
