"""The EHRs of the site as the workers reach them: one client per system, kept while it fits.

A client holds connections, so it is kept; when the site says another address, credential or
time-out, the next use makes a new one.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from adapters.authorization import authorization
from adapters.dicomweb import DicomWebClient
from adapters.fhir_rest.client import FhirClient
from adapters.fhir_rest.pace import Pace
from adapters.site import Secret, Site, System
from gateway.core.errors import ConfigurationError
from workers.climbing import LadderRecipient, ladder_recipient
from workers.ehr_abilities import EhrAbilities

#: Largest answer of an EHR that is read: a page of a search, an image in base64.
_MAX_RESPONSE_BYTES = 48 * 2**20
#: Requests under way where each result goes alone: half of what a thread's share of the pool is.
_CONNECTIONS = 4


@dataclass(frozen=True)
class Connection:
    """How a system is reached now.

    Attributes:
        client: For searches and for what attachments point at.
        archive: For images; None when the site names none.
        recipient: For results.
        abilities: What it can do.
        base_url: Its FHIR base.
    """

    client: FhirClient
    archive: DicomWebClient | None
    recipient: LadderRecipient
    abilities: EhrAbilities
    base_url: str

    def close(self) -> None:
        """Close the connections that are kept."""
        self.client.close()
        if self.archive:
            self.archive.close()


@dataclass(frozen=True, kw_only=True)
class _Key:
    base_url: str
    dicomweb_url: str | None
    archive_login: tuple[Secret | None, str]
    token: Secret | None
    user: str
    timeout_s: float
    per_second: float | None
    profile: str | None


class Ehrs:
    """The connections of one process; safe to share among its threads."""

    def __init__(self, site: Callable[[], Site], *, timeout_s: float) -> None:
        self._site = site
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._connections: dict[str, tuple[_Key, Connection]] = {}

    def connection(self, system: str) -> Connection:
        """Give the connection to a system.

        Raises:
            ConfigurationError: The site has no such system, or can't say where it is.
        """
        found = self._site().system(system)
        if found is None:
            raise ConfigurationError(f"The site has no system '{system}' (any more).")
        timeout_s = found.timeout_s or self._timeout_s
        key = _Key(
            base_url=found.base_url,
            dicomweb_url=found.dicomweb_url,
            archive_login=found.dicomweb_login,
            token=found.token,
            user=found.user,
            timeout_s=timeout_s,
            per_second=found.per_second,
            profile=found.profile,
        )
        with self._lock:
            known = self._connections.get(system)
            if known is None or known[0] != key:
                known = (key, _connect(found, key))
                # A replaced client is left to its users; its connections close with it.
                self._connections[system] = known
            return known[1]

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for _, connection in self._connections.values():
                connection.close()
            self._connections.clear()


def _connect(system: System, key: _Key) -> Connection:
    def auth_header() -> str | None:
        return authorization(system.token, system.user)

    client = FhirClient(
        key.base_url,
        auth_header=auth_header,
        timeout_s=key.timeout_s,
        max_response_bytes=_MAX_RESPONSE_BYTES,
        pace=Pace(key.per_second) if key.per_second else lambda: None,
    )
    archive = key.dicomweb_url and DicomWebClient(
        key.dicomweb_url,
        auth_header=lambda: authorization(*key.archive_login),
        timeout_s=key.timeout_s,
        max_response_bytes=_MAX_RESPONSE_BYTES,
    )
    abilities = EhrAbilities(client, base_url=key.base_url, profile=key.profile)
    connections = 1 if key.per_second else _CONNECTIONS
    recipient = ladder_recipient(client, abilities, connections=connections)
    return Connection(client, archive or None, recipient, abilities, key.base_url)
