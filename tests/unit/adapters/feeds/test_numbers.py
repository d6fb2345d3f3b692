from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.feeds.numbers import Numbers

few = settings(max_examples=60, deadline=None)
numbers = st.lists(st.integers(1, 30), max_size=40)


def test_what_comes_in_order_leaves_nothing_missing():
    found = Numbers.starting_after(0).received([1, 2]).received([3])

    assert (found.settled, found.missing) == (3, None)


def test_a_number_left_out_is_missing_until_it_comes():
    found = Numbers.starting_after(0).received([1, 4])

    assert found.missing == (2, 4)
    assert found.received([3, 2]).missing is None


def test_events_that_were_announced_and_never_came_are_missing():
    assert Numbers.starting_after(5).announced(9).missing == (6, 9)


def test_nineteen_repeats_change_nothing():
    once = Numbers.starting_after(0).received([1, 3])

    assert once.received([3] * 19) == once


def test_what_was_recovered_is_missing_no_more():
    found = Numbers.starting_after(0).received([5]).announced(7)

    assert found.recovered(4).missing == (6, 7)
    assert found.recovered(7).missing is None
    assert found.recovered(3).recovered(1).missing == (4, 7)


@few
@given(numbers)
def test_any_order_and_any_repeats_end_alike(received: list[int]):
    together = Numbers.starting_after(0).received(received)
    one_by_one = Numbers.starting_after(0)
    for number in received:
        one_by_one = one_by_one.received([number])

    assert one_by_one == together
    known = set(range(1, together.settled + 1))
    for first, last in together.ahead:
        known |= set(range(first, last + 1))
    assert known == set(received)
    assert together.highest == max(received, default=0)


@few
@given(numbers, st.integers(0, 40))
def test_what_is_kept_is_read_again(received: list[int], total: int):
    found = Numbers.starting_after(2).received(received).announced(total)

    assert Numbers.from_json(found.as_json()) == found


def test_the_number_of_spans_kept_is_bounded():
    found = Numbers.starting_after(0).received(range(2, 6000, 2))

    assert len(found.ahead) == 1000
    assert found.missing == (1, 5998)
