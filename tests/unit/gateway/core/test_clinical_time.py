from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.clinical_time import Span, clinical_time, completed_years, effective, parse

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@given(st.datetimes(timezones=st.just(UTC)))
def test_an_instant_is_read_exactly(moment):
    assert parse(moment.isoformat()) == Span(moment, moment)


def test_an_offset_is_taken_into_account():
    assert parse("2026-03-01T17:30:00+05:30") == parse("2026-03-01T12:00:00.000Z")


@pytest.mark.parametrize(
    ("text", "first", "after"),
    [
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)),
        ("2026-12", datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        ("2026-02", datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026", datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_date_spans_every_time_zone(text, first, after):
    assert parse(text) == Span(first - timedelta(hours=14), after + timedelta(hours=12))


@pytest.mark.parametrize(
    "text",
    [
        None,
        5,
        "",
        "yesterday",
        "2026-13-01",
        "2026-02-30",
        "2026-03-01T12:00:00",
        "0001-01-01",
        "9999",
    ],
)
def test_what_is_no_fhir_time_is_none(text):
    assert parse(text) is None


@pytest.mark.parametrize(
    "element",
    [
        {"effectiveDateTime": "2026-03-01T12:00:00Z"},
        {"effectiveInstant": "2026-03-01T12:00:00Z"},
        {"effectivePeriod": {"start": "2026-02-01T12:00:00Z", "end": "2026-03-01T12:00:00Z"}},
        {"effectivePeriod": {"start": "2026-03-01T12:00:00Z"}},
    ],
)
def test_every_effective_form_is_read(element):
    assert effective(element) == Span(NOON, NOON)
    assert clinical_time(element) == NOON


def test_the_time_of_publication_is_no_clinical_time():
    assert clinical_time({"issued": "2026-03-01T12:00:00Z"}) is None


@pytest.mark.parametrize(
    ("born", "years"),
    [
        ("1976-03-01", 50),
        ("1976-03-02", 49),
        ("1976-03", 50),
        ("1976", 50),
        (None, None),
        ("x", None),
    ],
)
def test_age_counts_completed_years(born, years):
    assert completed_years(born, NOON) == years
