from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.hl7v2 import times
from adapters.hl7v2.times import NoTime
from gateway.core import clinical_time

KOLKATA, BERLIN = ZoneInfo("Asia/Kolkata"), ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026", "2026"),
        ("202611", "2026-11"),
        ("20261126", "2026-11-26"),
        ("2026112609", "2026-11-26T09:00:00+05:30"),
        ("202611260930", "2026-11-26T09:30:00+05:30"),
        ("20261126093015.5", "2026-11-26T09:30:15.5+05:30"),
        ("20261126093015-0300", "2026-11-26T09:30:15-03:00"),
        ("202611260930+0000", "2026-11-26T09:30:00+00:00"),
    ],
)
def test_a_time_is_as_exact_as_it_was_written(written: str, read: str):
    assert times.date_time(written, KOLKATA) == read


def test_a_zone_has_the_offset_that_it_had_then():
    assert times.date_time("202607011200", BERLIN).endswith("+02:00")
    assert times.date_time("202601011200", BERLIN).endswith("+01:00")


def test_an_instant_begins_with_its_day_and_needs_one():
    assert times.instant("20261126", KOLKATA) == "2026-11-26T00:00:00+05:30"
    with pytest.raises(NoTime):
        times.instant("202611", KOLKATA)


def test_a_time_of_day_has_no_zone():
    assert [times.time(each) for each in ("09", "0930", "093015.25+0530")] == [
        "09:00:00",
        "09:30:00",
        "09:30:15.25",
    ]


@pytest.mark.parametrize(
    "text", ["", "yesterday", "20261301", "20260230", "2026112625", "20261126093015+9900", "26"]
)
def test_what_is_no_time_is_refused(text: str):
    with pytest.raises(NoTime):
        times.date_time(text, KOLKATA)


@pytest.mark.parametrize("text", ["", "25", "0960", "noon"])
def test_what_is_no_time_of_day_is_refused(text: str):
    with pytest.raises(NoTime):
        times.time(text)


@given(st.datetimes(min_value=datetime(1950, 1, 1)))  # noqa: DTZ001 - the zone follows
def test_every_moment_is_read_as_what_it_is(moment):
    text = f"{moment:%Y%m%d%H%M%S}"

    found = clinical_time.parse(times.date_time(text, KOLKATA))

    assert found is not None
    assert found.first == moment.replace(microsecond=0, tzinfo=KOLKATA)
