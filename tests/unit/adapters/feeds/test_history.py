"""What a history tells of deletions, whatever its EHR leaves out."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from adapters.feeds.history import told_since
from adapters.fhir_rest.errors import EhrAnswerUnreadable

SENT = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
SENT_MS = int(SENT.timestamp() * 1000)


class Ehr:
    """Tells pages that a test wrote down."""

    def __init__(self, *pages: Any, sent: datetime | None = SENT) -> None:
        self._pages, self._sent = pages, sent
        self.asked: list[tuple[str, str]] = []

    def history(
        self, resource_type: str, params: Sequence[tuple[str, str]]
    ) -> Iterator[tuple[bytes, datetime | None]]:
        assert resource_type == "Consent"
        self.asked = list(params)
        for page in self._pages:
            yield orjson.dumps({"resourceType": "Bundle", "entry": page}), self._sent


def deletion(name: str, at: str = "", **changed: Any) -> dict[str, Any]:
    response = {"status": "204", **({"lastModified": at} if at else {})}
    request = {"method": "DELETE", "url": f"Consent/{name}/_history/2"}
    return {"request": request, "response": response, **changed}


def written(name: str, at: str = "") -> dict[str, Any]:
    meta = {"meta": {"lastUpdated": at}} if at else {}
    resource = {"resourceType": "Consent", "id": name, **meta}
    return {"resource": resource, "request": {"method": "PUT", "url": f"Consent/{name}"}}


def told(*pages: Any, sent: datetime | None = SENT):
    return told_since(Ehr(*pages, sent=sent), "Consent", 1000, overlap_ms=500)


def test_what_was_deleted_is_named_over_all_pages():
    assert told([written("a"), deletion("b")], [deletion("c")]).deleted == [
        "Consent/b",
        "Consent/c",
    ]


@pytest.mark.parametrize(
    "entry",
    [
        deletion("a", request={"method": "DELETE", "url": "Consent/a"}),
        deletion("a", request={"method": "DELETE", "url": "http://ehr.test/fhir/Consent/a"}),
        deletion("a", request={"method": "DELETE"}, fullUrl="http://ehr.test/fhir/Consent/a"),
        {"fullUrl": "http://ehr.test/fhir/Consent/a", "response": {"status": "410 Gone"}},
        {**written("a"), "request": {"method": "DELETE", "url": "Consent/a"}},
    ],
    ids=["relative", "absolute", "full-url", "gone-by-status", "with-its-last-version"],
)
def test_a_deletion_is_understood_however_it_is_written(entry: dict[str, Any]):
    assert told([entry]).deleted == ["Consent/a"]


@pytest.mark.parametrize(
    ("entries", "deleted"),
    [
        ([written("a"), deletion("a")], []),
        ([deletion("a"), written("a")], ["Consent/a"]),
        ([written("a", "2026-01-01T00:00:00Z"), deletion("a", "2026-01-02T00:00:00Z")], True),
        ([deletion("a", "2026-01-01T00:00:00Z"), written("a", "2026-01-02T00:00:00Z")], False),
    ],
    ids=["newest-first", "deleted-last", "oldest-first", "made-again"],
)
def test_the_newest_of_each_resource_counts(entries: list[Any], deleted: Any):
    assert bool(told(entries).deleted) == bool(deleted)


def test_another_type_or_nothing_readable_is_left_out():
    other = deletion("a", request={"method": "DELETE", "url": "Patient/a"})
    nowhere = {"request": {"method": "DELETE", "url": "Consent?status=active"}}

    assert told([other, nowhere]).deleted == []


def test_the_cursor_is_the_clock_of_the_ehr_and_the_question_begins_before_it():
    ehr = Ehr([])

    assert told_since(ehr, "Consent", 61_000, overlap_ms=60_000).cursor_ms == SENT_MS
    assert ehr.asked == [("_since", "1970-01-01T00:00:01.000Z"), ("_count", "200")]


def test_an_ehr_that_does_not_say_when_it_is_has_told_the_newest_change():
    at = written("a", "1970-01-01T00:00:09Z")

    assert told([at, written("b")], sent=None).cursor_ms == 9000
    assert told([], sent=None).cursor_ms == 1000


@pytest.mark.parametrize("entries", [{"a": 1}, [{"request": 5}], ["x"]])
def test_what_is_no_history_is_no_answer(entries: Any):
    with pytest.raises(EhrAnswerUnreadable):
        told(entries)
