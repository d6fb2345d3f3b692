"""The bytes of one accepted connection, in clear or by TLS, on asyncio's streams.

asyncio makes handshakes too, but keeps to itself what is wrong with one, and hangs up on the peer
without a word. Here whoever accepted the connection gets the error, and the peer gets the alert of
TLS that tells its reason, so that both sides have it in their logs.

Source: RFC 8446 section 6.2 (Error Alerts).
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from functools import partial
from typing import TypeVar

_PIECE_BYTES = 64 * 1024
#: The peer gets so long to read an alert before the connection is closed.
_ALERT_READ_WITHIN_S = 1.0

T = TypeVar("T")


class Stream:
    """In clear."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take both directions of a connection."""
        self._reader = reader
        self._writer = writer

    async def read(self, size: int) -> bytes:
        """Give what came, at most so much; nothing when the peer has ended."""
        return await self._reader.read(size)

    async def send(self, content: bytes) -> None:
        """Send, and wait while the peer does not read."""
        self._writer.write(content)
        await self._writer.drain()

    def end(self) -> None:
        """Say that no more will come; the connection is closed by whoever accepted it."""


class TlsStream(Stream):
    """By TLS, as a server. One task reads and sends."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        context: ssl.SSLContext,
    ) -> None:
        """Take a connection on which nothing was read yet.

        Args:
            reader: What comes.
            writer: What goes.
            context: Certificate, key, and what is asked of the peer.
        """
        super().__init__(reader, writer)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.begins = b""

    async def handshake(self) -> None:
        """Make the handshake; `begins` is then what came first.

        Raises:
            ssl.SSLError: It failed; the peer was told why.
            OSError: The connection broke.
        """
        try:
            await self._through(self._tls.do_handshake)
        except ssl.SSLError:
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(self._let_alert_be_read(), _ALERT_READ_WITHIN_S)
            raise
        await self._flush()

    async def read(self, size: int) -> bytes:
        """Give what came, at most so much; nothing when the peer has ended."""
        try:
            return await self._through(lambda: self._tls.read(size))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):  # with a farewell, and without
            return b""

    async def send(self, content: bytes) -> None:
        """Send, and wait while the peer does not read."""
        left = memoryview(content)
        while left:  # TLS takes 16 KiB at once
            written = await self._through(partial(self._tls.write, left))
            left = left[written:]
        await self._flush()

    def end(self) -> None:
        """Say that no more will come; nobody waits for the peer to say so too."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._writer.write(self._outgoing.read())

    async def _through(self, step: Callable[[], T]) -> T:
        """Take a step of TLS, bringing it what it has to read."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fetch()

    async def _fetch(self) -> None:
        piece = await self._reader.read(_PIECE_BYTES)
        self.begins = self.begins or piece[:2]
        if piece:
            self._incoming.write(piece)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        self._writer.write(self._outgoing.read())
        await self._writer.drain()

    async def _let_alert_be_read(self) -> None:
        """Send the alert, and read on until the peer ends.

        To close a connection on which something lies unread is to reset it, and that would overtake
        the alert.
        """
        await self._flush()
        self._writer.write_eof()
        while await self._reader.read(_PIECE_BYTES):
            pass
