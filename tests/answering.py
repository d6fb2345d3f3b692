"""A server on a real socket that answers what a test tells it to, and remembers what was asked."""

import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request, its header names in lower case; when it came, by the monotonic clock."""

    path: str
    headers: Mapping[str, str]
    at_s: float


@dataclass
class Answering:
    """What the server was asked, and what it answers."""

    base: str = ""
    requests: list[Asked] = field(default_factory=list)
    #: How far its clock is ahead, in seconds.
    ahead_s: float = 0
    #: Header that every answer has besides.
    more: Mapping[str, str] = field(default_factory=dict)
    #: What a path has to hold to be answered late, and by how many seconds.
    late_s: Mapping[str, float] = field(default_factory=dict)
    #: What a path has to hold to be refused, and with which status.
    refused: Mapping[str, int] = field(default_factory=dict)
    _status: int = 200
    _body: bytes = b""
    _headers: Mapping[str, str] = field(default_factory=dict)
    _at: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    def answer_at(self, path: str, body: bytes, *, status: int = 200) -> None:
        """Answer a request for this path, whatever its query, otherwise than all the others."""
        self._at[path] = status, body

    def answer(
        self, body: bytes, *, status: int = 200, content_type: str = "", **headers: str
    ) -> None:
        """Answer every request so from now on."""
        self._status, self._body = status, body
        self._headers = {"Content-Type": content_type} if content_type else {}
        self._headers |= {name.replace("_", "-"): value for name, value in headers.items()}

    def reply(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.requests.append(Asked(handler.path, headers, time.monotonic()))
        status, body = self._at.get(handler.path.partition("?")[0], (self._status, self._body))
        time.sleep(max((s for part, s in self.late_s.items() if part in handler.path), default=0))
        refused = (code for part, code in self.refused.items() if part in handler.path)
        handler.send_response(next(refused, status))
        for name, value in {**self._headers, **self.more}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)


@contextmanager
def answering(tls: ssl.SSLContext | None = None) -> Iterator[Answering]:
    """Run such a server for a while, by TLS where it is given one."""
    told = Answering()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.reply(self)

        def do_HEAD(self) -> None:
            told.reply(self)

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string((timestamp or time.time()) + told.ahead_s)

        def log_message(self, *_: Any) -> None:
            pass

    with serving(Handler, tls) as told.base:
        yield told


@contextmanager
def serving(
    handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Let a handler answer on a socket for a while; give its origin."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
