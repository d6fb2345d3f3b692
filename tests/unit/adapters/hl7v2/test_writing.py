"""What is written into a message is what its reader finds, whatever it says."""

from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.hl7v2 import times
from adapters.hl7v2.message import parsed, readable
from adapters.hl7v2.writing import composite, moment, nested, number, segment

HEAD = "MSH|^~\\&|x\r"


def plain(text: str) -> str:
    """Give a text as FHIR takes it."""
    return readable(text.replace("\r\n", "\n"))


def written(field: str):
    return parsed(f"{HEAD}{segment('ZZZ', {2: field, 3: 'end'})}\r".encode()).first("ZZZ")


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_any_texts_are_read_again(texts: list[str]):
    found = written(composite(*texts))

    assert [found.text(2, at) for at in range(1, len(texts) + 1)] == [plain(t) for t in texts]
    assert found.text(3) == "end"


@given(st.text(), st.text())
def test_subcomponents_are_read_again(first: str, second: str):
    found = written(nested((first, second), (second,)))

    assert (found.text(2, 1, 1), found.text(2, 1, 2)) == (plain(first), plain(second))
    assert found.text(2, 2) == plain(second)


def test_two_quotation_marks_are_a_text_and_not_no_value():
    assert written(composite('""')).text(2) == '""'


def test_nothing_ends_a_block_or_a_segment_from_inside():
    field = composite("a\x0bb\x1c\rc\r\nd")

    assert not set(field) & set("\x0b\x1c\r\n")
    assert written(field).text(2) == "a b \nc\nd"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_written_digit_by_digit(value: float):
    assert set(number(value)) <= set("-.0123456789")
    assert float(Decimal(number(value))) == value


@pytest.mark.parametrize(
    ("fhir", "hl7"),
    [
        ("2026", "2026"),
        ("2026-11", "202611"),
        ("2026-11-20", "20261120"),
        ("2026-11-20T08:00:00+05:30", "20261120080000+0530"),
        ("2026-11-25T06:30:00.123Z", "20261125063000.123+0000"),
        ("2026-11-25T06:30:00.123456-08:00", "20261125063000.1234-0800"),
        ("yesterday", ""),
    ],
)
def test_a_moment_is_as_exact_as_it_was(fhir: str, hl7: str):
    assert moment(fhir) == hl7


@given(st.datetimes(datetime(1970, 1, 1), timezones=st.just(ZoneInfo("Asia/Kolkata"))))  # noqa: DTZ001
def test_a_moment_is_read_again(at):
    fhir = at.replace(microsecond=0).isoformat()

    assert times.date_time(moment(fhir), ZoneInfo("UTC")) == fhir
