"""The stand-in EHR's Bulk Data `$export`: kick-off, status, files of lines.

* An export is of what is there when it is asked for; it is ready after `export_wait_s`.
* Files have at most `_LINES` lines, and can be continued from a byte.
* With `_since`, what was deleted after it is listed as Bundles of DELETE entries.

Source: FHIR Bulk Data Access 2.0 (http://hl7.org/fhir/uv/bulkdata/export.html).
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from adapters.sandbox.dates import parse_range
from adapters.sandbox.faults import FaultKnobs
from adapters.sandbox.refusal import Refusal, outcome
from adapters.sandbox.store import Record, Store, instant
from gateway.core.clock import new_id, to_ms, utc_now

_LINES = 5000
_PIECE = 2**16
_NDJSON = "application/fhir+ndjson"


@dataclass
class _Export:
    at_ms: int
    ready_at: float
    files: dict[str, bytes] = field(default_factory=dict)
    manifest: dict[str, list[dict[str, object]]] = field(default_factory=dict)


class Exports:
    """The exports that were asked for."""

    def __init__(self, store: Store, knobs: FaultKnobs, base_path: str) -> None:
        self._store = store
        self._knobs = knobs
        self._base_path = base_path
        self._exports: dict[str, _Export] = {}

    def routes(self) -> list[Route]:
        """List the routes; those of an export lie beside the FHIR base."""
        return [
            Route(f"{self._base_path}/$export", self.kick_off, methods=["GET"]),
            Route("/bulk/{id}", self.status, methods=["GET"]),
            Route("/bulk/{id}", self.delete, methods=["DELETE"]),
            Route("/bulk/{id}/{file}", self.file, methods=["GET"]),
        ]

    async def kick_off(self, request: Request) -> Response:
        """Begin an export."""
        if "respond-async" not in request.headers.get("prefer", ""):
            raise Refusal(400, "required", "An export is answered later: Prefer: respond-async.")
        asked = request.query_params
        types = [each for each in asked.get("_type", "").split(",") if each]
        wait_s = self._knobs.current.export_wait_s
        export_id = new_id()
        made = _Export(to_ms(utc_now()), time.monotonic() + wait_s)
        self._exports[export_id] = made
        self._write(made, types or list(self._store.counts()), _since_ms(asked.get("_since")))
        address = f"{_origin(request)}/bulk/{export_id}"
        return Response(b"", 202, {"Content-Location": address})

    async def status(self, request: Request) -> Response:
        """Say how far an export is, or give its manifest."""
        export = self._export(request)
        left_s = export.ready_at - time.monotonic()
        if left_s > 0:
            headers = {"Retry-After": "1", "X-Progress": "50% of it is there"}
            return Response(b"", 202, headers)
        base = f"{_origin(request)}/bulk/{request.path_params['id']}"
        lists = {
            kind: [{**each, "url": f"{base}/{each['url']}"} for each in files]
            for kind, files in export.manifest.items()
        }
        manifest = {
            "transactionTime": instant(export.at_ms),
            "request": f"{_origin(request)}{self._base_path}/$export",
            "requiresAccessToken": True,
            **lists,
        }
        return Response(orjson.dumps(manifest), media_type="application/json")

    async def delete(self, request: Request) -> Response:
        """Remove an export."""
        self._export(request)
        del self._exports[request.path_params["id"]]
        return Response(b"", 202)

    async def file(self, request: Request) -> Response:
        """Give a file, or what of it comes after a byte."""
        content = self._export(request).files.get(request.path_params["file"])
        if content is None:
            raise Refusal(404, "not-found", "No such file.")
        wanted = request.headers.get("range", "").removeprefix("bytes=").partition("-")[0]
        if not wanted.isdecimal() or self._knobs.current.no_ranges:
            return StreamingResponse(_pieces(content, 0), media_type=_NDJSON)
        first = min(int(wanted), len(content))
        headers = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"}
        return StreamingResponse(_pieces(content, first), 206, headers, _NDJSON)

    def _export(self, request: Request) -> _Export:
        found = self._exports.get(request.path_params["id"])
        if found is None:
            raise Refusal(404, "not-found", "No such export.")
        return found

    def _write(self, export: _Export, types: list[str], since_ms: int | None) -> None:
        for kind in types:
            records = list(self._store.newest_first(kind))
            if since_ms is not None:
                records = [each for each in records if each.updated_ms >= since_ms]
            for first in range(0, len(records), _LINES):
                lines = [each.body for each in records[first : first + _LINES]]
                self._add(export, "output", kind, lines)
        gone = [] if since_ms is None else self._store.deleted_since(types, since_ms)
        if gone:
            self._add(export, "deleted", "Bundle", [_deletion(each) for each in gone])
        if self._knobs.current.export_errors:
            problem = outcome("exception", "A resource could not be exported.")
            self._add(export, "error", "OperationOutcome", [problem])

    def _add(self, export: _Export, kind: str, of_type: str, lines: list[bytes]) -> None:
        name = f"{len(export.files)}.ndjson"
        export.files[name] = b"\n".join(lines) + b"\n"
        entry = {"type": of_type, "url": name, "count": len(lines)}
        export.manifest.setdefault(kind, []).append(entry)
        export.manifest.setdefault("output", [])


def _pieces(content: bytes, first: int) -> Iterator[bytes]:
    for start in range(first, len(content), _PIECE):
        yield content[start : start + _PIECE]


def _deletion(record: Record) -> bytes:
    entry = {"request": {"method": "DELETE", "url": record.reference}}
    return orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [entry]})


def _since_ms(text: str | None) -> int | None:
    if text is None:
        return None
    found = parse_range(text)
    if found is None:
        raise Refusal(400, "value", "_since can't be read.")
    return found[0] // 1000


def _origin(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}"
