"""The doorbell of the relay: a short list of messages on the broker, which nobody minds losing.

Anyone knocks after a commit that made work; a worker says which batch it finished. Both are best
effort: they never raise and never block for long. Only the relay waits.

On a Redis-protocol broker the bell is a list, on an AMQP broker a queue of bounded length.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty
from typing import Any, Protocol

from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.simple import SimpleQueue
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway.broker import BROKER_ERRORS, KEY_PREFIX, SEND_TIMEOUT_S, is_redis, redis_url

#: What a message says when work may be waiting; other messages are `done:<batch id> <worker>`.
KNOCK = "knock"
DONE = "done:"

BELL_KEY = f"{KEY_PREFIX}bell"

#: Messages kept when no relay listens; more would tell it nothing new.
BELL_LENGTH = 1000
#: Longest single wait, so that a silent connection is noticed.
LONGEST_WAIT_S = 5.0
#: After a failed knock the broker is left alone for this long.
SULK_S = 1.0
#: How long the relay rests when the broker is away, before it looks again.
PAUSE_S = 0.25
#: How long is waited for what an AMQP broker has still on the wire.
_ON_THE_WIRE_S = 0.001

# The library has no types here.
_connection: Any = Connection
_exchange: Any = Exchange
_queue: Any = Queue
_simple_queue: Any = SimpleQueue


class _Box(Protocol):
    """Where messages lie until the relay takes them. Each method raises one of `BROKER_ERRORS`."""

    def put(self, message: str) -> None:
        """Add a message; any thread may."""

    def take(self, timeout_s: float) -> list[str]:
        """Wait for messages and take all; only the relay's thread does."""

    def close(self) -> None:
        """Give the connections back."""


class Bell:
    """The doorbell of one process."""

    def __init__(self, url: str) -> None:
        self._box: _Box = _RedisBox(url) if is_redis(url) else _AmqpBox(url)
        self._sulks_until = 0.0

    def knock(self) -> None:
        """Tell the relay that work may be waiting."""
        self._send(KNOCK)

    def done(self, batch_id: str, worker: str) -> None:
        """Tell the relay that a worker has finished a batch, whatever came of it."""
        self._send(f"{DONE}{batch_id} {worker}")

    def wait(self, timeout_s: float) -> list[str]:
        """Wait for messages, at most `timeout_s` seconds and never longer than `LONGEST_WAIT_S`.

        Returns:
            All messages that lie there, oldest first: `knock` or `done:<batch id> <worker>`.
            Empty after a silent wait, or when the broker is away (then a short pause was made).
        """
        try:
            return self._box.take(min(timeout_s, LONGEST_WAIT_S))
        except BROKER_ERRORS:
            time.sleep(min(timeout_s, PAUSE_S))
            return []

    def close(self) -> None:
        """Give the connections back."""
        self._box.close()

    def _send(self, message: str) -> None:
        if time.monotonic() < self._sulks_until:
            return
        try:
            self._box.put(message)
        except BROKER_ERRORS:
            self._sulks_until = time.monotonic() + SULK_S


class _RedisBox:
    """A list."""

    def __init__(self, url: str) -> None:
        self._sender = redis_client(url, SEND_TIMEOUT_S / 2)
        self._waiter = redis_client(url, LONGEST_WAIT_S + 2)

    def put(self, message: str) -> None:
        with self._sender.pipeline(transaction=False) as pipeline:
            pipeline.rpush(BELL_KEY, message)
            pipeline.ltrim(BELL_KEY, -BELL_LENGTH, -1)
            pipeline.execute()

    def take(self, timeout_s: float) -> list[str]:
        # Under load messages lie there already: they cost one command instead of two.
        waiting: Any = self._waiter.lpop(BELL_KEY, BELL_LENGTH)
        if not waiting:
            first: Any = self._waiter.blpop([BELL_KEY], timeout=max(timeout_s, 0.01))
            if first is None:
                return []
            waiting = [first[1], *(self._waiter.lpop(BELL_KEY, BELL_LENGTH) or ())]
        return [str(message) for message in waiting]

    def close(self) -> None:
        self._sender.close()
        self._waiter.close()


def redis_client(url: str, timeout_s: float) -> Redis:
    """Give a client of a Redis-protocol broker that gives up after a time and one more try."""
    return Redis.from_url(
        redis_url(url),
        decode_responses=True,
        socket_timeout=timeout_s,
        retry=Retry(NoBackoff(), 1),
    )


# It outlives its connections, so that a knock while no relay listens is heard by the next one. The
# messages are not written to disk.
_QUEUE = _queue(
    BELL_KEY,
    _exchange(""),
    routing_key=BELL_KEY,
    durable=True,
    queue_arguments={"x-max-length": BELL_LENGTH},
)


class _AmqpBox:
    """A queue, spoken to over one connection for sending and one for waiting."""

    def __init__(self, url: str) -> None:
        self._lock = threading.Lock()
        self._sender = _AmqpEnd(url)
        self._waiter = _AmqpEnd(url)

    def put(self, message: str) -> None:
        with self._lock, self._sender.opened() as box:
            box.put(message, serializer="json", delivery_mode="transient")

    def take(self, timeout_s: float) -> list[str]:
        with self._waiter.opened() as box:
            return list(_waiting(box, timeout_s))

    def close(self) -> None:
        with self._lock:
            self._sender.close()
        self._waiter.close()


class _AmqpEnd:
    """A connection that is opened when it is wanted, and anew after it failed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._box: Any = None

    @contextmanager
    def opened(self) -> Iterator[Any]:
        try:
            if self._box is None:
                connection = _connection(self._url, connect_timeout=SEND_TIMEOUT_S)
                connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
                self._box = _simple_queue(connection, _QUEUE, no_ack=True)
            yield self._box
        except BROKER_ERRORS:
            self.close()
            raise

    def close(self) -> None:
        box, self._box = self._box, None
        if box is not None:
            with suppress(*BROKER_ERRORS):
                box.channel.connection.client.release()


def _waiting(box: Any, timeout_s: float) -> Iterator[str]:  # noqa: ANN401 - the library has no types
    """Give what comes within a time, and what has come with it."""
    for _ in range(BELL_LENGTH):
        try:
            yield str(box.get(timeout=timeout_s).payload)
        except Empty:
            return
        timeout_s = _ON_THE_WIRE_S
