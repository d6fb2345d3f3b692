"""Await the answers of another thread; answers that come together wake the event loop once.

`asyncio.wrap_future` wakes the loop for every single future, and each time is a system call.
"""

import asyncio
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

Answer = TypeVar("Answer")
_Waiters = list["asyncio.Future[None]"]


class Wake:
    """Wakes coroutines whose futures another thread has finished."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._due: dict[asyncio.AbstractEventLoop, _Waiters] = {}

    async def answer(self, future: "Future[Answer]") -> Answer:
        """Wait for a future of another thread; who stops waiting cancels it.

        Raises:
            Exception: Whatever the future ended with.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        future.add_done_callback(partial(self._done, loop, waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            future.cancel()
            raise
        return future.result()

    def _done(
        self,
        loop: asyncio.AbstractEventLoop,
        waiter: "asyncio.Future[None]",
        _future: "Future[Answer]",
    ) -> None:
        with self._lock:
            waiters = self._due.setdefault(loop, [])
            waiters.append(waiter)
            is_first = len(waiters) == 1
        if is_first:
            self._call(loop)

    def _call(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.call_soon_threadsafe(self._wake, loop)
        except RuntimeError:
            # The loop is closed: nobody waits there any more.
            self._take(loop)

    def _take(self, loop: asyncio.AbstractEventLoop) -> _Waiters:
        with self._lock:
            return self._due.pop(loop, [])

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        for waiter in self._take(loop):
            if not waiter.done():
                waiter.set_result(None)
