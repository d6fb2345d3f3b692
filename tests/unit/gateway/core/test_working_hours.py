"""Working hours: every moment is either open or in exactly one closed span."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.working_hours import WorkingHours

DELHI = WorkingHours(
    ZoneInfo("Asia/Kolkata"),
    frozenset(range(6)),
    time(8),
    time(20),
    frozenset({date(2027, 1, 26)}),
)
# Clocks go forward on 2027-03-28 and back on 2027-10-31.
BERLIN = WorkingHours(ZoneInfo("Europe/Berlin"), frozenset({0, 6}), time(1, 30), time(4))

moments = st.integers(0, 364 * 86_400_000).map(
    lambda ms: datetime(2027, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2027-01-25T08:00:00+05:30", True),
        ("2027-01-25T07:59:59+05:30", False),
        ("2027-01-25T19:59:59+05:30", True),
        ("2027-01-25T20:00:00+05:30", False),
        ("2027-01-26T12:00:00+05:30", False),
        ("2027-01-24T12:00:00+05:30", False),
    ],
)
def test_a_working_day_has_hours_and_a_holiday_and_a_sunday_have_none(
    moment: str, is_open: bool
) -> None:
    assert DELHI.is_open(datetime.fromisoformat(moment)) is is_open


@pytest.mark.parametrize("hours", [DELHI, BERLIN], ids=["Delhi", "Berlin"])
@given(first=moments, length=st.timedeltas(timedelta(0), timedelta(days=12)), at=st.floats(0, 1))
def test_every_moment_is_open_or_in_exactly_one_closed_span(
    hours: WorkingHours, first: datetime, length: timedelta, at: float
) -> None:
    last = first + length
    spans = list(hours.closed(first, last))
    moment = first + length * at

    assert spans == sorted(spans, reverse=True)
    assert all(first <= begin < end <= last for begin, end in spans)
    if first <= moment < last:
        covering = [span for span in spans if span[0] <= moment < span[1]]
        assert len(covering) == (0 if hours.is_open(moment) else 1)


def test_nothing_is_closed_in_a_span_without_length() -> None:
    moment = datetime(2027, 1, 24, tzinfo=UTC)

    assert list(DELHI.closed(moment, moment)) == []
