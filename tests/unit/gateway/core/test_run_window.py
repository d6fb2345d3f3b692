from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest

from gateway.core.lanes import Lane
from gateway.core.run_window import RunWindow

INDIA, PARIS = ZoneInfo("Asia/Kolkata"), ZoneInfo("Europe/Paris")
NIGHT = RunWindow(time(20), time(6), INDIA)
NOON = RunWindow(time(12), time(13, 30), INDIA)


@pytest.mark.parametrize(
    ("window", "utc", "is_open"),
    [
        (NIGHT, datetime(2026, 11, 26, 14, 29, tzinfo=UTC), False),
        (NIGHT, datetime(2026, 11, 26, 14, 30, tzinfo=UTC), True),
        (NIGHT, datetime(2026, 11, 26, 20, 0, tzinfo=UTC), True),
        (NIGHT, datetime(2026, 11, 27, 0, 29, tzinfo=UTC), True),
        (NIGHT, datetime(2026, 11, 27, 0, 30, tzinfo=UTC), False),
        (NOON, datetime(2026, 11, 26, 6, 30, tzinfo=UTC), True),
        (NOON, datetime(2026, 11, 26, 8, 0, tzinfo=UTC), False),
    ],
    ids=["before", "opens", "midnight", "last minute", "closes", "noon", "after noon"],
)
def test_a_window_is_open_by_the_clock_on_the_wall_of_the_site(window, utc, is_open) -> None:
    assert window.is_open(utc) is is_open
    assert window.lets(Lane.ASAP, utc) is is_open
    assert window.lets(Lane.STAT, utc)


def test_in_the_night_of_the_clock_change_the_hours_of_the_wall_hold() -> None:
    window = RunWindow(time(1), time(4), PARIS)
    inside = [
        hour
        for hour in range(24)
        if window.is_open(datetime(2026, 10, 24, 12, tzinfo=UTC).replace(day=25, hour=hour))
    ]

    assert inside == [0, 1, 2], "1 to 4 o'clock, of which the hour from 2 to 3 is there twice"


def test_a_window_names_its_hours_and_its_zone() -> None:
    assert NIGHT.words == "20:00 to 06:00 (Asia/Kolkata)"
