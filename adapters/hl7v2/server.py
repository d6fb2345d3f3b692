"""The port: takes connections, finds the messages in them, and sends what answers them.

* A message is answered before the next one of its connection is looked at, so they stay in order.
* There are limits to connections, to the size of a message, to how long one may take to arrive and
  how long a connection may be idle, and to how long an answer may stay unread.
* A line with no start block before it is not MLLP: its sender, who would wait for long, is hung up
  on. A few stray bytes before the first block are dropped as those between blocks.
* While no answer can be given, the connection waits: nothing is acknowledged that is not stored.
* Who is refused before any message is told of, with the reason; a peer that fails to make a TLS
  handshake has the reason too, as an alert of TLS.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from adapters.hl7v2.framing import Block, Framing, framed
from adapters.peer_refusal import PeerRefusal, is_tls, refusal_of
from adapters.streams import Stream, TlsStream
from gateway.core.errors import ProcessingError

_PIECE_BYTES = 64 * 1024
#: A message that has begun has to be there within this time, and a TLS handshake within this.
MESSAGE_WITHIN_S = 60.0
HANDSHAKE_WITHIN_S = 30.0
_ANSWER_READ_WITHIN_S = 30.0
_LOOK_EVERY_S = 0.25
_THREADS = 8
_DRAIN_S = 8.0
#: After a minute of silence ask, four times; so a dead peer holds a connection for two minutes.
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}

#: Gives what answers a message; None closes the connection without an answer.
Answer = Callable[[Block, str], "list[bytes] | None"]
#: Told why a peer was refused, and its address; must not block.
Refuse = Callable[[PeerRefusal, str], None]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one port puts up with.

    Attributes:
        allow: Networks that may connect; empty lets everybody.
    """

    max_bytes: int
    max_connections: int
    idle_s: float
    allow: tuple[str, ...] = ()


class PortTaken(ProcessingError):
    """The port can't be listened on."""


class MllpServer:
    """One port."""

    def __init__(
        self,
        answer: Answer,
        limits: Limits,
        *,
        tls: ssl.SSLContext | None = None,
        count: Callable[[str], None] = lambda _outcome: None,
        refuse: Refuse = lambda _why, _peer: None,
    ) -> None:
        """Take what answers and what limits.

        Args:
            answer: Called in a thread, with a block and the address of its sender.
            limits: The limits.
            tls: For MLLPS.
            count: Told why a connection was closed.
            refuse: Told who was refused before any message, and why.
        """
        self._answer = answer
        self._limits = limits
        self._tls = tls
        self._count = count
        self._refuse = refuse
        self._networks = [ip_network(each) for each in limits.allow]
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="mllp")
        self._open: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self._is_ending = False

    def run(
        self, host: str, port: int, stop: threading.Event, *, ready: Callable[[int], None]
    ) -> None:
        """Serve until told to stop.

        Args:
            host: Address to listen on.
            port: Port to listen on; 0 takes any.
            stop: Ends it: what is under way is answered first.
            ready: Told the port once it listens.

        Raises:
            PortTaken: It can't be listened on.
        """
        try:
            asyncio.run(self._serve(host, port, stop, ready))
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def _serve(
        self, host: str, port: int, stop: threading.Event, ready: Callable[[int], None]
    ) -> None:
        try:
            server = await asyncio.start_server(
                self._connected, host, port, limit=_PIECE_BYTES, backlog=128
            )
        except OSError as error:
            message = f"Port {port} can't be listened on at {host} ({error.strerror})."
            raise PortTaken(message) from error
        async with server:
            ready(server.sockets[0].getsockname()[1])
            while not stop.is_set():  # noqa: ASYNC110 (it is set by another thread)
                await asyncio.sleep(_LOOK_EVERY_S)
            server.close()
            await self._end()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, peer = asyncio.current_task(), _peer(writer)
        if task is None or not self._is_let_in(peer):
            writer.close()
            return
        self._open.add(task)
        _notice_the_dead(writer)
        stream: Stream | None = None
        try:
            stream = await self._secured(reader, writer, peer)
            if stream is not None:
                await self._talk(stream, peer)
        except (TimeoutError, OSError, ssl.SSLError, asyncio.CancelledError):
            self._count("dropped")
        finally:
            self._open.discard(task)
            if stream is not None:
                stream.end()
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 1)

    async def _secured(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str
    ) -> Stream | None:
        """Make the handshake of MLLPS; None where it fails."""
        if self._tls is None:
            return Stream(reader, writer)
        stream = TlsStream(reader, writer, self._tls)
        try:
            await asyncio.wait_for(stream.handshake(), HANDSHAKE_WITHIN_S)
        except (TimeoutError, OSError) as error:
            self._refuse(refusal_of(error, stream.begins), peer)
            return None
        return stream

    async def _end(self) -> None:
        """Let what is being answered be answered; idle connections end at once."""
        self._is_ending = True
        for task in self._open - self._answering:
            task.cancel()
        if self._open:
            _, left = await asyncio.wait(self._open, timeout=_DRAIN_S)
            for task in left:
                task.cancel()

    def _is_let_in(self, peer: str) -> bool:
        if len(self._open) >= self._limits.max_connections:
            self._turn_away(PeerRefusal.TOO_MANY, peer)
            return False
        address = ip_address(peer)
        if self._networks and not any(address in network for network in self._networks):
            self._turn_away(PeerRefusal.NOT_ALLOWED, peer)
            return False
        return True

    def _turn_away(self, why: PeerRefusal, peer: str) -> None:
        self._count(why)
        self._refuse(why, peer)

    async def _talk(self, stream: Stream, peer: str) -> None:
        framing, begins = Framing(self._limits.max_bytes), b""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._limits.idle_s
        while piece := await asyncio.wait_for(stream.read(_PIECE_BYTES), until - loop.time()):
            was_inside = framing.is_inside
            blocks = framing.feed(piece)
            begins = begins or piece
            if is_tls(begins) or framing.is_foreign:
                other = PeerRefusal.TLS_IN_CLEAR if is_tls(begins) else PeerRefusal.NO_MLLP
                self._turn_away(other, peer)
                return
            for block in blocks:
                answers = await self._answered(block, peer)
                if answers is None:
                    return
                await _send(stream, answers)
                if self._is_ending:
                    return
            if not framing.is_inside:
                until = loop.time() + self._limits.idle_s
            elif blocks or not was_inside:
                until = loop.time() + MESSAGE_WITHIN_S

    async def _answered(self, block: Block, peer: str) -> list[bytes] | None:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        busy = {task} if task is not None else set()
        self._answering |= busy
        try:
            return await loop.run_in_executor(self._pool, self._answer, block, peer)
        finally:
            self._answering -= busy


async def _send(stream: Stream, answers: Iterable[bytes]) -> None:
    content = b"".join(map(framed, answers))
    await asyncio.wait_for(stream.send(content), _ANSWER_READ_WITHIN_S)


def _notice_the_dead(writer: asyncio.StreamWriter) -> None:
    """Let the kernel ask a silent peer whether it is there: a dead one says nothing."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        # Not every system lets them be chosen.
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _peer(writer: asyncio.StreamWriter) -> str:
    address = str((writer.get_extra_info("peername") or ("0.0.0.0",))[0])  # noqa: S104 - nobody's
    # An IPv4 address that came by an IPv6 socket is written so.
    return address.removeprefix("::ffff:").partition("%")[0]
