"""Two installations that know each other, servers on real sockets, for tests of witnesses."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from gateway.app import build
from gateway.core.clock import new_id
from gateway.settings import Settings
from gateway.store.audit_log import AuditFilter
from tests.installation import Installation


def put_site(nadi: Installation, more: str) -> None:
    """Put the site in force with some lines more."""
    from gateway.cli.context import Opened
    from gateway.cli.site import put_in_force

    with nadi.store.read() as uow:
        row = uow.sites.current()
    assert row is not None
    base = row.yaml.partition("# witnesses\n")[0]
    opened = Opened(nadi.settings, nadi.keys, nadi.store)
    put_in_force(opened, f"{base}# witnesses\n{more}", "sandbox")


def newest(nadi: Installation) -> tuple[int, str]:
    with nadi.store.read() as uow:
        found = uow.audit_proofs.newest()
    assert found is not None
    return found


def reasons(nadi: Installation, event: str = "note") -> list[str]:
    """Give the bodies of AuditEvents of one kind, newest first."""
    with nadi.store.read() as uow:
        return [row.body.decode() for row in uow.audit_log.search(AuditFilter(event=event))]


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Run the API of an installation on a real socket; give its address."""
    broker = f"redis+socket://{folder}/no-broker-{new_id()}.sock"
    app = build(Settings(data_dir=folder, broker_url=broker))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/witness/checkpoints"
    finally:
        server.should_exit = True
        thread.join()


class Lines:
    """What a server was sent."""

    def __init__(self) -> None:
        self.received = b""
        self.ended = threading.Event()
        self.port = 0

    def wait(self) -> bytes:
        assert self.ended.wait(20), "nothing came"
        return self.received


@contextmanager
def tcp_server() -> Iterator[Lines]:
    """Take what is sent over one connection, to its end."""
    told = Lines()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            told.received = self.rfile.read()
            told.ended.set()

    with _running(socketserver.TCPServer(("127.0.0.1", 0), Handler)) as told.port:
        yield told


@contextmanager
def udp_server() -> Iterator[Lines]:
    """Take one datagram."""
    told = Lines()

    class Handler(socketserver.DatagramRequestHandler):
        def handle(self) -> None:
            told.received = self.rfile.read()
            told.ended.set()

    with _running(socketserver.UDPServer(("127.0.0.1", 0), Handler)) as told.port:
        yield told


@contextmanager
def mail_server() -> Iterator[Lines]:
    """Take one mail as a mail server does (RFC 5321)."""
    told = Lines()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 test\r\n")
            while line := self.rfile.readline():
                verb = line[:4].upper()
                if verb == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    mail = b""
                    while (line := self.rfile.readline()) != b".\r\n":
                        mail += line.removeprefix(b".") if line.startswith(b"..") else line
                    told.received = mail
                    told.ended.set()
                self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 8BITMIME\r\n")
                if verb == b"QUIT":
                    return

    with _running(socketserver.TCPServer(("127.0.0.1", 0), Handler)) as told.port:
        yield told


@contextmanager
def _running(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def free_port() -> int:
    """Give a port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
