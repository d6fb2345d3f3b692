"""An EHR that answers wrongly or means harm is told of as the pages say, and leads nowhere else."""

from collections.abc import Callable, Iterator

import pytest

from gateway.core.errors import GatewayError
from tests.answering import Answering, answering
from tests.bad_answers import (
    LONG_LINE,
    BadAnswer,
    BadExport,
    export,
    exports,
    lines_of,
    pages,
    polls,
    read_feed,
    said,
    search,
)


@pytest.fixture(scope="module")
def ehr() -> Iterator[Answering]:
    with answering() as told:
        yield told


def refused(ehr: Answering, case: BadAnswer, ask: Callable[[], None]) -> str:
    """Let the EHR answer so; give what Nadi says of it."""
    ehr.answer(case.body, status=case.status, **case.headers)
    with pytest.raises(case.error) as raised:
        ask()
    error = raised.value
    assert isinstance(error, GatewayError)
    return error.message


@pytest.mark.parametrize("case", list(polls()), ids=lambda case: case.what)
def test_a_search_that_is_answered_wrongly_is_told_as_the_page_says(
    ehr: Answering, case: BadAnswer
):
    assert refused(ehr, case, lambda: search(ehr.base)) == said(case)


@pytest.mark.parametrize("case", list(pages()), ids=lambda case: case.what)
def test_a_page_of_a_feed_that_is_none_is_told_as_the_page_says(ehr: Answering, case: BadAnswer):
    assert refused(ehr, case, lambda: read_feed(ehr.base)) == said(case)


@pytest.mark.parametrize("case", list(exports()), ids=lambda case: case.what)
def test_an_export_that_is_answered_wrongly_is_told_as_the_page_says(
    ehr: Answering, case: BadExport
):
    assert refused(ehr, case, lambda: export(ehr.base, case)) == said(case)


def test_a_line_that_is_too_long_is_passed_over_and_the_next_one_is_read(ehr: Answering):
    ehr.answer(LONG_LINE[1])

    assert lines_of(ehr.base) == [None, b"{}"]
