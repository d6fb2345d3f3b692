"""Search results as Bundles, in pages over what matched when the search was made.

A page link names a snapshot, as HAPI's does, so that a client that walks the pages sees every
match once, whatever is written meanwhile.

Source: FHIR R4 search section 3.1.1.1.3 and RESTful API section 3.1.0.14 (paging).
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import orjson

from adapters.sandbox.refusal import Refusal
from adapters.sandbox.search import Pairs, Query
from adapters.sandbox.store import Record, Store, instant
from gateway.core.clock import new_id

_SNAPSHOTS = 200


def search_bundle(
    page: Sequence[Record],
    *,
    total: int,
    base_url: str,
    links: Sequence[tuple[str, str]] = (),
    included: Sequence[Record] = (),
) -> bytes:
    """Write one page of results; the stored bodies go in as they are.

    Args:
        page: Records of this page.
        total: Matches over all pages.
        base_url: Without a trailing slash.
        links: Relation and URL.
        included: What comes along.
    """
    bundle = {
        "resourceType": "Bundle",
        "id": new_id(),
        "type": "searchset",
        "total": total,
        "link": [{"relation": relation, "url": url} for relation, url in links],
        "entry": [
            {
                "fullUrl": f"{base_url}/{record.reference}",
                "resource": orjson.Fragment(record.body),
                "search": {"mode": mode},
            }
            for mode, records in (("match", page), ("include", included))
            for record in records
        ],
    }
    # FHIR JSON has no empty arrays.
    return orjson.dumps({key: value for key, value in bundle.items() if value != []})


def history_bundle(records: Sequence[Record], base_url: str) -> bytes:
    """Write what happened as a history Bundle; a deletion has no resource (FHIR R4 http.html)."""
    bundle = {"resourceType": "Bundle", "type": "history", "total": len(records)}
    entries = [_happened(record, base_url) for record in records]
    return orjson.dumps(bundle | ({"entry": entries} if entries else {}))


def _happened(record: Record, base_url: str) -> dict[str, object]:
    entry: dict[str, object] = {
        "fullUrl": f"{base_url}/{record.reference}",
        "request": {
            "method": "DELETE" if record.is_deleted else "PUT",
            "url": f"{record.reference}/_history/{record.version}",
        },
        "response": {
            "status": "204" if record.is_deleted else "200",
            "lastModified": instant(record.updated_ms),
        },
    }
    return entry if record.is_deleted else entry | {"resource": orjson.Fragment(record.body)}


class Snapshots:
    """Remembers the last few searches that have more pages."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: OrderedDict[str, tuple[tuple[Record, ...], Query]] = OrderedDict()

    def first(self, found: Sequence[Record], query: Query, base_url: str) -> bytes:
        """Give the first page of a search and keep the others."""
        count = query.count
        links = [("self", f"{base_url}/{query.resource_type}")]
        if len(found) > count > 0:
            token = new_id()
            self._kept[token] = (tuple(found), query)
            links.append(("next", _next_url(base_url, token, count)))
            if len(self._kept) > _SNAPSHOTS:
                self._kept.popitem(last=False)
        return self._page(found, range(count), query, base_url, links)

    def following(self, pairs: Pairs, base_url: str) -> bytes:
        """Give the page that a link asked for.

        Raises:
            Refusal: That search is forgotten (410); it has to be made again.
        """
        asked = dict(pairs)
        token, offset = asked.get("_getpages", ""), asked.get("_getpagesoffset", "")
        if token not in self._kept or not offset.isdecimal():
            raise Refusal(410, "expired", "That search is over; make it again.")
        found, query = self._kept[token]
        count = query.count
        end = int(offset) + count
        links = [("self", _next_url(base_url, token, int(offset)))]
        if end < len(found):
            links.append(("next", _next_url(base_url, token, end)))
        return self._page(found, range(int(offset), end), query, base_url, links)

    def _page(
        self,
        found: Sequence[Record],
        part: range,
        query: Query,
        base_url: str,
        links: Sequence[tuple[str, str]],
    ) -> bytes:
        page = found[part.start : part.stop]
        return search_bundle(
            page,
            total=len(found),
            base_url=base_url,
            links=links,
            included=list(_included(self._store, page, query.includes)),
        )


def _included(store: Store, page: Sequence[Record], names: Sequence[str]) -> Iterator[Record]:
    """Give what the records of a page refer to by these names, each once."""
    wanted = dict.fromkeys(
        str(reference)
        for record in page
        for name, _, reference in record.keys.tokens
        if name in names
    )
    for reference in wanted:
        kind, _, name = reference.partition("/")
        found = store.current(kind, name)
        if found is not None and not found.is_deleted:
            yield found


def _next_url(base_url: str, token: str, offset: int) -> str:
    return f"{base_url}?_getpages={token}&_getpagesoffset={offset}"
