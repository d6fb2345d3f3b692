import threading
import time

import pytest

from models.watchdog import Watchdog


def test_what_ends_in_time_is_left_alone():
    stopped = threading.Event()

    with Watchdog().watch(0.5, stopped.set) as watched:
        pass

    assert not stopped.wait(0.7)
    assert not watched.is_late


def test_what_takes_too_long_is_stopped_at_its_deadline():
    stopped, start = threading.Event(), time.monotonic()

    with Watchdog().watch(0.05, stopped.set) as watched:
        assert stopped.wait(5)

    assert watched.is_late
    assert 0.05 <= time.monotonic() - start < 5


def test_the_earliest_of_many_deadlines_comes_first_whatever_the_order_of_watching():
    watchdog, stopped = Watchdog(), []
    done = threading.Event()

    with (
        watchdog.watch(0.3, lambda: (stopped.append("late"), done.set())),
        watchdog.watch(0.1, lambda: stopped.append("early")),
        watchdog.watch(30, lambda: stopped.append("never")),
    ):
        assert done.wait(10)

    assert stopped == ["early", "late"]


def test_a_short_deadline_is_kept_although_nothing_was_watched_for_a_while():
    watchdog = Watchdog()
    with watchdog.watch(30, lambda: None):
        pass
    stopped = threading.Event()

    with watchdog.watch(0.05, stopped.set):
        assert stopped.wait(5)


def test_an_error_inside_is_not_swallowed_and_is_watched_no_more():
    stopped = threading.Event()

    with pytest.raises(KeyError), Watchdog().watch(0.5, stopped.set):
        raise KeyError

    assert not stopped.wait(0.7)


def test_watching_costs_little():
    watchdog = Watchdog()
    start = time.perf_counter()

    for _ in range(1000):
        with watchdog.watch(10, lambda: None):
            pass

    assert (time.perf_counter() - start) / 1000 < 0.001
