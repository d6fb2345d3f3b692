"""Reads the pages of Atom feeds; credentials go to the feeds' base URL only."""

from collections.abc import Callable

from adapters.feeds.atom import Page, read_page
from adapters.fhir_rest.answers import error_of
from adapters.fhir_rest.base_url import BaseUrl
from adapters.fhir_rest.transport import Transport
from gateway.core.clock import utc_now

_ACCEPT = {"Accept": "application/atom+xml, application/xml;q=0.9"}
_ABSENT = frozenset({404, 410})
_MAX_PAGE_BYTES = 8 * 2**20


class AtomClient:
    """The feeds of one system."""

    def __init__(
        self, base_url: str, *, auth_header: Callable[[], str | None], timeout_s: float
    ) -> None:
        """Prepare the client; nothing is sent yet.

        Args:
            base_url: Where the feeds are, such as `https://emr.local/openmrs/ws/atomfeed`.
            auth_header: Gives the Authorization header of the moment, None for none.
            timeout_s: For every step of a request and for the whole of it.

        Raises:
            ConfigurationError: The base URL can't be used.
        """
        self._base = BaseUrl.parse(base_url)
        self._transport = Transport(
            auth_header=auth_header, timeout_s=timeout_s, max_response_bytes=_MAX_PAGE_BYTES
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._transport.close()

    def page(self, feed: str, number: int | None) -> Page | None:
        """Read a page of a feed, the newest for None; None where there is no such page.

        Raises:
            TransientError: The server is away, or its answer is no feed.
            EhrRefused: It refuses.
        """
        url = self._base.of(f"{feed}/{'recent' if number is None else number}")
        answer = self._transport.send("GET", url, headers=_ACCEPT)
        if answer.status in _ABSENT:
            return None
        if not answer.is_success:
            raise error_of(answer.status, answer.headers, answer.body, utc_now())
        return read_page(answer.body)
