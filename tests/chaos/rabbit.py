"""A RabbitMQ under fire, in the place of the broker that `nadi up` brings along.

Nobody of ours watches over it: whoever kills it starts it again, as its own service manager would.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from amqp.exceptions import AMQPError, NotFound
from kombu.connection import Connection

from gateway.bell import BELL_KEY
from gateway.broker import BROKER_ERRORS
from gateway.queue import DELIVER_QUEUE, INFER_QUEUE
from tests import rabbitmq

_QUEUES = (INFER_QUEUE, DELIVER_QUEUE, BELL_KEY)
_TIMEOUT_S = 3.0
_MOST_MESSAGES = 200
# The library has no types here.
_connection: Any = Connection


class Rabbit:
    """One node; safe to strike from several threads."""

    def __init__(self, node: rabbitmq.RabbitMq) -> None:
        self._node = node
        self._lock = threading.Lock()

    @property
    def environment(self) -> Mapping[str, str]:
        """What Nadi is told of it."""
        return {"NADI_BROKER_URL": self._node.url}

    @property
    def pids(self) -> list[int]:
        """Its processes."""
        return self._node.pids

    def kill(self) -> None:
        """Kill it, and start it again."""
        with self._lock:
            self._node.kill()
            self._node.start()

    def restart(self) -> None:
        """Stop it in order, and start it again."""
        with self._lock:
            self._node.stop()
            self._node.start()

    def flush(self) -> None:
        """Throw away what waits in its queues.

        Raises:
            OSError, AMQPError, KombuError: It does not answer.
        """
        with self._lock, self._channel() as channel:
            for queue in _QUEUES:
                with suppress(NotFound):
                    channel.queue_purge(queue)

    def contents(self) -> Iterator[bytes]:
        """Give what waits in its queues, which stays there.

        Raises:
            OSError, AMQPError, KombuError: It does not answer.
        """
        for queue in _QUEUES:
            # What was not acknowledged goes back when its channel is closed.
            with self._channel() as channel, suppress(NotFound):
                for _ in range(_MOST_MESSAGES):
                    message = channel.basic_get(queue)
                    if message is None:
                        break
                    yield bytes(str(message.body), "utf-8") + repr(message.properties).encode()

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        connection = _connection(self._node.url, connect_timeout=_TIMEOUT_S)
        try:
            connection.ensure_connection(max_retries=1, timeout=_TIMEOUT_S)
            yield connection.default_channel
        finally:
            with suppress(*BROKER_ERRORS, AMQPError):
                connection.release()


@contextmanager
def node(folder: Path) -> Iterator[Rabbit]:
    """Run one for the length of the block, in a folder of its own."""
    with rabbitmq.node(folder) as started:
        yield Rabbit(started)
