from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.sandbox.dates import PREFIXES, parse_range

MOMENTS = st.datetimes(
    min_value=datetime.fromisoformat("1900-01-01"),
    max_value=datetime.fromisoformat("2199-12-31"),
    timezones=st.just(UTC),
)
DAY_US = 86_400_000_000


@pytest.mark.parametrize(
    ("text", "length_us"),
    [
        ("2024-02-29", DAY_US),
        ("2024-02", 29 * DAY_US),
        ("2023-12", 31 * DAY_US),
        ("2024", 366 * DAY_US),
        ("2024-01-01T10:00Z", 60_000_000),
        ("2024-01-01T10:00:00+05:30", 1_000_000),
        ("2024-01-01T10:00:00.123Z", 1_000),
        ("2024-01-01T10:00:00.123456Z", 1),
    ],
)
def test_a_date_lasts_as_long_as_its_last_digit(text: str, length_us: int) -> None:
    start, end = parse_range(text)

    assert end - start == length_us


@pytest.mark.parametrize("text", ["", "yesterday", "2024-13", "2023-02-29", "2024-01-01T25:00:00Z"])
def test_what_is_no_date_has_no_range(text: str) -> None:
    assert parse_range(text) is None


@given(MOMENTS)
def test_a_moment_lies_within_its_day_month_and_year(moment: datetime) -> None:
    instant = parse_range(moment.isoformat())

    wholes = [parse_range(moment.isoformat()[:length]) for length in (10, 7, 4)]

    assert all(PREFIXES["eq"](instant, whole) for whole in wholes)


@given(MOMENTS, MOMENTS)
def test_of_two_moments_the_prefixes_tell_the_order(one: datetime, other: datetime) -> None:
    ranges = parse_range(one.isoformat()), parse_range(other.isoformat())

    assert PREFIXES["lt"](*ranges) == (ranges[0][0] < ranges[1][0])
    assert PREFIXES["ge"](*ranges) == (not PREFIXES["eb"](*ranges))
    assert PREFIXES["le"](*ranges) == (not PREFIXES["sa"](*ranges))
    assert PREFIXES["eq"](*ranges) != PREFIXES["ne"](*ranges)
