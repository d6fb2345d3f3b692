"""Celery's way to a Redis-protocol broker, for messages that nobody minds losing.

Kombu writes each message that a worker takes down at the broker, and strikes it out again, so that
another worker can have it if this one dies. Here the relay rings again for a batch that is lost: so
what a worker took is counted in its own memory, and two round trips of each batch are saved.
"""

from typing import Any

from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis
from kombu.transport.virtual import base as kombu_virtual

# The library has no types here.
_QoS: Any = kombu_virtual.QoS
_RedisQoS: Any = kombu_redis.QoS
_RedisChannel: Any = kombu_redis.Channel
_RedisTransport: Any = kombu_redis.Transport


class _Taken(_RedisQoS):  # type: ignore[misc]
    """What this worker took and did not begin; no more than it has threads."""

    restore_at_shutdown = False

    append = _QoS.append
    ack = _QoS.ack

    def reject(self, delivery_tag: str, **_: bool) -> None:
        """Strike it off; what nobody took on is rung for again."""
        self._quick_ack(delivery_tag)

    def restore_visible(self, **_limits: int) -> None:
        """Give nothing back: nothing of others is written down."""


class _Channel(_RedisChannel):  # type: ignore[misc]
    """A channel that makes its client once; kombu makes one for each command."""

    QoS = _Taken
    _only: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: ANN401 - kombu has no types
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._only is None:
            self._only = super()._create_client()
        return self._only


class Transport(_RedisTransport):  # type: ignore[misc]
    """Takes the place of kombu's own."""

    Channel = _Channel


def use_it() -> None:
    """Have `redis://` and `rediss://` mean this transport in this process."""
    path = f"{Transport.__module__}:{Transport.__name__}"
    TRANSPORT_ALIASES.update(redis=path, rediss=path)
