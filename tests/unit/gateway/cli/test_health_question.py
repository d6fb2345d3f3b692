"""The API is asked how it is, and nobody waits for its answer."""

import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from gateway.cli.health_question import HealthQuestion
from gateway.settings import Settings

ANSWER = b'HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n{"status": "not ready"}'


@pytest.fixture
def api() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def question(api: socket.socket, patience_s: float = 5) -> HealthQuestion:
    return HealthQuestion(Settings(port=api.getsockname()[1]), patience_s=patience_s)


def ended(asked: HealthQuestion) -> Mapping[str, Any] | None:
    """Look until the question is no longer open."""
    until = time.monotonic() + 5
    while True:
        found = asked.answer()
        if found is not None or not asked.is_open:
            return found
        assert time.monotonic() < until
        time.sleep(0.005)


def test_an_answer_that_comes_in_pieces_is_read_when_it_is_whole(api: socket.socket):
    asked = question(api)
    asked.put()
    server, _ = api.accept()
    asked.answer()
    assert server.recv(1024).startswith(b"GET /health/ready ")

    server.sendall(ANSWER[:60])
    assert asked.answer() is None
    server.sendall(ANSWER[60:])
    assert asked.answer() is None
    server.close()

    assert ended(asked) == {"status": "not ready"}
    assert not asked.is_open


def test_an_api_that_says_nothing_is_given_up_after_a_while(api: socket.socket):
    asked = question(api, patience_s=0.05)
    asked.put()

    assert asked.answer() is None
    assert asked.is_open
    assert ended(asked) is None


def test_an_api_that_is_not_there_is_not_waited_for():
    asked = HealthQuestion(Settings(port=9))
    asked.put()

    assert ended(asked) is None


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n\r\n[1]", b"\x00" * 70, b"{}"])
def test_what_is_no_answer_counts_as_none(api: socket.socket, said: bytes):
    asked = question(api)
    asked.put()
    asked.answer()
    server, _ = api.accept()
    server.recv(1024)
    server.sendall(said)
    server.close()

    assert ended(asked) is None
    assert not asked.is_open


def test_a_question_that_is_put_again_forgets_the_one_before(api: socket.socket):
    asked = question(api)
    asked.put()
    asked.answer()
    asked.put()
    asked.answer()
    first, second = api.accept()[0], api.accept()[0]

    assert first.recv(1024).startswith(b"GET ")
    assert first.recv(1024) == b""
    second.recv(1024)
    second.sendall(ANSWER)
    second.close()
    first.close()
    assert ended(asked) == {"status": "not ready"}


def test_an_answer_without_end_is_given_up(api: socket.socket):
    asked = question(api)
    asked.put()
    asked.answer()
    server, _ = api.accept()
    server.setblocking(False)
    until = time.monotonic() + 5
    while asked.is_open and time.monotonic() < until:
        try:
            server.send(b"x" * 65_536)
        except BlockingIOError:
            pass
        except OSError:
            break
        assert asked.answer() is None

    assert not asked.is_open
    server.close()
