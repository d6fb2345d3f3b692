"""Places in a line are never closer than the cap allows, whatever is done to the clock."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.pacing import PacedLine, after_places, apart_us, first_place_us

RATES = st.floats(0.5, 10_000)
#: What passes before somebody asks, by how much the clock was set back meanwhile, what she takes.
ASKED = st.lists(
    st.tuples(st.integers(0, 3_000_000), st.integers(0, 10**13), st.integers(1, 20)),
    min_size=1,
    max_size=30,
)


@given(RATES, ASKED)
def test_no_two_places_are_closer_than_the_cap_allows_though_clocks_are_set_back(
    per_second, asked
) -> None:
    line, passed_us, ahead_us, places = PacedLine(0, 0), 0, 10**15, []
    for later_us, set_back_us, count in asked:
        passed_us, ahead_us = passed_us + later_us, ahead_us - set_back_us
        now_us = passed_us + ahead_us
        first_us = first_place_us(line, now_us)
        each_us = apart_us(per_second)
        line = after_places(first_us, now_us, count=count, each_us=each_us)
        places += [first_us - ahead_us + n * each_us for n in range(count)]

    assert all(after - before >= 1e6 / per_second for before, after in pairwise(places))


@given(RATES, ASKED)
def test_nobody_waits_longer_for_a_clock_that_was_set_back(per_second, asked) -> None:
    line, now_us, each_us = PacedLine(0, 0), 10**15, apart_us(per_second)
    for later_us, set_back_us, count in asked:
        left_us = line.next_us - line.seen_us
        now_us += later_us - set_back_us
        first_us = first_place_us(line, now_us)
        line = after_places(first_us, now_us, count=count, each_us=each_us)

        assert 0 <= first_us - now_us <= max(left_us, 0)


def test_who_asks_when_nobody_stands_there_leaves_at_once() -> None:
    assert first_place_us(PacedLine(0, 0), 77) == 77
    assert first_place_us(PacedLine(70, 60), 77) == 77
