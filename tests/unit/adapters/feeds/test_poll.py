"""The cursor of a poll, on an EHR in memory that answers as real ones do."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.feeds.page import Found, bundles_of, found_in, resources_of
from adapters.feeds.poll import Poll, PollPlan, Query
from adapters.fhir_rest.errors import EhrAnswerUnreadable, EhrRefused, EhrUnreachable
from gateway.core.clock import from_ms, to_ms

START_MS = 1_700_000_000_000


def instant(ms: int) -> str:
    return from_ms(ms).isoformat(timespec="milliseconds")


@dataclass
class MemoryEhr:
    """Keeps versions by time; a page link goes over what matched when it was asked.

    Attributes:
        breaks_after: Pages after which the connection breaks; None for never.
    """

    now_ms: int = START_MS
    page: int = 3
    breaks_after: int | None = None
    has_date: bool = True
    cant_sort: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)

    def write(self, name: str, *, updated_ms: int | None = None) -> None:
        updated = self.now_ms if updated_ms is None else updated_ms
        version = str(1 + sum(row["id"] == name for row in self.rows))
        meta = {"versionId": version, "lastUpdated": instant(updated)}
        self.rows.append({"resourceType": "Observation", "id": name, "meta": meta})

    def pages(
        self, resource_type: str, params: Sequence[tuple[str, str]]
    ) -> Iterator[tuple[bytes, datetime | None]]:
        assert resource_type == "Observation"
        self.asked.append(dict(params))
        if self.cant_sort and "_sort" in dict(params):
            raise EhrRefused(400)
        since = dict(params)["_lastUpdated"].removeprefix("ge")
        newest = {row["id"]: row for row in self.rows}
        since_ms = to_ms(datetime.fromisoformat(since))
        found = [row for row in newest.values() if updated_of(row) >= since_ms]
        found.sort(key=updated_of)
        for number, first in enumerate(range(0, max(len(found), 1), self.page)):
            if number == self.breaks_after:
                raise EhrUnreachable
            entries = [{"resource": row} for row in found[first : first + self.page]]
            body = {"resourceType": "Bundle", "type": "searchset", "entry": entries}
            yield json.dumps(body).encode(), from_ms(self.now_ms) if self.has_date else None


def updated_of(row: dict[str, Any]) -> int:
    return to_ms(datetime.fromisoformat(row["meta"]["lastUpdated"]))


@dataclass
class Taken:
    marks: list[bytes] = field(default_factory=list)

    def __call__(self, found: Sequence[Found]) -> None:
        self.marks += [each.mark for each in found]


def poll(ehr: MemoryEhr, taken: Taken, *, ahead_ms: int = 0, overlap_ms: int = 5000) -> Poll:
    plan = PollPlan(overlap_ms=overlap_ms, count=3, includes=("Observation:subject",))
    now = lambda: from_ms(ehr.now_ms + ahead_ms)  # noqa: E731
    return Poll(ehr, Query("Observation?code=1"), plan, taken, now)


def test_the_question_names_condition_time_order_size_and_what_comes_along():
    ehr = MemoryEhr()

    poll(ehr, Taken()).walk(START_MS)

    assert ehr.asked == [
        {
            "code": "1",
            "_lastUpdated": "ge2023-11-14T22:13:15.000Z",
            "_sort": "_lastUpdated",
            "_count": "3",
            "_include": "Observation:subject",
        }
    ]


def test_an_ehr_that_can_not_sort_is_asked_without_from_then_on():
    ehr, taken = MemoryEhr(cant_sort=True), Taken()
    following = poll(ehr, taken)
    ehr.write("a")

    for _ in range(2):
        following.walk(START_MS)

    assert len(taken.marks) == 1
    assert ["_sort" in each for each in ehr.asked] == [True, False, False]


def test_two_changes_in_one_moment_on_both_sides_of_a_walk_are_both_seen():
    ehr, taken = MemoryEhr(), Taken()
    following = poll(ehr, taken)
    ehr.write("a")
    cursor = following.walk(START_MS).cursor_ms
    ehr.write("b", updated_ms=START_MS)

    following.walk(cursor)

    assert len(taken.marks) == 2


def test_a_change_that_becomes_visible_late_is_seen_within_the_overlap():
    ehr, taken = MemoryEhr(), Taken()
    following = poll(ehr, taken)
    ehr.now_ms += 4000
    ehr.write("a")
    cursor = following.walk(START_MS).cursor_ms
    ehr.write("late", updated_ms=START_MS)

    following.walk(cursor)

    assert len(taken.marks) == 2


def test_a_resource_from_the_future_hides_none_that_come_after_it():
    ehr, taken = MemoryEhr(), Taken()
    following = poll(ehr, taken)
    ehr.write("future", updated_ms=START_MS + 10**10)
    cursor = following.walk(START_MS).cursor_ms
    ehr.now_ms += 60_000
    ehr.write("now")

    following.walk(cursor)

    assert len(taken.marks) == 2


def test_the_cursor_goes_back_with_the_clock_of_the_ehr():
    ehr, taken = MemoryEhr(), Taken()
    following = poll(ehr, taken)
    ehr.write("a")
    cursor = following.walk(START_MS).cursor_ms
    ehr.now_ms -= 3_600_000
    cursor = following.walk(cursor).cursor_ms
    ehr.write("b")

    following.walk(cursor)

    assert len(taken.marks) == 2


def test_our_clock_may_be_wrong_where_the_ehr_tells_its_own():
    ehr, taken = MemoryEhr(), Taken()
    following = poll(ehr, taken, ahead_ms=10**9)
    ehr.write("a")

    assert following.walk(START_MS - 10**6).cursor_ms == START_MS


def test_a_walk_that_breaks_leaves_the_cursor_where_it_was():
    ehr, taken = MemoryEhr(breaks_after=1), Taken()
    following = poll(ehr, taken)
    for name in "abcdef":
        ehr.write(name)
    with pytest.raises(EhrUnreachable):
        following.walk(START_MS)
    ehr.breaks_after = None

    walked = following.walk(START_MS)

    assert sorted(Counter(taken.marks).values()) == [1] * 6
    assert (walked.read, walked.handed_in) == (6, 3)


def test_marks_are_forgotten_when_no_walk_can_meet_them():
    ehr, taken = MemoryEhr(), Taken()
    following = poll(ehr, taken)
    cursor = START_MS
    for number in range(50):
        ehr.now_ms += 2000
        ehr.write(f"o{number}")
        cursor = following.walk(cursor).cursor_ms

    assert len(following._seen) < 10
    assert len(taken.marks) == 50


WRITES = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 3), st.integers(0, 4)), max_size=40
)


@settings(max_examples=60, deadline=None)
@given(WRITES, st.lists(st.integers(0, 2), max_size=10), st.booleans())
def test_every_change_is_handed_in_once_whatever_breaks(
    writes: list[tuple[str, int, int]], breaks: list[int], has_date: bool
):
    """Writes come with delays (s) and become visible late by up to 4 s; the overlap is 5 s."""
    ehr, taken = MemoryEhr(has_date=has_date), Taken()
    following, cursor = poll(ehr, taken), START_MS - 10_000
    expected: dict[str, str] = {}
    for number, (name, wait_s, late_s) in enumerate(writes):
        ehr.now_ms += wait_s * 1000
        ehr.write(f"{name}{number}", updated_ms=ehr.now_ms - late_s * 1000)
        expected[f"{name}{number}"] = "1"
        ehr.breaks_after = breaks[number] if number < len(breaks) else None
        try:
            cursor = following.walk(cursor).cursor_ms
        except EhrUnreachable:
            continue
    ehr.breaks_after = None
    following.walk(cursor)

    assert sorted(Counter(taken.marks).values()) == [1] * len(expected)


def test_a_page_is_cut_into_bytes_as_they_were():
    raw = b'{"resourceType":"Observation","id":"a","valueQuantity":{"value":1.50}}'
    body = b'{"resourceType":"Bundle","entry":[{"resource":' + raw + b"}]}"

    (found,) = resources_of(body)
    (bundle,) = bundles_of([found], "http://ehr.test/fhir")

    assert found.raw == raw
    assert raw in bundle
    assert json.loads(bundle)["entry"][0]["fullUrl"] == "http://ehr.test/fhir/Observation/a"


def test_what_was_only_included_does_not_move_the_cursor_and_outcomes_are_left_out():
    entries = [
        {"resource": {"resourceType": "Patient", "id": "p"}, "search": {"mode": "include"}},
        {"resource": {"resourceType": "OperationOutcome"}, "search": {"mode": "outcome"}},
        {"fullUrl": "http://ehr.test/fhir/Patient/q"},
    ]
    found = list(resources_of(json.dumps({"resourceType": "Bundle", "entry": entries}).encode()))

    assert [(each.reference, each.is_match) for each in found] == [("Patient/p", False)]


def test_many_resources_go_in_several_bundles():
    one = found_in(b'{"resourceType":"Patient","id":"p","x":"' + b"y" * 10_000 + b'"}')

    assert [len(json.loads(each)["entry"]) for each in bundles_of([one] * 1200, "http://e")] == [
        500,
        500,
        200,
    ]
    assert len(list(bundles_of([one] * 499, "http://e"))) == 1


def test_what_is_no_page_is_no_answer():
    for body in (b"<html>", b'{"entry":[{"resource":7}]}', b'{"entry":5}'):
        with pytest.raises(EhrAnswerUnreadable):
            list(resources_of(body))
