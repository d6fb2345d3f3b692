"""Carries one push to its endpoint over a kept connection.

The standard library's client in a thread costs about a quarter of the CPU time of an asynchronous
httpx request; this EHR shares the machine with the gateway that is being measured.
"""

import asyncio
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

_TIMEOUT_S = 10.0


class Courier(Protocol):
    """Sends requests one after the other."""

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes
    ) -> int | None:
        """Send a request and give the status of the answer, None when there was none."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class HttpCourier:
    """A courier with one connection, to the endpoint it was last sent to."""

    def __init__(self) -> None:
        self._connection: HTTPConnection | None = None
        self._origin = ("", "")

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes
    ) -> int | None:
        """Send a request and give the status of the answer, None when there was none."""
        return await asyncio.to_thread(self._send, method, urlsplit(url), headers, body)

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _send(
        self, method: str, url: SplitResult, headers: Mapping[str, str], body: bytes
    ) -> int | None:
        if self._origin != (url.scheme, url.netloc):
            self.close()
            self._origin = (url.scheme, url.netloc)
        was_kept = self._connection is not None
        status = self._once(method, url, headers, body)
        # A kept connection may have been closed by the other side while it was idle.
        return self._once(method, url, headers, body) if status is None and was_kept else status

    def _once(
        self, method: str, url: SplitResult, headers: Mapping[str, str], body: bytes
    ) -> int | None:
        try:
            if self._connection is None:
                secure = url.scheme == "https"
                kind = HTTPSConnection if secure else HTTPConnection
                self._connection = kind(url.netloc, timeout=_TIMEOUT_S)
            target = f"{url.path}?{url.query}" if url.query else url.path or "/"
            self._connection.request(method, target, body=body, headers=dict(headers))
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, HTTPException, ValueError):
            self.close()
            return None
        return answer.status
