"""What every user of the broker has to know: how its URL is written and how it says it is away."""

from amqp.exceptions import AMQPError
from kombu.exceptions import KombuError
from redis import RedisError

#: Keys and queues of Nadi on a broker that it may share with others.
KEY_PREFIX = "nadi."
#: Longest time a knock or a ring may block its caller.
SEND_TIMEOUT_S = 1.0
#: Every way in which the client libraries say that the broker does not answer.
BROKER_ERRORS = (KombuError, RedisError, AMQPError, OSError)


def is_redis(url: str) -> bool:
    """Say whether a broker URL speaks the Redis protocol."""
    return url.startswith(("redis", "valkey"))


def redis_url(url: str) -> str:
    """Turn a broker URL as Celery writes it into one as redis-py writes it."""
    return url.replace("redis+socket://", "unix://", 1).replace("virtual_host=", "db=", 1)
