"""Look at something again and again while a block lasts, and once more at its end."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def watching(look: Callable[[], None], *, every_s: float) -> Iterator[None]:
    """Look from a thread of its own.

    Args:
        look: May take its time: the next look waits for it.
        every_s: Seconds between two looks.
    """
    stopped = threading.Event()

    def run() -> None:
        while not stopped.wait(every_s):
            look()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        look()
