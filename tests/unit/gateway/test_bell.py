"""The doorbell of the relay, on a real Valkey and, where installed, on Redis and RabbitMQ."""

import tempfile
import threading
import time
from pathlib import Path

import pytest

from gateway.bell import BELL_LENGTH, Bell
from tests import rabbitmq
from tests import valkey as valkey_server
from tests.running import free_ports
from tests.valkey import Valkey


@pytest.fixture(scope="module")
def valkey():
    with tempfile.TemporaryDirectory(prefix="nadi-") as folder:
        server = Valkey(Path(folder))
        server.start()
        yield server
        server.kill()


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory):
    if not rabbitmq.PROGRAM.exists():
        pytest.skip(rabbitmq.MISSING)
    with rabbitmq.node(tmp_path_factory.mktemp("rabbitmq")) as node:
        yield node


@pytest.fixture(scope="module")
def redis():
    if valkey_server.SYSTEM is None:
        pytest.skip(valkey_server.MISSING)
    with tempfile.TemporaryDirectory(prefix="nadi-") as folder:
        server = Valkey(Path(folder), valkey_server.SYSTEM)
        server.start()
        yield server
        server.kill()


@pytest.fixture(scope="module", params=["valkey", "redis", "rabbit"])
def broker(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def bell(broker):
    bell = Bell(broker.url)
    while bell.wait(0.05):
        pass
    yield bell
    bell.close()


def test_a_knock_wakes_the_waiting_relay_at_once(bell):
    visitor = threading.Timer(0.1, bell.knock)
    visitor.start()
    started = time.monotonic()

    messages = bell.wait(5)

    visitor.join()
    assert messages == ["knock"]
    assert time.monotonic() - started < 4, "it did not wait until its time was over"


def test_everything_that_lies_there_is_taken_in_order(bell):
    bell.knock()
    bell.done("batch-1", "infer@a")
    bell.knock()

    # What AMQP sends has no answer, so the last may arrive a moment later than the first is taken.
    heard = bell.wait(1)
    while len(heard) < 3:
        heard += bell.wait(1)
    assert heard == ["knock", "done:batch-1 infer@a", "knock"]
    assert bell.wait(0.05) == []


def test_a_bell_that_nobody_hears_does_not_grow_without_bound(broker):
    bell = Bell(broker.url)
    for number in range(BELL_LENGTH + 5):
        bell.done(str(number), "w")
    # What AMQP sends has no answer: the last is waited for.
    heard = []
    while f"done:{BELL_LENGTH + 4} w" not in heard:
        heard += bell.wait(1)
    bell.close()

    assert heard == [f"done:{number} w" for number in range(5, BELL_LENGTH + 5)]


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_knocking_never_raises_and_leaves_an_absent_broker_alone_for_a_while(scheme):
    (port,) = free_ports(1)
    bell = Bell(f"{scheme}://127.0.0.1:{port}/0")
    started = time.monotonic()

    for _ in range(100):
        bell.knock()

    assert time.monotonic() - started < 5
    assert bell.wait(0.05) == []


def test_a_bell_hears_again_after_the_broker_was_killed(valkey):
    bell = Bell(valkey.url)
    bell.knock()
    assert bell.wait(1) == ["knock"]
    valkey.kill()
    assert bell.wait(0.05) == []
    valkey.start()

    bell.done("batch-2", "w")

    assert bell.wait(1) == ["done:batch-2 w"]
    bell.close()
