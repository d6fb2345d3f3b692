"""Requests of a process leave at the places that it took in the line, and waste few of them."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from adapters.fhir_rest.pace import LATE_S, Pace, Places


@dataclass
class Line:
    """A line that one process has to itself; it remembers how much was taken at once."""

    per_second: float
    now_s: float = 0.0
    next_s: float = 0.0
    taken: list[int] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def take(self, count: int) -> Places:
        self.taken.append(count)
        first_s = max(self.next_s, self.monotonic())
        self.next_s = first_s + count / self.per_second
        return first_s, 1 / self.per_second

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

    def pace(self) -> Pace:
        return Pace(self.take, self.per_second, monotonic=self.monotonic, sleep=self.sleep)


@given(st.floats(0.5, 1000), st.lists(st.floats(0, 3), min_size=1, max_size=60))
def test_in_no_span_more_leave_than_its_length_and_a_little_allow(per_second, gaps_s) -> None:
    line, left = Line(per_second), []
    pace = line.pace()
    for gap_s in gaps_s:
        line.now_s += gap_s
        pace()
        left.append(line.now_s)

    late_s = max(LATE_S, 1 / per_second)
    for first in range(len(left)):
        for last in range(first, len(left)):
            span_s = left[last] - left[first]
            assert last - first <= (span_s + late_s) * per_second + 1e-6


def test_who_is_slower_than_the_rate_never_waits() -> None:
    line = Line(2)
    pace = line.pace()

    for _ in range(5):
        line.now_s += 0.5
        pace()

    assert line.slept == []


def test_more_is_taken_at_once_the_longer_it_is_all_used() -> None:
    line = Line(100)
    pace = line.pace()

    for _ in range(200):
        pace()

    assert line.taken == [1, 2, 4, 8, 16, 32, 50, 50, 50]


def test_who_let_places_pass_takes_one_again_and_saves_none_up() -> None:
    line = Line(100)
    pace, left = line.pace(), []
    for _ in range(70):
        pace()

    line.now_s += 60  # a process that was frozen
    for _ in range(10):
        pace()
        left.append(line.now_s)

    assert line.taken[6:] == [50, 1, 2, 4, 8][: len(line.taken) - 6]
    assert all(after - before >= 0.01 - 1e-9 for before, after in pairwise(left))


def test_who_overslept_long_takes_another_place() -> None:
    line = Line(10)
    pace = Pace(line.take, 10, monotonic=line.monotonic, sleep=lambda s: line.sleep(s + 5))
    pace()  # there is nobody in the line yet
    began_s = line.now_s

    pace()

    assert line.now_s - began_s >= 5
    assert line.now_s - line.next_s < LATE_S


def test_many_threads_share_one_pace() -> None:
    line, left, lock = Line(100), [], threading.Lock()
    line.monotonic = time.monotonic
    pace = Pace(line.take, 100)

    def send(_: int) -> None:
        pace()
        with lock:
            left.append(time.monotonic())

    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(31)))

    assert len(left) == 31
    assert time.monotonic() - began >= 0.3 - LATE_S / 2
