"""`nadi up` runs the listeners that the API says the site wants."""

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from gateway.cli import followed_listeners
from gateway.cli.followed_listeners import FollowedListeners, soonest, wanted_kinds
from gateway.cli.health_question import LOOK_AGAIN_S
from gateway.settings import Settings
from gateway.supervisor import Child


class _Api(BaseHTTPRequestHandler):
    listeners: object = None

    def do_GET(self) -> None:
        body = json.dumps({"status": "ready", "listeners": self.listeners}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the terminal quiet."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    made = HTTPServer(("127.0.0.1", 0), type("Api", (_Api,), {}))
    thread = threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


class Supervised:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def add(self, child: Child) -> None:
        assert child.command[1:] == ("-m", f"gateway.listeners.{child.name}")
        assert child.command[0] == sys.executable
        self.told.append(f"add {child.name}")

    def remove(self, name: str) -> None:
        self.told.append(f"remove {name}")


def test_listeners_come_and_go_with_the_site(server: HTTPServer):
    supervised, api = Supervised(), server.RequestHandlerClass
    follow = FollowedListeners(Settings(port=server.server_port), supervised)

    def look() -> None:
        follow._ask_at = time.monotonic()
        assert follow() == LOOK_AGAIN_S
        until = time.monotonic() + 5
        while (nap_s := follow()) == LOOK_AGAIN_S:
            assert time.monotonic() < until
            time.sleep(0.005)
        assert 0 < nap_s <= followed_listeners.ASK_EVERY_S

    api.listeners = {"lab/mllp": "not running", "ward/mllp": "up"}
    look()
    look()
    api.listeners = None
    look()
    assert supervised.told == ["add mllp"]
    api.listeners = {}
    look()
    follow.close()
    assert supervised.told == ["add mllp", "remove mllp"]


def test_a_kind_that_this_nadi_does_not_have_is_left_out():
    assert wanted_kinds({"listeners": {"lab/pigeon": "not running"}}) == set()


def test_while_the_api_does_not_answer_nothing_changes():
    supervised = Supervised()

    follow = FollowedListeners(Settings(port=9), supervised)
    follow()
    follow()
    follow.close()

    assert supervised.told == []


def test_an_api_that_is_frozen_holds_up_nobody():
    frozen = socket.create_server(("127.0.0.1", 0))
    supervised = Supervised()
    follow = FollowedListeners(Settings(port=frozen.getsockname()[1]), supervised)

    began = time.monotonic()
    naps = [follow() for _ in range(100)]

    assert time.monotonic() - began < 5, "nobody waited for an answer, which takes seconds each"
    assert set(naps) == {LOOK_AGAIN_S}
    assert supervised.told == []
    follow.close()
    frozen.close()


def test_the_soonest_of_several_ticks_counts():
    assert soonest(lambda: 2.0, lambda: float("inf"))() == 2.0
