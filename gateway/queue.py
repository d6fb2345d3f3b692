"""Ring the workers and the relay: the broker as a doorbell (3).

* The database is the truth. A message holds ids only and may be lost at any moment: the relay
  rings again. So messages are acknowledged early, have no result and are not durable.
* `ring_infer` and `ring_deliver` send one Celery task for a batch of ids over a connection that
  is held open; the batch's id is the id of that task.
* `Bell` wakes the relay: a list on a Redis-protocol broker. AMQP has no such cheap list, so there
  the bell falls back to short polling.
"""

import contextlib
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from amqp.exceptions import AMQPError
from celery import Celery
from celery.signals import setup_logging
from kombu.exceptions import KombuError
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway.core.errors import TransientError
from gateway.settings import Settings, get_settings

INFER_TASK = "nadi.infer"
DELIVER_TASK = "nadi.deliver"
INFER_QUEUE = "infer"
DELIVER_QUEUE = "deliver"

#: What a `Bell` message says when work may be waiting; other messages are `done:<batch id>`.
KNOCK = "knock"
DONE = "done:"

#: Keys of Nadi on a broker that it may share with others.
KEY_PREFIX = "nadi."
BELL_KEY = f"{KEY_PREFIX}bell"

#: Messages kept when no relay listens; more would tell it nothing new.
BELL_LENGTH = 1000
#: Longest single wait, so that a silent connection is noticed.
LONGEST_WAIT_S = 5.0
#: Longest time a knock or a ring may block its caller.
SEND_TIMEOUT_S = 1.0
#: After a failed knock the broker is left alone for this long.
SULK_S = 1.0
#: How often a bell without a list says "have a look".
POLL_S = 0.25


#: Every way in which the client libraries say that the broker does not answer.
BROKER_ERRORS = (KombuError, RedisError, AMQPError, OSError)


class BrokerAway(TransientError):
    """The message broker can't be reached at the moment."""


def celery_configuration(settings: Settings) -> dict[str, object]:
    """Give Celery's settings: early acknowledgement, JSON, no results, no chatter."""
    url = settings.resolved_broker_url
    return {
        "broker_url": url,
        "broker_transport_options": _transport_options(url),
        "broker_connection_timeout": 2.0,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "result_backend": None,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        "task_acks_late": False,
        "task_publish_retry": False,
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "task_default_queue": INFER_QUEUE,
        "task_default_delivery_mode": "transient",
        "task_routes": {
            INFER_TASK: {"queue": INFER_QUEUE},
            DELIVER_TASK: {"queue": DELIVER_QUEUE},
        },
        "task_send_sent_event": False,
        "worker_send_task_events": False,
        "worker_enable_remote_control": False,
        "worker_detect_quorum_queues": False,
        # Only late acknowledgement is concerned, which is off; said to spare a warning.
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "worker_prefetch_multiplier": 1,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "enable_utc": True,
    }


def _transport_options(url: str) -> dict[str, object]:
    if not is_redis(url):
        return {}
    return {
        "global_keyprefix": KEY_PREFIX,
        "priority_steps": [0],
        "socket_timeout": 10.0,
        "socket_connect_timeout": 2.0,
        "socket_keepalive": True,
        "health_check_interval": 5,
    }


def is_redis(url: str) -> bool:
    """Say whether a broker URL speaks the Redis protocol."""
    return url.startswith(("redis", "valkey"))


def redis_url(url: str) -> str:
    """Turn a broker URL as Celery writes it into one as redis-py writes it."""
    return url.replace("redis+socket://", "unix://", 1).replace("virtual_host=", "db=", 1)


celery = Celery("nadi", set_as_current=True)
celery.add_defaults(lambda: celery_configuration(get_settings()))


def _leave_logging_alone(**_: object) -> None:
    """Keep Celery from setting up logging: it does so only when nobody listens to this signal."""


setup_logging.connect(_leave_logging_alone)


class Ringer:
    """Sends batches of ids to the workers over one connection; safe to share between threads."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._producer: Any = None

    def ring(self, task: str, ids: Sequence[str]) -> str:
        """Send one task for these ids.

        A connection that turns out to be stale is replaced once. A message sent twice is
        harmless: the second worker finds nothing to claim.

        Returns:
            Id of the batch, which is the id of the Celery task.

        Raises:
            BrokerAway: Nothing was sent, as far as is known.
        """
        with self._lock:
            fresh = self._producer is None
            try:
                return self._send(task, ids)
            except BrokerAway:
                if fresh:
                    raise
            return self._send(task, ids)

    def close(self) -> None:
        """Give the connection back."""
        with self._lock:
            self._disconnect()

    def _send(self, task: str, ids: Sequence[str]) -> str:
        try:
            if self._producer is None:
                self._connect()
            # The representations that Celery puts into a header for people would double the size.
            sent = self._app.send_task(
                task,
                args=(list(ids),),
                producer=self._producer,
                retry=False,
                argsrepr="(ids)",
                kwargsrepr="{}",
            )
        except BROKER_ERRORS as error:
            self._disconnect()
            raise BrokerAway from error
        return str(sent.id)

    def _connect(self) -> None:
        url = self._app.conf.broker_url
        options: dict[str, object] = {"max_retries": 1, "interval_start": 0, "interval_step": 0}
        if is_redis(url):
            options["socket_timeout"] = SEND_TIMEOUT_S
        connection = self._app.connection_for_write(
            connect_timeout=SEND_TIMEOUT_S, transport_options=options
        )
        self._producer = self._app.amqp.Producer(connection, auto_declare=False)

    def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        with contextlib.suppress(*BROKER_ERRORS):
            producer.connection.release()


@lru_cache(maxsize=1)
def _ringer() -> Ringer:
    return Ringer(celery)


def ring_infer(job_ids: Sequence[str]) -> str:
    """Ask the inference workers to look at these jobs.

    Returns:
        Id of the batch; the task finds it as its `request.id`.

    Raises:
        BrokerAway: The broker can't be reached; the relay rings again later.
    """
    return _ringer().ring(INFER_TASK, job_ids)


def ring_deliver(delivery_ids: Sequence[str]) -> str:
    """Ask the delivery workers to look at these deliveries.

    Returns:
        Id of the batch; the task finds it as its `request.id`.

    Raises:
        BrokerAway: The broker can't be reached; the relay rings again later.
    """
    return _ringer().ring(DELIVER_TASK, delivery_ids)


class Bell:
    """The doorbell of the relay.

    Anyone knocks after a commit that made work; a worker says which batch it finished. Both are
    best effort: they never raise and never block for long. Only the relay waits.
    """

    def __init__(self, url: str) -> None:
        self._sender = _client(url, SEND_TIMEOUT_S / 2)
        self._waiter = _client(url, LONGEST_WAIT_S + 2)
        self._sulks_until = 0.0

    def knock(self) -> None:
        """Tell the relay that work may be waiting."""
        self._send(KNOCK)

    def done(self, batch_id: str) -> None:
        """Tell the relay that a batch is finished, whatever came of it."""
        self._send(f"{DONE}{batch_id}")

    def wait(self, timeout_s: float) -> list[str]:
        """Wait for messages, at most `timeout_s` seconds and never longer than `LONGEST_WAIT_S`.

        Returns:
            All messages that lie there, oldest first: `knock` or `done:<batch id>`. Empty after
            a silent wait, or when the broker is away (then a short pause was made).
        """
        if self._waiter is None:
            time.sleep(min(timeout_s, POLL_S))
            return [KNOCK]
        try:
            return self._take(self._waiter, min(timeout_s, LONGEST_WAIT_S))
        except BROKER_ERRORS:
            time.sleep(min(timeout_s, POLL_S))
            return []

    def close(self) -> None:
        """Give the connections back."""
        for client in (self._sender, self._waiter):
            if client is not None:
                client.close()

    def _send(self, message: str) -> None:
        if self._sender is None or time.monotonic() < self._sulks_until:
            return
        try:
            with self._sender.pipeline(transaction=False) as pipeline:
                pipeline.rpush(BELL_KEY, message)
                pipeline.ltrim(BELL_KEY, -BELL_LENGTH, -1)
                pipeline.execute()
        except BROKER_ERRORS:
            self._sulks_until = time.monotonic() + SULK_S

    @staticmethod
    def _take(client: Redis, timeout_s: float) -> list[str]:
        # Under load messages lie there already: they cost one command instead of two.
        waiting: Any = client.lpop(BELL_KEY, BELL_LENGTH)
        if not waiting:
            first: Any = client.blpop([BELL_KEY], timeout=max(timeout_s, 0.01))
            if first is None:
                return []
            waiting = [first[1], *(client.lpop(BELL_KEY, BELL_LENGTH) or ())]
        return [str(message) for message in waiting]


def _client(url: str, timeout_s: float) -> Redis | None:
    if not is_redis(url):
        return None
    return Redis.from_url(
        redis_url(url),
        decode_responses=True,
        socket_timeout=timeout_s,
        retry=Retry(NoBackoff(), 1),
    )


@lru_cache(maxsize=1)
def bell() -> Bell:
    """Give this process's bell."""
    return Bell(get_settings().resolved_broker_url)


def knock() -> None:
    """Tell the relay, from wherever, that work may be waiting. Best effort: never raises."""
    bell().knock()


def is_broker_up(url: str | None = None) -> bool:
    """Say whether a broker answers, within a second: this process's own unless one is named."""
    url = url or get_settings().resolved_broker_url
    client = _client(url, SEND_TIMEOUT_S)
    try:
        if client is not None:
            with client:
                return bool(client.ping())
        with celery.connection_for_write(url) as connection:
            connection.ensure_connection(max_retries=1, timeout=SEND_TIMEOUT_S)
            return True
    except BROKER_ERRORS:
        return False
