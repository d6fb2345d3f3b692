"""The pages show what the tests send: a table that was written by hand would say what once was."""

from pathlib import Path

import pytest

from tests.bad_tables import DOCS, replaced, tables

SHOWN = list(tables())


@pytest.mark.parametrize(
    ("page", "table"), SHOWN, ids=[f"{page.name} {table[:20]}" for page, table in SHOWN]
)
def test_each_page_shows_what_is_tested(page: Path, table: str):
    assert table in page.read_text(), "run: python -m tests.bad_tables"


def test_no_case_is_there_twice():
    for page, table in SHOWN:
        named = [line.split(" | ")[0] for line in table.splitlines()]
        assert len(set(named)) == len(named), page.name


def test_every_page_of_a_door_is_linked_from_the_page_about_bad_input():
    linked = (DOCS / "bad-input.md").read_text()

    for page, _ in SHOWN[1:]:
        assert f"]({page.name}#" in linked


def test_a_table_takes_the_place_of_the_one_with_its_first_line():
    page = "a\n\n| b |\n|---|\n| old |\n\nc\n"

    assert replaced(page, "| b |\n|---|\n| new |\n") == page.replace("old", "new")
