"""A broker for code that is called instead of started, and a ringer that sends to it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from celery import Celery

from benchmarks.systems import broker_command, started
from gateway.queue import Ringer, celery_configuration
from gateway.settings import Settings

_START_WITHIN_S = 30.0


@contextmanager
def ringer(folder: Path) -> Iterator[Ringer]:
    """Run a broker in a folder for the length of the block, and ring over it."""
    socket = folder / "broker.sock"
    with started(broker_command(folder), {}, folder / "broker.log"):
        await_socket(socket)
        app = Celery("benchmark", set_as_current=False)
        app.conf.update(celery_configuration(Settings(broker_url=f"redis+socket://{socket}")))
        ring = Ringer(app)
        yield ring
        ring.close()


def await_socket(socket: Path) -> None:
    """Wait until somebody listens.

    Raises:
        TimeoutError: Nobody does.
    """
    limit = time.monotonic() + _START_WITHIN_S
    while not socket.exists():
        if time.monotonic() > limit:
            raise TimeoutError("the broker did not start")
        time.sleep(0.002)
