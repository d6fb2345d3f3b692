"""Ringing the workers, on a real Valkey."""

import base64
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu.message import Message

from gateway.broker import KEY_PREFIX
from gateway.core.errors import TransientError
from gateway.queue import (
    DELIVER_TASK,
    INFER_QUEUE,
    INFER_TASK,
    BrokerAway,
    Ringer,
    celery_configuration,
)
from gateway.settings import Settings
from tests.valkey import Valkey


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
    assert time.monotonic() - started < 10


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


@contextmanager
def taking(app: Celery, *, most: int) -> Iterator[tuple[Any, list[Message]]]:
    """Take messages as a worker does, `most` at a time; the connection and those that came."""
    taken: list[Message] = []
    with app.connection_for_read() as connection:
        consumer = app.amqp.TaskConsumer(
            connection.channel(), queues=[app.amqp.queues[INFER_QUEUE]]
        )
        consumer.qos(prefetch_count=most)
        consumer.on_message = taken.append
        with consumer:
            yield connection, taken


def drain(connection: Any) -> None:
    with suppress(TimeoutError):
        while True:
            connection.drain_events(timeout=0.3)


@pytest.mark.usefixtures("valkey")
def test_a_worker_takes_no_more_batches_than_it_has_threads_until_it_has_begun_one(ringer):
    for number in range(3):
        ringer.ring(INFER_TASK, [f"job-{number}"])

    with taking(ringer._app, most=2) as (connection, taken):
        drain(connection)
        assert len(taken) == 2

        taken[0].ack()
        drain(connection)

        assert len(taken) == 3


def test_what_a_worker_took_is_written_down_nowhere_at_the_broker(valkey, ringer):
    ringer.ring(INFER_TASK, ["job-1"])
    ringer.ring(INFER_TASK, ["job-2"])

    with taking(ringer._app, most=2) as (connection, taken):
        drain(connection)
        taken[0].ack()
        taken[1].reject(requeue=True)

        assert len(taken) == 2
        with valkey.client() as client:
            assert not [key for key in client.scan_iter() if "unacked" in key]
            assert client.llen(f"{KEY_PREFIX}infer") == 0
