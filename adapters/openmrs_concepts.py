"""Looks up Concepts of OpenMRS: under what, in which unit and as what a result is kept there.

FHIR2 has no resource for a Concept. The REST interface beside it has, as every OpenMRS and Bahmni
installs it: `/openmrs/ws/fhir2/R4` has `/openmrs/ws/rest/v1` beside it, with the same login.

* A 404 in JSON says that there is no such Concept; any other that there is no such interface.
* A Concept is asked for by its UUID, which is what FHIR2 takes as a code without a system.

Source: OpenMRS webservices.rest, `GET /ws/rest/v1/concept/{uuid}`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any, Self
from urllib.parse import quote

import orjson

from adapters.authorization import Login
from adapters.fhir_rest.answers import error_of
from adapters.fhir_rest.base_url import BaseUrl
from adapters.fhir_rest.errors import EhrAnswerUnreadable
from adapters.fhir_rest.transport import Transport
from adapters.site import System
from adapters.tls import peer_verify
from gateway.core.clock import utc_now

_FHIR, _REST = "/ws/fhir2/", "/ws/rest/v1"
_NOT_FOUND = 404
_JSON = {"Accept": "application/json"}
_MAX_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Concept:
    """What OpenMRS says of a Concept.

    Attributes:
        name: What people read beside a value.
        datatype: `Numeric`, `Text`, `Coded`, `N/A` (as that of a set), …
        unit: As OpenMRS writes it; empty where it names none.
        is_retired: Whether it is not to be used any more.
    """

    name: str
    datatype: str
    unit: str
    is_retired: bool


class Concepts:
    """The Concepts of one OpenMRS."""

    def __init__(
        self,
        rest_url: str,
        *,
        login: Login,
        timeout_s: float,
        verify: SSLContext | bool = True,
    ) -> None:
        """Prepare the client; nothing is sent yet.

        Args:
            rest_url: Where the REST interface is.
            login: How Nadi identifies itself.
            timeout_s: For every step of a request and for the whole of it.
            verify: How the system's certificate is checked.

        Raises:
            ConfigurationError: The address can't be used.
        """
        self._base = BaseUrl.parse(rest_url)
        self._transport = Transport(
            login=login,
            timeout_s=timeout_s,
            max_response_bytes=_MAX_BYTES,
            verify=verify,
        )

    @classmethod
    def of(cls, system: System, *, timeout_s: float) -> Self | None:
        """Make the client for a system; None where its address is not that of an OpenMRS.

        Raises:
            ConfigurationError: Its address can't be used.
        """
        root, found, _ = f"{system.base_url}/".partition(_FHIR)
        if not found:
            return None
        return cls(
            f"{root}{_REST}",
            login=system.login,
            timeout_s=timeout_s,
            verify=peer_verify(system.tls),
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._transport.close()

    def find(self, uuid: str) -> Concept | None:
        """Look up a Concept; None where OpenMRS has none of this UUID.

        Raises:
            TransientError: It is away, or its answer is unreadable.
            EhrRefused: It lets the login see no Concepts, or has no REST interface.
        """
        url = self._base.of(f"concept/{quote(uuid, safe='')}?v=full")
        answer = self._transport.send("GET", url, headers=_JSON)
        said = _object(answer.body)
        if answer.status == _NOT_FOUND and said is not None:
            return None
        if not answer.is_success:
            raise error_of(answer.status, answer.headers, answer.body, utc_now())
        if said is None:
            raise EhrAnswerUnreadable
        return _read(said) if said.get("uuid") == uuid else None


def _object(body: bytes) -> Mapping[str, Any] | None:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _read(said: Mapping[str, Any]) -> Concept:
    datatype = said.get("datatype")
    return Concept(
        name=str(said.get("display") or ""),
        datatype=str(datatype.get("display") or "") if isinstance(datatype, dict) else "",
        unit=str(said.get("units") or ""),
        is_retired=said.get("retired") is True,
    )
