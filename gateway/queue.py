"""Ring the workers and the relay: the broker as a doorbell (3).

* The database is the truth. A message holds ids only and may be lost at any moment: the relay
  rings again. So messages are acknowledged early, have no result and are not durable.
* `ring_infer` and `ring_deliver` send one Celery task for a batch of ids over a connection that
  is held open; the batch's id is the id of that task.
* `bell` wakes the relay, see `gateway.bell`.
"""

import contextlib
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from celery import Celery
from celery.signals import setup_logging

from gateway.bell import Bell, redis_client
from gateway.broker import BROKER_ERRORS, KEY_PREFIX, SEND_TIMEOUT_S, is_redis
from gateway.core.errors import TransientError
from gateway.redis_transport import use_it
from gateway.settings import Settings, get_settings

INFER_TASK = "nadi.infer"
DELIVER_TASK = "nadi.deliver"
INFER_QUEUE = "infer"
DELIVER_QUEUE = "deliver"


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


use_it()
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
    try:
        if is_redis(url):
            with redis_client(url, SEND_TIMEOUT_S) as client:
                return bool(client.ping())
        with celery.connection_for_write(url) as connection:
            connection.ensure_connection(max_retries=1, timeout=SEND_TIMEOUT_S)
            return True
    except BROKER_ERRORS:
        return False
