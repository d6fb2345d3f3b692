"""The EHRs of the site as the workers reach them: one client per system, kept while it fits.

A client holds connections, so it is kept; when the site says another address, credential or
time-out, the next use makes a new one. A system without a FHIR API gets results by HL7 v2, where
the site names its receiver.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from adapters.authorization import Login
from adapters.dicomweb import DicomWebClient
from adapters.fhir_rest.client import FhirClient
from adapters.site import Site, System
from adapters.site_oru import OruDestination
from adapters.tls import peer_verify
from gateway.core.errors import ConfigurationError
from gateway.core.ladder import Rung
from gateway.store.unit_of_work import Store
from workers.climb import Sender, WithoutFhir
from workers.climbing import LadderRecipient, ladder_recipient
from workers.ehr_abilities import EhrAbilities
from workers.oru_sending import OruSender
from workers.pacing import paced

#: Largest answer of an EHR that is read: a page of a search, an image in base64.
_MAX_RESPONSE_BYTES = 48 * 2**20
#: Requests under way where each result goes alone: half of what a thread's share of the pool is.
_CONNECTIONS = 4


@dataclass(frozen=True)
class FhirApi:
    """The FHIR API of a system.

    Attributes:
        client: For searches and for what attachments point at.
        archive: For images; None when the site names none.
        abilities: What it can do.
        base_url: Its FHIR base.
    """

    client: FhirClient
    archive: DicomWebClient | None
    abilities: EhrAbilities
    base_url: str


@dataclass(frozen=True)
class Connection:
    """How a system is reached now.

    Attributes:
        system: Its name.
        recipient: For results.
        api: Its FHIR API; None where it has none.
        oru: For results as HL7 v2 messages; None where it gets none so.
    """

    system: str
    recipient: LadderRecipient | WithoutFhir
    api: FhirApi | None
    oru: OruSender | None = None

    @property
    def fhir(self) -> FhirApi:
        """Its FHIR API.

        Raises:
            ConfigurationError: It has none.
        """
        if self.api is None:
            raise ConfigurationError(f"System '{self.system}' has no FHIR API.")
        return self.api

    @property
    def beyond(self) -> tuple[Rung, ...]:
        """The rungs beyond FHIR that something sends there."""
        return (Rung.HL7V2_ORU,) if self.oru else ()

    @property
    def client(self) -> FhirClient:
        """For searches and for what attachments point at.

        Raises:
            ConfigurationError: It has no FHIR API.
        """
        return self.fhir.client

    @property
    def archive(self) -> DicomWebClient | None:
        """For images; None when the site names none."""
        return self.api.archive if self.api else None

    @property
    def abilities(self) -> EhrAbilities:
        """What it can do.

        Raises:
            ConfigurationError: It has no FHIR API.
        """
        return self.fhir.abilities

    @property
    def base_url(self) -> str:
        """Its FHIR base.

        Raises:
            ConfigurationError: It has no FHIR API.
        """
        return self.fhir.base_url

    def close(self) -> None:
        """Close the connections that are kept."""
        if self.api:
            self.api.client.close()
        if self.archive:
            self.archive.close()


@dataclass(frozen=True, kw_only=True)
class _Key:
    base_url: str
    dicomweb_url: str | None
    archive_login: Login
    login: Login
    timeout_s: float
    per_second: float | None
    profile: str | None
    oru: OruDestination | None
    tls: tuple[str, str | None] | None


class Ehrs:
    """The connections of one process; safe to share among its threads."""

    def __init__(self, site: Callable[[], Site], *, store: Store, timeout_s: float) -> None:
        """Prepare them; nothing is connected yet.

        Args:
            site: Gives the site in force.
            store: Where the lines before systems with a rate cap are; other systems need it not.
            timeout_s: Longest wait for an answer, where the site does not say.
        """
        self._site = site
        self._store = store
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._connections: dict[str, tuple[_Key, Connection]] = {}

    def connection(self, system: str) -> Connection:
        """Give the connection to a system.

        Raises:
            ConfigurationError: The site has no such system, can't say where it is, or it can only
                send.
        """
        found = self._site().system(system)
        if found is None:
            raise ConfigurationError(f"The site has no system '{system}' (any more).")
        key = _Key(
            base_url="" if found.address is None and found.oru else found.base_url,
            dicomweb_url=found.dicomweb_url,
            archive_login=found.dicomweb_login,
            login=found.login,
            timeout_s=found.timeout_s or self._timeout_s,
            per_second=found.per_second,
            profile=found.profile,
            oru=found.oru,
            tls=found.tls,
        )
        with self._lock:
            known = self._connections.get(system)
            if known is None or known[0] != key:
                known = (key, self._connect(found, key))
                # A replaced client is left to its users; its connections close with it.
                self._connections[system] = known
            return known[1]

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for _, connection in self._connections.values():
                connection.close()
            self._connections.clear()

    def _connect(self, system: System, key: _Key) -> Connection:
        pace = paced(system, self._store, timeout_s=key.timeout_s)
        oru = self._oru(key.oru, key.timeout_s, pace) if key.oru else None
        senders: Mapping[Rung, Sender] = {Rung.HL7V2_ORU: oru} if oru else {}
        if system.address is None:
            return Connection(system.name, WithoutFhir(senders), None, oru)
        api = _api(key, pace)
        connections = 1 if key.per_second else _CONNECTIONS
        recipient = ladder_recipient(
            api.client, api.abilities, connections=connections, senders=senders
        )
        return Connection(system.name, recipient, api, oru)

    def _oru(self, to: OruDestination, timeout_s: float, pace: Callable[[], None]) -> OruSender:
        """Make what sends HL7 v2; whose patients they are is asked when there is something."""
        owner = self._site().system(to.patients_of)
        if owner is None or owner.address is None:
            return OruSender(to, None, timeout_s=timeout_s, pace=pace)

        def read(reference: str) -> dict[str, object] | None:
            return self.connection(to.patients_of).client.read(reference)

        return OruSender(to, read, timeout_s=timeout_s, pace=pace)


def _api(key: _Key, pace: Callable[[], None]) -> FhirApi:
    verify = peer_verify(key.tls)
    client = FhirClient(
        key.base_url,
        login=key.login,
        timeout_s=key.timeout_s,
        max_response_bytes=_MAX_RESPONSE_BYTES,
        verify=verify,
        pace=pace,
    )
    archive = key.dicomweb_url and DicomWebClient(
        key.dicomweb_url,
        login=key.archive_login,
        timeout_s=key.timeout_s,
        max_response_bytes=_MAX_RESPONSE_BYTES,
        verify=verify,
    )
    abilities = EhrAbilities(client, base_url=key.base_url, profile=key.profile)
    return FhirApi(client, archive or None, abilities, key.base_url)
