"""The Atom feeds of OpenMRS and Bahmni: numbered pages of what changed, oldest first.

* `/{feed}/recent` is the newest page under its other name; its `via` link says its number.
* An entry says that something of the feed's kind changed; the id of it stands in a relative path.
* Links name the host as the server sees itself, which behind a proxy is another: only the number of
  a page is taken from them.
* The marker is a page with the last entry that was dealt with. Where the page does not have that
  entry any more (the feed was made anew), all of it counts as new.

XML is read with defusedxml: no entities, no external documents.

Source: RFC 4287 (Atom), RFC 5005 (archived feeds); ict4h atomfeed, as OpenMRS and Bahmni serve it.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from adapters.fhir_rest.errors import EhrAnswerUnreadable

_ATOM = "{http://www.w3.org/2005/Atom}"
_UUID = re.compile(r"/([0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|[A-Za-z0-9-]{36,64})(?:[/?]|$)")
_PAGE = re.compile(r"/([0-9]{1,12})/?$")
_NO_FEED = "This is no Atom feed, or one with a DTD; a login page may have answered."

#: What is fetched for an entry of each feed: `Type/{id}`, or a search.
FETCHED: Mapping[str, tuple[str, ...]] = {
    "patient": ("Patient/{id}",),
    "encounter": ("Encounter/{id}", "Observation?encounter={id}"),
}


@dataclass(frozen=True)
class Entry:
    """One change.

    Attributes:
        id: Of the change.
        resource_id: Of what changed; None where the entry names nothing that we know to read.
    """

    id: str
    resource_id: str | None


@dataclass(frozen=True)
class Page:
    """One page of a feed.

    Attributes:
        number: Its number; None where it does not say.
        has_next: Whether a later page exists.
        has_previous: Whether an earlier page exists.
    """

    number: int | None
    entries: tuple[Entry, ...]
    has_next: bool
    has_previous: bool


@dataclass(frozen=True)
class Marker:
    """How far a feed was dealt with: a page, and the last entry of it; empty for none of it."""

    page: int
    entry: str = ""

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """Read what `as_json` wrote."""
        return cls(int(kept["page"]), str(kept["entry"]))

    def as_json(self) -> dict[str, Any]:
        """Give what is to be kept."""
        return {"page": self.page, "entry": self.entry}


#: Reads a page: by its number, or the newest for None. None where there is no such page.
ReadPage = Callable[[int | None], Page | None]


def read_page(body: bytes) -> Page:
    """Read a page.

    Raises:
        EhrAnswerUnreadable: It is no Atom feed, or holds what no feed needs.
    """
    try:
        feed = fromstring(body)
    except (ParseError, DefusedXmlException, ValueError):
        raise EhrAnswerUnreadable(_NO_FEED) from None
    if feed.tag != f"{_ATOM}feed":
        raise EhrAnswerUnreadable(_NO_FEED)
    links = {link.get("rel", ""): link.get("href", "") for link in feed.findall(f"{_ATOM}link")}
    found = _PAGE.search(links.get("via") or links.get("self") or "")
    return Page(
        number=int(found[1]) if found else None,
        entries=tuple(_entry(each) for each in feed.findall(f"{_ATOM}entry")),
        has_next="next-archive" in links,
        has_previous="prev-archive" in links,
    )


def beginning(read: ReadPage, *, from_beginning: bool) -> Marker | None:
    """Say where to begin a feed that is new here; None while it has no page yet.

    Raises:
        TransientError: The feed can't be read now.
    """
    newest = read(None)
    if newest is None or newest.number is None:
        return None
    if from_beginning:
        return Marker(1)
    return Marker(newest.number, newest.entries[-1].id if newest.entries else "")


def news(read: ReadPage, marker: Marker) -> Iterator[tuple[Sequence[Entry], Marker]]:
    """Give the entries after a marker, a page at a time, each with the marker after it.

    Raises:
        TransientError: The feed can't be read now.
    """
    page = read(marker.page)
    if page is None:
        page = _oldest_left(read)
        marker = Marker(page.number or 1) if page else marker
    while page is not None:
        entries = _after(page.entries, marker.entry)
        number = page.number or marker.page
        if entries:
            marker = Marker(number, entries[-1].id)
            yield entries, marker
        if not page.has_next:
            return
        marker = Marker(number + 1)
        page = read(marker.page)


def _oldest_left(read: ReadPage) -> Page | None:
    """Find the oldest page that a feed still has, when the one we were at is gone."""
    page = read(None)
    while page is not None and page.has_previous and page.number is not None:
        earlier = read(page.number - 1)
        if earlier is None:
            return page
        page = earlier
    return page


def _after(entries: Sequence[Entry], last: str) -> Sequence[Entry]:
    ids = [entry.id for entry in entries]
    return entries[ids.index(last) + 1 :] if last in ids else entries


def _entry(element: Element) -> Entry:
    content = element.findtext(f"{_ATOM}content") or ""
    found = _UUID.search(content)
    return Entry(element.findtext(f"{_ATOM}id") or "", found[1] if found else None)
