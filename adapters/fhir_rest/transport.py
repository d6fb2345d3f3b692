"""One request to the EHR and its whole answer, within limits of bytes and seconds.

Source: RFC 9110; FHIR R4 RESTful API section 3.1.0.1 (http://hl7.org/fhir/R4/http.html).
"""

import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from ssl import SSLContext

import httpx

from adapters.authorization import NO_LOGIN, Login
from adapters.fhir_rest.errors import (
    EhrAnswerTooLarge,
    EhrAnswerUnreadable,
    EhrTimeout,
    EhrUnreachable,
    unreachable,
)
from adapters.obstacles import Obstacle, obstacle_of

FHIR_JSON = "application/fhir+json"
_MAX_CONNECTIONS = 16
_GZIP_OR_ZLIB = 47  # window bits with which zlib finds out by itself
_LIMITS = httpx.Limits(max_connections=_MAX_CONNECTIONS, max_keepalive_connections=_MAX_CONNECTIONS)


@dataclass(frozen=True)
class Answer:
    """A whole answer of the EHR; its content stays out of its representation."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def is_success(self) -> bool:
        """Say whether the status is 2xx."""
        return httpx.codes.is_success(self.status)


@cache
def public_authorities() -> SSLContext:
    """Read the authorities of the web once for every EHR: it takes as long as many requests."""
    return httpx.create_ssl_context(trust_env=False)


class Transport:
    """Pooled connections to one EHR; safe to share among threads.

    A request whose credential is not accepted (401) was not carried out, so it is sent once more
    where the login has another: an access token may have been withdrawn before its end. Both
    together are one request, which ends when one would; who asked sees the last answer only.
    """

    def __init__(
        self,
        *,
        login: Login,
        timeout_s: float,
        max_response_bytes: int,
        verify: SSLContext | bool = True,
        pace: Callable[[], None] = lambda: None,
    ) -> None:
        self._login = login
        self._pace = pace
        self._timeout_s = timeout_s
        self._max_bytes = max_response_bytes
        self._http = httpx.Client(
            timeout=timeout_s,
            limits=_LIMITS,
            verify=public_authorities() if verify is True else verify,
            trust_env=False,
            follow_redirects=False,
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._http.close()

    def send(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        max_bytes: int | None = None,
    ) -> Answer:
        """Send one request.

        Args:
            method: HTTP method.
            url: Already known to lie under the EHR's base URL: the credential goes with it.
            body: Sent as it is; FHIR JSON unless `headers` say otherwise.
            headers: Added to the usual ones.
            max_bytes: Of the answer, where that is less than of any.

        Raises:
            EhrUnreachable: No connection, or it broke before the answer was whole.
            EhrTimeout: The answer took too long.
            EhrAnswerTooLarge: It is larger than allowed.
            EhrAnswerUnreadable: It is compressed in a way not asked for.
        """
        self._pace()
        deadline = time.monotonic() + self._timeout_s
        request = self._http.build_request(
            method, url, content=body, headers=_headers(headers, has_body=body is not None)
        )
        with _named_errors(), self._answered(request, self._login, deadline) as response:
            limit = min(self._max_bytes, max_bytes or self._max_bytes)
            content = _read(response, deadline, limit)
            return Answer(response.status_code, response.headers, content)

    @contextmanager
    def stream(
        self, url: str, headers: Mapping[str, str], *, has_credential: bool = True
    ) -> Iterator["Streamed"]:
        """Ask for something large and read it as it comes.

        Args:
            url: Already known to lie where the credential may go.
            headers: Added to the usual ones.
            has_credential: Whether the credential goes with it.

        Raises:
            EhrUnreachable: No connection, or it broke before the answer was whole.
            EhrTimeout: For as long as one answer may take, nothing came.
            EhrAnswerUnreadable: It is compressed in a way not asked for.
        """
        self._pace()
        request = self._http.build_request("GET", url, headers=_headers(headers))
        login = self._login if has_credential else NO_LOGIN
        with _named_errors(), self._answered(request, login) as response:
            yield Streamed(response)

    @contextmanager
    def _answered(
        self, request: httpx.Request, login: Login, until: float = math.inf
    ) -> Iterator[httpx.Response]:
        """Send a request; once more where there is another credential for one that was refused.

        Args:
            request: Without a credential.
            login: Gives it.
            until: When the answer has to be there, by `time.monotonic`.
        """
        header = login.header()
        if time.monotonic() >= until:  # a new token took so long; who waits counts on the deadline
            raise EhrTimeout
        with self._sent(request, header) as response:
            another = self._another(response, login, header)
            left_s = min(until - time.monotonic(), self._timeout_s)
            if another is None or left_s <= 0:
                yield response
                return
        request.extensions["timeout"] = httpx.Timeout(left_s).as_dict()
        with self._sent(request, another) as response:
            yield response

    def _another(self, response: httpx.Response, login: Login, header: str | None) -> str | None:
        if header is None or response.status_code != httpx.codes.UNAUTHORIZED:
            return None
        another = login.renewed(header)
        if another is not None:
            self._pace()
        return another

    @contextmanager
    def _sent(self, request: httpx.Request, header: str | None) -> Iterator[httpx.Response]:
        if header is not None:
            request.headers["Authorization"] = header
        with closing(self._http.send(request, stream=True)) as response:
            yield response


class Streamed:
    """An answer that is being read.

    Attributes:
        is_plain: Whether it is not compressed; some proxies do that although nobody asked.
    """

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        encoding = response.headers.get("content-encoding", "")
        self.is_plain = encoding in {"", "identity"}
        if not self.is_plain and encoding not in {"gzip", "deflate"}:
            raise EhrAnswerUnreadable

    def pieces(self, most: int = 2**18) -> Iterator[bytes]:
        """Give the content in pieces; what was compressed in pieces of at most so many bytes."""
        if self.is_plain:
            yield from self._response.iter_raw()
            return
        expanding = zlib.decompressobj(_GZIP_OR_ZLIB)
        for chunk in self._response.iter_raw():
            left = chunk
            while left:
                yield expanding.decompress(left, most)
                left = expanding.unconsumed_tail

    def body(self, most: int) -> bytes:
        """Read at most so many bytes of the content: what an error says."""
        content = bytearray()
        for piece in self.pieces(most):
            content += piece
            if len(content) >= most:
                break
        return bytes(content[:most])


def _read(response: httpx.Response, deadline: float, limit: int) -> bytes:
    """Read a body without ever holding more of it than is allowed, and a piece."""
    content = bytearray()
    for piece in Streamed(response).pieces():
        content += piece
        if len(content) > limit:
            raise EhrAnswerTooLarge
        if time.monotonic() > deadline:
            raise EhrTimeout
    return bytes(content)


def _headers(more: Mapping[str, str] | None, *, has_body: bool = False) -> dict[str, str]:
    headers = {"Accept": FHIR_JSON, "Accept-Encoding": "identity", "User-Agent": "nadi"}
    return headers | ({"Content-Type": FHIR_JSON} if has_body else {}) | dict(more or {})


@contextmanager
def _named_errors() -> Iterator[None]:
    """Turn what httpx raises into errors of ours.

    The originals are not chained: a protocol error quotes the bytes that the EHR sent.
    """
    try:
        yield
    except httpx.ConnectTimeout:
        raise unreachable(Obstacle.NO_CONNECTION) from None
    except httpx.TimeoutException:
        raise EhrTimeout from None
    except (httpx.TransportError, zlib.error) as error:
        # A server that misses our certificate says so only after the handshake (TLS 1.3).
        obstacle = obstacle_of(error)
        raise (unreachable(obstacle) if obstacle else _broken(error)) from None


def _broken(error: Exception) -> EhrUnreachable:
    kind = type(error).__name__
    return EhrUnreachable(f"The EHR ended the connection before its answer was whole ({kind}).")
