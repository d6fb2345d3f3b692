"""Ask an EHR for what a hook did not bring along, within the time that the call has.

* Only the FHIR base of the site file is asked, whatever address the caller names: credentials and
  patients' ids go nowhere else.
* The caller's own access token is used where it gives one, for this call alone; else Nadi's.
* All templates are asked for at once. What is not there in time counts as not to be had.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from adapters.authorization import NO_LOGIN, GivenLogin, Login
from adapters.fhir_rest.client import FhirClient
from adapters.site import System
from adapters.tls import peer_verify
from gateway.core.cds.prefetch import Template
from gateway.core.cds.request import Brought, entries_of
from gateway.core.errors import GatewayError, MalformedJson
from gateway.telemetry import get_logger

_AT_ONCE = 16
_MOST_BYTES = 4 * 2**20
#: The answers have to be stored and used within the same call.
_SHARE_OF_TIME = 0.6

#: Base URL, TLS files, seconds.
_Key = tuple[str, tuple[str, str | None] | None, float]

log = get_logger()


@dataclass(frozen=True)
class Fetched:
    """What an EHR gave.

    Attributes:
        prefetch: By key, as if the hook had brought it.
        failed: Keys that it did not give, or not in time.
    """

    prefetch: Mapping[str, Sequence[Brought]] = field(default_factory=dict)
    failed: tuple[str, ...] = ()


class _OfTheCall(threading.local):
    """The login of the call that a thread works for."""

    login: Login = NO_LOGIN
    secret: None = None

    def header(self) -> str | None:
        return self.login.header()

    def renewed(self, refused: str) -> str | None:
        return self.login.renewed(refused)


class Charts:
    """Asks EHRs; safe to share among threads."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="cds-chart")
        self._lock = threading.Lock()
        self._clients: dict[_Key, FhirClient] = {}
        self._now = _OfTheCall()

    def fetch(
        self,
        system: System,
        templates: Sequence[Template],
        patient: str,
        *,
        token: str | None,
        until_s: float,
    ) -> Fetched:
        """Ask for what is missing.

        Args:
            system: The EHR.
            templates: What is missing.
            patient: Id of the patient.
            token: The caller's access token.
            until_s: When the call has to be answered, by `time.monotonic`.

        Raises:
            ConfigurationError: The site can't say where the EHR is, or lacks its credential.
        """
        login = GivenLogin(f"Bearer {token}") if token else system.login
        login.header()  # where there is no credential, nothing is asked
        within_s = max(0.0, _SHARE_OF_TIME * (until_s - time.monotonic()))
        client = self._client(system, max(within_s, 0.05))
        asked = {
            self._pool.submit(self._ask, client, login, each, patient): each.key
            for each in templates
        }
        done, late = wait(asked, timeout=within_s)
        for each in late:
            each.cancel()
        found = {asked[each]: answer for each in done if (answer := each.result()) is not None}
        return Fetched(found, tuple(key for key in asked.values() if key not in found))

    def close(self) -> None:
        """Close all connections."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for client in self._clients.values():
            client.close()

    def _ask(
        self, client: FhirClient, login: Login, template: Template, patient: str
    ) -> list[Brought] | None:
        self._now.login = login
        try:
            page, _ = next(client.pages(template.resource_type, template.search(patient)))
            return list(entries_of(page))
        except (GatewayError, MalformedJson, StopIteration) as error:
            log.warning("cds-fetch-failed", error=type(error).__name__)
            return None

    def _client(self, system: System, within_s: float) -> FhirClient:
        key = (system.base_url, system.tls, round(within_s, 1))
        with self._lock:
            if key not in self._clients:
                self._clients[key] = FhirClient(
                    system.base_url,
                    login=self._now,
                    timeout_s=max(key[-1], 0.1),
                    max_response_bytes=_MOST_BYTES,
                    verify=peer_verify(system.tls),
                )
            return self._clients[key]
