"""The stand-in EHR's Atom feeds, as OpenMRS and Bahmni serve theirs: numbered pages, oldest first.

An entry says that a patient or a visit was saved by OpenMRS's REST interface; what is written by
FHIR makes none. Links name the host as the server sees itself. The feeds `lab` and `drug` tell of
the catalogue of tests and drugs, of which this EHR has none: they stay empty.

Source: RFC 4287, RFC 5005; ict4h atomfeed; openmrs-atomfeed.
"""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.sandbox.refusal import Refusal
from adapters.sandbox.store import instant
from gateway.core.clock import new_id, to_ms, utc_now

BASE_PATH = "/openmrs/ws/atomfeed"
_INNER_BASE = f"http://localhost:8050{BASE_PATH}"
_ENTRIES = 5
#: What an entry of each feed is called, its category, and where it leads.
_TOLD = {
    "patient": ("Patient", "patient", "/openmrs/ws/rest/v1/patient/{id}?v=full"),
    "encounter": (
        "Encounter",
        "Encounter",
        "/openmrs/ws/rest/v1/bahmnicore/bahmniencounter/{id}?includeAll=true",
    ),
}
_EMPTY = ("lab", "drug")
_FEED = """<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
  <title>Patient AOP</title>
{links}
  <author><name>OpenMRS</name></author>
  <id>bec795b1-3d17-451d-b43e-a094019f6984+{number}</id>
  <updated>{updated}</updated>
{entries}
</feed>
"""
_LINK = '  <link rel="{rel}" type="application/atom+xml" href="{href}" />'
_ENTRY = """  <entry>
    <title>{title}</title>
    <category term="{category}" />
    <id>tag:atomfeed.ict4h.org:{id}</id>
    <updated>{at}</updated>
    <published>{at}</published>
    <content type="application/vnd.atomfeed+xml"><![CDATA[{path}]]></content>
  </entry>"""


class AtomFeeds:
    """What changed, by feed."""

    def __init__(self) -> None:
        feeds = (*_TOLD, *_EMPTY)
        self._entries: dict[str, list[tuple[str, str, str]]] = {feed: [] for feed in feeds}

    def routes(self) -> list[Route]:
        """List the routes."""
        return [Route(f"{BASE_PATH}/{{feed}}/{{page}}", self.page, methods=["GET"])]

    def announce(self, feed: str, resource_id: str) -> None:
        """Make an entry."""
        path = _TOLD[feed][2].format(id=resource_id)
        self._entries[feed].append((new_id(), path, instant(to_ms(utc_now()))))

    async def page(self, request: Request) -> Response:
        """Give a page."""
        feed, wanted = request.path_params["feed"], request.path_params["page"]
        entries = self._entries.get(feed)
        if entries is None or not (wanted == "recent" or wanted.isdecimal()):
            raise Refusal(404, "not-found", "No such feed.")
        last = max(1, -(-len(entries) // _ENTRIES))
        number = last if wanted == "recent" else int(wanted)
        if not 1 <= number <= last:
            raise Refusal(404, "not-found", "No such page.")
        shown = entries[(number - 1) * _ENTRIES : number * _ENTRIES]
        return Response(_page(feed, number, last, shown), media_type="application/atom+xml")


def _page(feed: str, number: int, last: int, shown: Sequence[tuple[str, str, str]]) -> str:
    links = {"self": f"{_INNER_BASE}/{feed}/recent", "via": f"{_INNER_BASE}/{feed}/{number}"}
    if number > 1:
        links["prev-archive"] = f"{_INNER_BASE}/{feed}/{number - 1}"
    if number < last:
        links["next-archive"] = f"{_INNER_BASE}/{feed}/{number + 1}"
    return _FEED.format(
        links="\n".join(_LINK.format(rel=rel, href=escape(href)) for rel, href in links.items()),
        number=number,
        updated=shown[-1][2] if shown else instant(0),
        entries="\n".join(_entry(feed, *each) for each in shown),
    )


def _entry(feed: str, entry_id: str, path: str, at: str) -> str:
    title, category, _ = _TOLD[feed]
    return _ENTRY.format(title=title, category=category, id=entry_id, at=at, path=path)
