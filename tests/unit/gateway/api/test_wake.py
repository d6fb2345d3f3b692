import asyncio
from concurrent.futures import CancelledError, Future
from threading import Thread

import pytest

from gateway.api.wake import Wake
from gateway.core.errors import Busy


class CountingLoop(asyncio.SelectorEventLoop):
    """Counts how often another thread wakes it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def call_soon_threadsafe(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        self.calls += 1
        return super().call_soon_threadsafe(*args, **kwargs)


def test_each_waiter_gets_the_answer_of_its_own_future():
    async def scenario() -> list[int]:
        wake, futures = Wake(), [Future[int]() for _ in range(20)]
        waiting = [asyncio.create_task(wake.answer(future)) for future in futures]
        await asyncio.sleep(0)
        thread = Thread(target=lambda: [f.set_result(i) for i, f in enumerate(futures)])
        thread.start()
        answers = await asyncio.gather(*waiting)
        thread.join()
        return answers

    assert asyncio.run(scenario()) == list(range(20))


def test_answers_that_come_together_wake_the_loop_once():
    loop = CountingLoop()

    async def scenario() -> int:
        wake, futures = Wake(), [Future[None]() for _ in range(20)]
        waiting = [asyncio.create_task(wake.answer(future)) for future in futures]
        await asyncio.sleep(0)
        before = loop.calls
        for future in futures:
            future.set_result(None)
        await asyncio.gather(*waiting)
        return loop.calls - before

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        assert runner.run(scenario()) == 1


def test_an_error_reaches_its_waiter():
    async def scenario() -> None:
        future = Future[None]()
        future.set_exception(Busy("full", retry_after_s=1))
        await Wake().answer(future)

    with pytest.raises(Busy):
        asyncio.run(scenario())


def test_who_stops_waiting_cancels_the_future():
    async def scenario() -> Future[None]:
        future = Future[None]()
        waiting = asyncio.create_task(Wake().answer(future))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return future

    future = asyncio.run(scenario())
    assert future.cancelled()
    with pytest.raises(CancelledError):
        future.result()


def test_an_answer_for_a_loop_that_is_closed_disturbs_nobody():
    wake, future = Wake(), Future[None]()

    async def leave() -> None:
        waiting = asyncio.create_task(wake.answer(future))
        await asyncio.sleep(0)
        waiting.cancel()

    future.set_running_or_notify_cancel()
    asyncio.run(leave())
    future.set_result(None)

    async def come_later() -> str:
        later = Future[str]()
        later.set_result("here")
        return await wake.answer(later)

    assert asyncio.run(come_later()) == "here"
