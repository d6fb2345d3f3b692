"""The Atom feeds of OpenMRS and Bahmni: numbered pages, a marker, and XML that means no harm."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.feeds.atom import Entry, Marker, Page, beginning, news, read_page
from adapters.fhir_rest.errors import EhrAnswerUnreadable

PATIENT = "aca97062-35c5-4a23-baf8-56e6eec76320"
FEED = f"""<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
  <title>Patient AOP</title>
  <link rel="self" type="application/atom+xml" href="http://localhost:8050/openmrs/ws/atomfeed/patient/recent" />
  <link rel="via" type="application/atom+xml" href="http://localhost:8050/openmrs/ws/atomfeed/patient/35" />
  <link rel="prev-archive" type="application/atom+xml" href="http://localhost:8050/openmrs/ws/atomfeed/patient/34" />
  <id>bec795b1-3d17-451d-b43e-a094019f6984+35</id>
  <updated>2016-02-23T03:31:13Z</updated>
  <entry>
    <title>Patient</title>
    <category term="patient" />
    <id>tag:atomfeed.ict4h.org:8b38f530-6c19-4e52-a3be-d3fce58132ce</id>
    <content type="application/vnd.atomfeed+xml"><![CDATA[/openmrs/ws/rest/v1/patient/{PATIENT}?v=full]]></content>
  </entry>
  <entry>
    <title>Patient</title>
    <id>tag:atomfeed.ict4h.org:9cc95d86-1b8e-4582-a774-83cf4b73c23e</id>
    <content type="application/vnd.atomfeed+xml"><![CDATA[{{"no": "path"}}]]></content>
  </entry>
</feed>
""".encode()  # noqa: E501
BOMB = b"""<?xml version="1.0"?><!DOCTYPE feed [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>
<feed xmlns="http://www.w3.org/2005/Atom"><title>&b;</title></feed>"""
OUTSIDE = b"""<?xml version="1.0"?><!DOCTYPE feed [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<feed xmlns="http://www.w3.org/2005/Atom"><title>&x;</title></feed>"""


def test_a_page_says_its_number_its_neighbours_and_what_changed():
    page = read_page(FEED)

    assert (page.number, page.has_next, page.has_previous) == (35, False, True)
    assert [each.resource_id for each in page.entries] == [PATIENT, None]
    assert page.entries[0].id == "tag:atomfeed.ict4h.org:8b38f530-6c19-4e52-a3be-d3fce58132ce"


@pytest.mark.parametrize(
    "path",
    [
        f"/openmrs/ws/rest/v1/patient/{PATIENT}?v=full",
        f"/openmrs/ws/rest/v1/bahmnicore/bahmniencounter/{PATIENT}?includeAll=true",
        f"/openmrs/ws/rest/v1/encounter/{PATIENT}",
        f"/openmrs/ws/rest/v1/encounter/{PATIENT}/obs",
    ],
)
def test_the_id_is_found_in_every_kind_of_path(path: str):
    feed = FEED.replace(f"/openmrs/ws/rest/v1/patient/{PATIENT}?v=full".encode(), path.encode())

    assert read_page(feed).entries[0].resource_id == PATIENT


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"{}", b"<feed/>", BOMB, OUTSIDE, FEED[:300]],
    ids=["empty", "html", "json", "no-atom", "entities", "outside", "cut"],
)
def test_what_is_no_feed_or_means_harm_is_no_answer(body: bytes):
    with pytest.raises(EhrAnswerUnreadable):
        read_page(body)


@dataclass
class MemoryFeed:
    """A feed in memory, in pages of three; pages before `first` were purged."""

    names: list[str] = field(default_factory=list)
    first: int = 1

    def read(self, number: int | None) -> Page | None:
        last = max(1, -(-len(self.names) // 3))
        at = last if number is None else number
        if not self.first <= at <= last:
            return None
        shown = self.names[(at - 1) * 3 : at * 3]
        entries = tuple(Entry(name, name) for name in shown)
        return Page(at, entries, has_next=at < last, has_previous=at > self.first)


def test_a_new_feed_begins_with_what_comes_next_or_at_its_beginning():
    feed = MemoryFeed(list("abcde"))

    now = beginning(feed.read, from_beginning=False)
    ever = beginning(feed.read, from_beginning=True)

    assert (now, ever) == (Marker(2, "e"), Marker(1))
    assert now is not None
    assert list(news(feed.read, now)) == []


def test_a_feed_that_was_made_anew_is_read_again_and_not_passed_over():
    feed = MemoryFeed(["x", "y"])

    (found,) = news(feed.read, Marker(1, "an entry that is gone"))

    assert [entry.id for entry in found[0]] == ["x", "y"]


def test_pages_that_were_purged_are_passed_to_the_oldest_that_is_left():
    feed = MemoryFeed([str(number) for number in range(12)], first=3)

    found = [entry.id for entries, _ in news(feed.read, Marker(1, "2")) for entry in entries]

    assert found == ["6", "7", "8", "9", "10", "11"]


def test_an_empty_feed_that_fills_is_read_from_its_first_entry():
    feed = MemoryFeed()
    marker = beginning(feed.read, from_beginning=False)
    assert marker is not None
    feed.names += ["a", "b"]

    (found,) = news(feed.read, marker)

    assert [entry.id for entry in found[0]] == ["a", "b"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=12), st.lists(st.booleans(), max_size=40))
def test_every_entry_comes_once_however_they_arrive_and_whoever_dies(
    arrivals: list[int], deaths: list[bool]
):
    feed, dies = MemoryFeed(), iter(deaths)
    marker, seen = Marker(1), []
    for count in [*arrivals, 0]:
        feed.names += [str(len(feed.names) + number) for number in range(count)]
        for entries, after in news(feed.read, marker):
            if count and next(dies, False):
                break  # before anything of this page was kept
            seen += [entry.id for entry in entries]
            marker = after

    assert seen == feed.names


def test_what_is_kept_is_read_again():
    assert Marker.from_json(Marker(7, "e").as_json()) == Marker(7, "e")
