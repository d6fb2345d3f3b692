"""A page as PDF: every word of it is on paper, whatever blocks it is made of."""

import re
import zlib
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.page_pdf import as_pdf
from gateway.core.page import (
    Markup,
    bars,
    card,
    cards,
    facts,
    grid,
    joined,
    listed,
    page,
    section,
    tag,
)

AT = datetime(2026, 11, 26, tzinfo=UTC)
_STREAM = re.compile(rb"stream\r?\n(.*?)\r?\nendstream", re.DOTALL)
_SHOWN = re.compile(rb"\(((?:[^()\\\\]|\\\\.)*)\) ?T[jJ]")
_WORD = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789", min_size=1, max_size=12)


def on_paper(pdf: bytes) -> str:
    """Read what is written in a PDF that was made here."""
    found = []
    for stream in _STREAM.findall(pdf):
        try:
            # The last byte of its checksum may look like the line end before `endstream`.
            content = zlib.decompressobj().decompress(stream)
        except zlib.error:
            continue
        found += [each.decode("latin-1") for each in _SHOWN.findall(content)]
    return " ".join(found)


def printed(*parts: Markup) -> str:
    return on_paper(as_pdf(page("title", *parts), made_at=AT, foot="the foot"))


PARTS = {
    "heading": (section("Nature", tag("p", "To be stated.", kind="ask")), "Nature To be stated."),
    "list": (listed(["first", "second"]), "first second"),
    "facts": (facts({"From": "Monday", "Until": "Tuesday"}), "From Monday Until Tuesday"),
    "cards": (
        cards(card("12", "patients", kind="good"), card("3", "steps")),
        "12 patients 3 steps",
    ),
    "table": (
        grid(("Who", "Times"), [("the ward", "7"), ("a model", "2")]),
        "the ward 7 a model 2",
    ),
    "bars": (bars([("Monday", 1), ("Tuesday", 5), ("Wednesday", 0)]), "Monday Wednesday"),
    "raw": (tag("p", "trigger Observation.code", kind="raw"), "trigger Observation.code"),
}


@pytest.mark.parametrize(("part", "words"), PARTS.values(), ids=PARTS.keys())
def test_each_block_of_a_page_is_on_paper(part: Markup, words: str) -> None:
    shown = printed(part)

    assert [word for word in words.split() if word not in shown] == []


def test_letters_that_the_fonts_lack_show_as_question_marks() -> None:
    assert "?" in printed(tag("p", "\u0930\u093e\u0935"))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(_WORD, min_size=3, max_size=3), min_size=1, max_size=60))
def test_no_cell_of_a_table_is_lost_over_the_pages(rows: list[list[str]]) -> None:
    shown = printed(joined((tag("h1", "A list"), grid(("When", "Who", "What"), rows))))

    assert {cell for row in rows for cell in row if cell not in shown.replace(" ", "")} == set()
