"""The stand-in EHR's Atom feeds, as OpenMRS and Bahmni serve theirs: numbered pages, oldest first.

A Patient that is written is an entry of `patient`; an Encounter, or an Observation that belongs to
one, an entry of `encounter`. Links name the host as the server sees itself. Beside the feeds is as
much of OpenMRS's REST interface as saves a patient as she is.

Source: RFC 4287, RFC 5005; ict4h atomfeed.
"""

from collections.abc import Sequence
from xml.sax.saxutils import escape

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.sandbox.refusal import Refusal
from adapters.sandbox.store import Record, Store, instant
from gateway.core.clock import new_id

BASE_PATH = "/openmrs/ws/atomfeed"
_REST_PATH = "/openmrs/ws/rest/v1"
_INNER_BASE = f"http://localhost:8050{BASE_PATH}"
_ENTRIES = 5
_PATHS = {
    "patient": "/openmrs/ws/rest/v1/patient/{id}?v=full",
    "encounter": "/openmrs/ws/rest/v1/bahmnicore/bahmniencounter/{id}?includeAll=true",
}
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
    <title>{feed}</title>
    <category term="{feed}" />
    <id>tag:atomfeed.ict4h.org:{id}</id>
    <updated>{at}</updated>
    <published>{at}</published>
    <content type="application/vnd.atomfeed+xml"><![CDATA[{path}]]></content>
  </entry>"""


class AtomFeeds:
    """What changed, by feed."""

    def __init__(self, store: Store) -> None:
        self._entries: dict[str, list[tuple[str, str, str]]] = {feed: [] for feed in _PATHS}
        self._store = store
        store.listen(self._notice)

    def routes(self) -> list[Route]:
        """List the routes."""
        return [
            Route(f"{BASE_PATH}/{{feed}}/{{page}}", self.page, methods=["GET"]),
            Route(f"{_REST_PATH}/patient/{{id}}", self.save, methods=["POST"]),
        ]

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

    async def save(self, request: Request) -> Response:
        """Save a patient as she is: a new version, and an entry."""
        name = request.path_params["id"]
        known = self._store.current("Patient", name)
        if known is None or known.is_deleted:
            raise Refusal(404, "not-found", "No such patient.")
        self._store.put(orjson.loads(known.body), name)
        return Response(b"{}", media_type="application/json")

    def _notice(self, written: Sequence[Record]) -> None:
        for record in written:
            if record.is_deleted:
                continue
            if record.resource_type == "Patient":
                self._add("patient", record.id, record)
            elif record.resource_type == "Encounter":
                self._add("encounter", record.id, record)
            elif record.resource_type == "Observation":
                for name, _, reference in record.keys.tokens:
                    if name == "encounter":
                        self._add("encounter", str(reference).rpartition("/")[2], record)

    def _add(self, feed: str, resource_id: str, record: Record) -> None:
        path = _PATHS[feed].format(id=resource_id)
        self._entries[feed].append((new_id(), path, instant(record.updated_ms)))


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
        entries="\n".join(
            _ENTRY.format(feed=feed, id=entry_id, at=at, path=path) for entry_id, path, at in shown
        ),
    )
