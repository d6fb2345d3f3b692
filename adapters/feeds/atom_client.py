"""Reads the pages of Atom feeds; credentials go to the feeds' base URL only.

And to the REST interface that OpenMRS has beside it: what is saved there makes an entry. What is
written by FHIR does not: the feeds listen to the services that REST calls, and FHIR passes these by
(newer versions of Bahmni's FHIR module make entries of a Patient and an Encounter all the same).

Source: OpenMRS webservices.rest, `POST /ws/rest/v1/patient/{uuid}`; ict4h openmrs-atomfeed, advice
on PatientService and EmrEncounterService; Bahmni fhir2-addl-extension, FhirEncounterSaveAdvice.
"""

from collections.abc import Callable
from ssl import SSLContext
from urllib.parse import quote

from adapters.authorization import Login
from adapters.feeds.atom import Page, read_page
from adapters.fhir_rest.answers import expect
from adapters.fhir_rest.base_url import BaseUrl
from adapters.fhir_rest.transport import Transport
from adapters.site import System
from adapters.tls import peer_verify

_ACCEPT = {"Accept": "application/atom+xml, application/xml;q=0.9"}
_ABSENT = frozenset({404, 410})
_REST = "rest/v1"
_JSON = {"Content-Type": "application/json", "Accept": "application/json"}
_MAX_PAGE_BYTES = 8 * 2**20


class AtomClient:
    """The feeds of one system."""

    def __init__(
        self,
        base_url: str,
        *,
        login: Login,
        timeout_s: float,
        verify: SSLContext | bool = True,
        pace: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare the client; nothing is sent yet.

        Args:
            base_url: Where the feeds are, such as `https://emr.local/openmrs/ws/atomfeed`.
            login: How Nadi identifies itself.
            timeout_s: For every step of a request and for the whole of it.
            verify: How the system's certificate is checked.
            pace: Waits, before each request, until it may leave.

        Raises:
            ConfigurationError: The base URL can't be used.
        """
        self._base = BaseUrl.parse(base_url)
        self._rest = BaseUrl.parse(f"{self._base.text.rpartition('/')[0]}/{_REST}")
        self._transport = Transport(
            login=login,
            timeout_s=timeout_s,
            max_response_bytes=_MAX_PAGE_BYTES,
            verify=verify,
            pace=pace,
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
        return read_page(expect(answer).body)

    def save_patient(self, patient_id: str) -> None:
        """Save a patient as she is: her entry in the feed of patients says then that she changed.

        Raises:
            TransientError: The server is away.
            EhrRefused: It refuses: she is not there, or the user may not edit patients.
        """
        url = self._rest.of(f"patient/{quote(patient_id, safe='')}")
        answer = self._transport.send("POST", url, body=b"{}", headers=_JSON)
        expect(answer)


def atom_client(
    base_url: str, system: System, timeout_s: float, pace: Callable[[], None]
) -> AtomClient:
    """Make the client of a system's feeds.

    Args:
        base_url: Where the feeds are.
        system: Its credential is theirs.
        timeout_s: Where the system has none of its own.
        pace: Waits, before each request, until it may leave.

    Raises:
        ConfigurationError: The base URL or a TLS file can't be used.
    """
    return AtomClient(
        base_url,
        login=system.login,
        timeout_s=system.timeout_s or timeout_s,
        verify=peer_verify(system.tls),
        pace=pace,
    )
