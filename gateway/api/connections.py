"""What one connection, and one address, may take of this process before a request is even read.

* Only so many connections at once, and so many of one address; more are answered 503.
* A request's headers have to arrive within a time and a size, its body within a time; whoever
  drips them (slowloris), or connects and says nothing, is answered 408 and dropped.
* What surrounds a body (chunk sizes, trailers) may not be more than a body deserves.
* Only so many requests may wait behind one another in a connection.
* Who does not read the answer is dropped.

What can't be read as HTTP is answered 400; every one of these answers is an OperationOutcome.

Source: RFC 9110 sections 15.5.9 (408), 15.6.4 (503); RFC 6585 section 5 (431); RFC 9112.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.api.outcome import FHIR_JSON, operation_outcome
from gateway.core.errors import Issue
from gateway.settings import Settings
from gateway.telemetry import count_dropped

_MOST_PIPELINED = 64
# A chunk of one byte needs five more around it; nobody needs more than this.
_AROUND_A_BYTE = 8


class PipelineTooLong(Exception):
    """More requests wait behind one another in a connection than are taken."""


@dataclass
class Census:
    """The open connections, by address.

    Attributes:
        most: Of all addresses together.
        most_of_one: Of one address.
    """

    most: int
    most_of_one: int
    _open: Counter[str] = field(default_factory=Counter)

    def enter(self, address: str) -> bool:
        """Count a connection in, if there is room for it."""
        if self._open.total() >= self.most or self._open[address] >= self.most_of_one:
            return False
        self._open[address] += 1
        return True

    def leave(self, address: str) -> None:
        """Count a connection out."""
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]


@dataclass(frozen=True)
class _Refusal:
    status: str
    code: str
    words: str
    reason: str


_TOO_MANY = _Refusal(
    "503 Service Unavailable",
    "throttled",
    "Too many connections are open; close some, or keep them open and use them again.",
    "too-many",
)
_TOO_SLOW = _Refusal(
    "408 Request Timeout", "timeout", "The request did not arrive in time; send it again.", "slow"
)
_TOO_LARGE = _Refusal(
    "431 Request Header Fields Too Large",
    "too-long",
    "The headers, or what surrounds the body, are larger than is read here.",
    "too-large",
)
_NO_HTTP = _Refusal(
    "400 Bad Request", "structure", "This can't be read as an HTTP request.", "no-http"
)


class BoundedConnection(HttpToolsProtocol):
    """One connection, which may take only so much time and memory."""

    settings: Settings
    census: Census

    _address: str | None = None
    _arriving: asyncio.TimerHandle | None = None
    _writing: asyncio.TimerHandle | None = None
    _is_head = True
    _fed = 0
    _body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection in, or refuse it."""
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        if not self.census.enter(address):
            self._drop(_TOO_MANY)
            return
        self._address = address
        self._arrive_within(self.settings.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let a connection go."""
        self._arrived()
        self._written()
        if self._address is not None:
            self.census.leave(self._address)
            self._address = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what arrived, unless this connection is being dropped."""
        if self.transport.is_closing():
            return
        self._fed += len(data)
        super().data_received(data)
        most = self.settings.max_header_bytes + _AROUND_A_BYTE * self._body
        if self._fed - self._body > most and not self.transport.is_closing():
            self._drop(_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Begin to wait for the headers of a request."""
        super().on_message_begin()
        self._is_head, self._fed, self._body = True, 0, 0
        self._arrive_within(self.settings.header_timeout_s)

    def on_headers_complete(self) -> None:
        """Begin to wait for its body.

        Raises:
            PipelineTooLong: Too many requests wait before it.
        """
        if len(self.pipeline) >= _MOST_PIPELINED:
            raise PipelineTooLong
        super().on_headers_complete()
        self._is_head, self._fed = False, 0
        self._arrive_within(self.settings.body_timeout_s)

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop waiting: all of the request is here."""
        self._arrived()
        self._fed = self._body = 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Begin to wait for a reader who does not read."""
        super().pause_writing()
        self._written()
        self._writing = self.loop.call_later(self.settings.write_timeout_s, self._give_up)

    def resume_writing(self) -> None:
        """Stop waiting: the reader reads."""
        self._written()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - our own words are sent
        """Refuse what is no HTTP."""
        self._drop(_NO_HTTP)

    def _arrive_within(self, seconds: float) -> None:
        self._arrived()
        self._arriving = self.loop.call_later(seconds, self._drop, _TOO_SLOW)

    def _arrived(self) -> None:
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None

    def _written(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def _give_up(self) -> None:
        count_dropped("unread")
        self.transport.abort()

    def _drop(self, why: _Refusal) -> None:
        """Say why, where an answer is still possible, and close."""
        if self.transport.is_closing():
            return
        count_dropped(why.reason)
        is_answering = not self._is_head and self.cycle.response_started
        if not is_answering and not self.pipeline:
            self.transport.write(_answer(why))
        self.transport.close()
        # What can't be sent to somebody who does not read would keep the connection open.
        self.loop.call_later(self.settings.write_timeout_s, self.transport.abort)


def _answer(why: _Refusal) -> bytes:
    body = orjson.dumps(operation_outcome([Issue(why.code, why.words)]))
    retry = "Retry-After: 1\r\n" if why is _TOO_MANY else ""
    head = (
        f"HTTP/1.1 {why.status}\r\nContent-Type: {FHIR_JSON}\r\nContent-Length: {len(body)}\r\n"
        f"{retry}Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


def bounded(settings: Settings) -> type[BoundedConnection]:
    """Give the class of connections of one server."""
    census = Census(settings.max_connections, settings.max_connections_per_address)
    return type("Bounded", (BoundedConnection,), {"settings": settings, "census": census})
