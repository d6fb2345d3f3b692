"""Requests leave at the pace that a site sets, counted by the stand-in EHR itself."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from adapters.fhir_rest.pace import Pace


@given(
    st.floats(0.5, 1000),
    st.lists(st.floats(0, 3), min_size=1, max_size=40),
)
def test_no_two_requests_leave_closer_than_the_rate_allows(per_second, gaps_s) -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    pace, left = Pace(per_second, monotonic=lambda: now[0], sleep=sleep), []
    for gap_s in gaps_s:
        now[0] += gap_s
        pace()
        left.append(now[0])

    assert all(after - before >= 1 / per_second - 1e-6 for before, after in pairwise(left))


def test_who_is_slower_than_the_rate_never_waits() -> None:
    slept: list[float] = []
    now = [0.0]
    pace = Pace(2, monotonic=lambda: now[0], sleep=slept.append)

    for _ in range(5):
        now[0] += 0.5
        pace()

    assert slept == []


def test_many_threads_share_one_pace() -> None:
    pace, left, lock = Pace(100), [], threading.Lock()

    def send(_: int) -> None:
        pace()
        with lock:
            left.append(time.monotonic())

    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(31)))

    assert len(left) == 31
    assert time.monotonic() - began >= 0.3
