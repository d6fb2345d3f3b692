"""While it starts, `nadi up` says what it waits for, not that something failed."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from gateway.cli.up import Readiness
from gateway.settings import Settings


class _Starting(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        checks = {"database": "up", "schema": "migration needed", "canary": "unknown"}
        body = json.dumps({"status": "not ready", "checks": checks}).encode()
        self.send_response(503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the terminal quiet."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    made = HTTPServer(("127.0.0.1", 0), _Starting)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def look(port: int) -> None:
    """Look for as long as until something is to be told."""
    looking = Readiness(Settings(port=port), pytest.fail, slow_after_s=(0.2, 60.0))
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        time.sleep(looking() / 5)
    looking.close()


def test_a_slow_start_says_what_the_gateway_waits_for(
    server: HTTPServer, capsys: pytest.CaptureFixture[str]
) -> None:
    look(server.server_port)

    told = " ".join("".join(capsys.readouterr()).split())
    assert "Still starting after 0.2 s: waiting for schema (migration needed)" in told


def test_a_start_without_an_answer_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    look(9)

    told = " ".join("".join(capsys.readouterr()).split())
    assert "Still starting after 0.2 s: waiting for the API to answer." in told
    assert "doctor" not in told
