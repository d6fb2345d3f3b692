"""`GET /fhir/AuditEvent`: what was done, for the role `compliance`; itself audited.

Source: IHE ITI-81 (Retrieve ATNA Audit Event), FHIR R4 AuditEvent search parameters.
"""

from dataclasses import dataclass, replace
from datetime import datetime

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from gateway.api.edge import Call, Edge
from gateway.api.outcome import fhir_response
from gateway.api.paging import count_of, insist_on_known, next_link, searchset, whole_number
from gateway.core import clinical_time
from gateway.core.clock import to_ms
from gateway.core.errors import ContentError, NotFound
from gateway.core.receipt import ProvenEvent, receipt
from gateway.store.audit_log import AuditFilter, AuditRow

_KNOWN = ("patient", "system", "date", "outcome", "subtype")
_OUTCOMES = frozenset({"0", "4", "8", "12"})


@dataclass(frozen=True)
class _Answer:
    rows: list[AuditRow]
    total: int


class AuditEvents:
    """Searches the audit log."""

    def __init__(self, edge: Edge, verifier_key: str) -> None:
        self._edge = edge
        self._verifier_key = verifier_key

    async def search(self, call: Call) -> Response:
        """`GET /fhir/AuditEvent?patient=&date=&outcome=&_count=`."""
        wanted = self._filter(call.request)
        answer = await run_in_threadpool(self._search, wanted)
        keys = {row.patient_key for row in answer.rows} or {wanted.patient_key}
        await self._edge.record_query(call, _safe_query(wanted), keys)
        events = [orjson.loads(row.body) for row in answer.rows]
        last = str(answer.rows[-1].seq) if len(answer.rows) == wanted.limit else None
        following = next_link("before", last)
        return fhir_response(
            searchset(call.request, events, following=following, total=answer.total)
        )

    async def checkpoint(self, call: Call) -> Response:
        """`GET /audit/checkpoint`: the newest signed checkpoint of the log."""
        note = await run_in_threadpool(self._checkpoint)
        if note is None:
            raise NotFound("The log has no checkpoint yet.")
        await self._edge.record_query(call, "checkpoint", {None})
        return PlainTextResponse(note)

    async def proof(self, call: Call) -> Response:
        """`GET /audit/proof/{id}`: a receipt of an AuditEvent, or of all those of a job."""
        name = str(call.request.path_params["id"])
        made, keys = await run_in_threadpool(self._proof, name)
        await self._edge.record_query(call, f"AuditEvent/$prove?id={name}", keys)
        return JSONResponse(made)

    def _proof(self, name: str) -> tuple[dict[str, object], set[str | None]]:
        with self._edge.store.read() as uow:
            found, newest = uow.audit_proofs.events_of(name), uow.audit_proofs.newest()
            size, note = newest or (0, "")
            proven = [
                ProvenEvent(each.body, index, uow.audit_proofs.inclusion(index, size))
                for each in found
                if (index := each.leaf_index) is not None
            ]
        if not proven:
            raise NotFound("There is no such AuditEvent or job, or it has no place in the log yet.")
        made = receipt(proven, checkpoint=note, verifier_key=self._verifier_key)
        return made, {each.patient_key for each in found}

    def _checkpoint(self) -> str | None:
        with self._edge.store.read() as uow:
            return uow.audit_log.newest_checkpoint()

    def _search(self, wanted: AuditFilter) -> _Answer:
        with self._edge.store.read() as uow:
            counted = replace(wanted, before_seq=None)
            return _Answer(uow.audit_log.search(wanted), uow.audit_log.count(counted))

    def _filter(self, request: Request) -> AuditFilter:
        insist_on_known(request, *_KNOWN)
        given = request.query_params
        outcome = given.get("outcome")
        if outcome is not None and outcome not in _OUTCOMES:
            raise ContentError("outcome has to be 0, 4, 8 or 12.", location="outcome")
        since, until = _period(given.getlist("date"))
        return AuditFilter(
            patient_key=self._edge.patient_key_of(request),
            since_ms=since,
            until_ms=until,
            outcome=outcome,
            event=given.get("subtype"),
            before_seq=whole_number(request, "before"),
            limit=count_of(request),
        )


def _period(dates: list[str]) -> tuple[int | None, int | None]:
    """Read `date=ge…&date=lt…` and whole days into a half-open span of milliseconds."""
    since: int | None = None
    until: int | None = None
    for given in dates:
        prefix, text = (given[:2], given[2:]) if given[:2].isalpha() else ("eq", given)
        first, last = _span(text)
        starts, ends = _bounds(prefix, first, last)
        since = max(filter(None, (since, starts)), default=None)
        until = min(filter(None, (until, ends)), default=None)
    return since, until


def _span(text: str) -> tuple[datetime, datetime]:
    # A `+` of a time zone arrives as a space when the caller did not encode it.
    span = clinical_time.parse(text.replace(" ", "+"))
    if span is None:
        raise ContentError("date has to be a FHIR date or dateTime.", location="date")
    return span.first, span.last


def _bounds(prefix: str, first: datetime, last: datetime) -> tuple[int | None, int | None]:
    lower, upper = to_ms(first), to_ms(last) + 1
    bounds = {
        "eq": (lower, upper),
        "ge": (lower, None),
        "gt": (upper, None),
        "le": (None, upper),
        "lt": (None, lower),
    }
    if prefix not in bounds:
        raise ContentError("date takes the prefixes eq, ge, gt, le and lt.", location="date")
    return bounds[prefix]


def _safe_query(wanted: AuditFilter) -> str:
    """Write the search down with the patient as a keyed hash."""
    named = {
        "patient-key": wanted.patient_key,
        "since": wanted.since_ms,
        "until": wanted.until_ms,
        "outcome": wanted.outcome,
        "subtype": wanted.event,
        "_count": wanted.limit,
    }
    return "AuditEvent?" + "&".join(f"{k}={v}" for k, v in named.items() if v is not None)
