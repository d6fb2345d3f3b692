import math

import pytest

from benchmarks.flatness import Measure, rows, trend

MEMORY = Measure("memory", "MiB", may_grow=0.1, floor=5)


def points(value, count=60):
    return [(10.0 * n, value(n)) for n in range(count)]


def test_what_stays_as_it_was_is_flat():
    went = trend(MEMORY, points(lambda n: 400 + n % 3))

    assert went.is_flat
    assert went.first == went.last == 401


def test_a_slow_leak_is_not_flat_and_its_slope_is_told():
    went = trend(MEMORY, points(lambda n: 400 + 2 * n))

    assert not went.is_flat
    assert went.per_hour == pytest.approx(2 * 360)


def test_a_step_in_the_last_third_is_not_flat():
    assert not trend(MEMORY, points(lambda n: 400 if n < 45 else 500)).is_flat


def test_what_grows_while_it_warms_up_only_is_flat():
    assert trend(MEMORY, points(lambda n: min(100 * n, 500))).is_flat


def test_what_falls_is_flat():
    assert trend(MEMORY, points(lambda n: 400 - n)).is_flat


def test_growth_below_the_floor_is_none():
    assert trend(MEMORY, points(lambda n: 1 if n < 40 else 4)).is_flat


def test_a_single_peak_counts_where_the_highest_is_asked_for():
    log = Measure("log", "MiB", may_grow=0.1, floor=5, of_third=max)

    assert not trend(log, points(lambda n: 90 if n == 50 else 4)).is_flat
    assert trend(MEMORY, points(lambda n: 90 if n == 50 else 4)).is_flat


@pytest.mark.parametrize("found", [[], [(0.0, 1.0)], [(0.0, 1.0), (1.0, 1.0)]])
def test_of_what_was_hardly_seen_nobody_says_that_it_is_flat(found):
    went = trend(MEMORY, found)

    assert not went.is_flat
    assert math.isnan(went.first)
    assert rows([went])[1][-1] == "NOT FLAT"
