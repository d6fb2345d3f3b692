"""A small HTTP client that costs the machine little: it shares two cores with what it measures.

One event loop, connections that are kept, requests written as bytes made beforehand, answers read
by the same C parser that uvicorn uses. Nothing of an answer is kept but its status.
"""

import asyncio
from typing import cast

import httptools

from benchmarks.endpoint import Endpoint

_TIMEOUT_S = 120.0


class _Connection(asyncio.Protocol):
    """One connection with at most one request under way."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Hand the status to whoever waits; the parser calls it."""
        if self._answer and not self._answer.done():
            self._answer.set_result(self._parser.get_status_code())

    def connection_lost(self, _error: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the server hung up"))

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent on it."""
        return self._transport is not None and not self._transport.is_closing()

    async def send(self, request: bytes) -> int:
        """Send a request and give the status of its answer."""
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport is None:
            raise ConnectionResetError("the connection was never made")
        self._transport.write(request)
        return await asyncio.wait_for(self._answer, _TIMEOUT_S)

    def close(self) -> None:
        """End it."""
        if self._transport:
            self._transport.close()


class Pool:
    """Connections to one server, the one used last first; as many as are wanted at once."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._idle: list[_Connection] = []

    async def send(self, request: bytes) -> int:
        """Send a request over an idle connection, or over a new one.

        A server may hang up on a connection that was idle for long, just as it is used again: then
        the request is sent once more, over a new one.
        """
        connection, is_new = await self._connection()
        try:
            status = await connection.send(request)
        except ConnectionResetError:
            if is_new:
                raise
            connection = await self._opened()
            status = await connection.send(request)
        self._idle.append(connection)
        return status

    def close(self) -> None:
        """End all connections."""
        for connection in self._idle:
            connection.close()

    async def _connection(self) -> tuple[_Connection, bool]:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection, False
        return await self._opened(), True

    async def _opened(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(_Connection, "127.0.0.1", self._endpoint.port)
        return made


def post_request(endpoint: Endpoint, path: str, body: bytes) -> bytes:
    """Write a POST as it goes over the wire."""
    headers = {"Host": "127.0.0.1", **endpoint.headers, "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body
