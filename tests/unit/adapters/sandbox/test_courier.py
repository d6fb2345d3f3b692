import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from adapters.sandbox.courier import HttpCourier


class _Endpoint(BaseHTTPRequestHandler):
    """Answers with the status that the path names; `/bye` closes the connection afterwards."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str, bytes, int]]

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((self.command, self.path, body, self.client_address[1]))
        self.send_response(int(self.path.split("/")[1]))
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.close_connection = "bye" in self.path

    do_PUT = do_POST = _answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint() -> Iterator[ThreadingHTTPServer]:
    handler = type("Handler", (_Endpoint,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def send_all(server: ThreadingHTTPServer, *paths: str) -> list[int | None]:
    async def run() -> list[int | None]:
        courier = HttpCourier()
        base_url = f"http://127.0.0.1:{server.server_port}"
        found = [
            await courier.send("PUT", f"{base_url}{path}", headers={"X": "y"}, body=b"{}")
            for path in paths
        ]
        courier.close()
        return found

    return asyncio.run(run())


def test_requests_share_a_connection(endpoint: ThreadingHTTPServer) -> None:
    statuses = send_all(endpoint, "/202/a", "/503/b?c=d")

    seen = endpoint.RequestHandlerClass.seen
    assert statuses == [202, 503]
    assert [each[:3] for each in seen] == [("PUT", "/202/a", b"{}"), ("PUT", "/503/b?c=d", b"{}")]
    assert len({port for _, _, _, port in seen}) == 1


def test_a_connection_closed_while_idle_is_opened_again(endpoint: ThreadingHTTPServer) -> None:
    assert send_all(endpoint, "/200/bye", "/201/a") == [200, 201]


def test_an_endpoint_that_is_away_gives_no_status() -> None:
    async def run() -> int | None:
        return await HttpCourier().send("PUT", "http://127.0.0.1:1/x", headers={}, body=b"")

    assert asyncio.run(run()) is None
