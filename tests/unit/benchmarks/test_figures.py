import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import (
    Figure,
    by_turns,
    comparison,
    condensed,
    figure,
    percentile,
    short,
    times,
)

_numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


def test_everyone_has_a_turn_before_anyone_has_another():
    order = []

    def turn(name):
        return lambda number: order.append((name, number)) or {"ms": float(number)}

    taken = by_turns({"a": turn("a"), "b": turn("b")}, 2, lambda _: None)

    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert taken == {"a": [{"ms": 0.0}, {"ms": 1.0}], "b": [{"ms": 0.0}, {"ms": 1.0}]}


def test_where_rounds_take_long_there_are_fewer_but_two_at_least():
    slow = {"a": lambda _: time.sleep(0.02) or {"ms": 1.0}}

    assert len(by_turns(slow, 50, lambda _: None, 0.0)["a"]) == 2
    assert 2 <= len(by_turns(slow, 50, lambda _: None, 0.1)["a"]) <= 5


def test_a_figure_is_the_median_with_its_lowest_and_highest():
    assert figure([3, 1, 100]) == Figure(3, 1, 100, 3)
    assert str(figure([3, 1, 250])) == "3 (1 to 250)"


@given(_numbers)
def test_a_median_lies_between_the_lowest_and_the_highest(values):
    made = figure(values)

    assert made.low <= made.median <= made.high


def test_a_figure_that_was_not_measured_is_told_so_and_is_never_a_win():
    made = figure([1.0, math.nan])

    assert str(made) == "not measured"
    assert math.isnan(times(figure([2.0]), Figure(0, 0, 0)))
    assert not times(figure([2.0]), made) > 0


@given(_numbers, st.floats(0, 100))
def test_a_percentile_is_one_of_the_values_that_so_many_do_not_exceed(values, percent):
    found = percentile(values, percent)

    assert found in values
    assert sum(value <= found for value in values) >= percent / 100 * len(values) - 1e-9


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (99, 99), (100, 100), (1, 1)])
def test_a_percentile_goes_by_nearest_rank(percent, expected):
    assert percentile(list(range(100, 0, -1)), percent) == expected


def test_a_percentile_of_nothing_is_no_number():
    assert math.isnan(percentile([], 99))


def test_a_comparison_has_a_row_per_measure_and_a_column_per_contestant():
    figures = condensed({"a": [{"ms": 1.0}], "b": [{"ms": 2.0, "MiB": 120.0}]})

    assert comparison(figures) == [
        ("measure", "a", "b"),
        ("ms", "1", "2"),
        ("MiB", "", "120"),
        ("rounds", "1", "1"),
    ]


@pytest.mark.parametrize(
    ("value", "told"), [(1234.5, "1,234"), (99.5, "99.5"), (0.01234, "0.0123")]
)
def test_a_figure_is_written_with_three_digits(value, told):
    assert short(value) == told
