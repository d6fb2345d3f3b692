"""How the URL of a broker is written."""

import pytest

from gateway.broker import is_redis, redis_url


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
