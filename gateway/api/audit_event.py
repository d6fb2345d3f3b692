"""`GET /fhir/AuditEvent`: what was done, for the role `compliance`; itself audited.

Source: IHE ITI-81 (Retrieve ATNA Audit Event), FHIR R4 AuditEvent search parameters.
"""

from dataclasses import dataclass, replace

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, PlainTextResponse, Response

from gateway.api.audit_parameters import Wanted, needles_of, safe_query, wanted_of
from gateway.api.edge import Call, Edge
from gateway.api.outcome import fhir_response
from gateway.api.paging import next_link, searchset
from gateway.core.errors import NotFound
from gateway.core.receipt import ProvenEvent, receipt
from gateway.store.audit_log import AuditFilter, AuditRow
from gateway.store.unit_of_work import UnitOfWork

#: Up to here a search says how many events match in all.
_MOST_COUNTED = 1000


@dataclass(frozen=True)
class _Answer:
    rows: list[AuditRow]
    total: int | None


class AuditEvents:
    """Searches the audit log."""

    def __init__(self, edge: Edge, verifier_key: str) -> None:
        self._edge = edge
        self._verifier_key = verifier_key

    async def search(self, call: Call) -> Response:
        """`GET /fhir/AuditEvent`, see `audit_parameters`."""
        wanted = wanted_of(call.request, self._edge)
        answer = await run_in_threadpool(self._search, wanted)
        keys = {row.patient_key for row in answer.rows} or {wanted.filter.patient_key}
        await self._edge.record_query(call, safe_query(wanted), keys)
        events = [orjson.loads(row.body) for row in answer.rows]
        last = str(answer.rows[-1].seq) if len(answer.rows) == wanted.filter.limit else None
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

    def _search(self, wanted: Wanted) -> _Answer:
        with self._edge.store.read() as uow:
            asked = wanted.filter
            if wanted.resource is not None:
                key, versions = _versions(uow, wanted)
                if asked.patient_key not in (None, key):
                    return _Answer([], 0)
                needles = needles_of(wanted.resource, versions)
                asked = replace(asked, patient_key=key, written_any=needles)
            return _Answer(uow.audit_log.search(asked), _total(uow, asked))


def _versions(uow: UnitOfWork, wanted: Wanted) -> tuple[str | None, frozenset[str]]:
    """Give whose a resource is, and its versions; of one that was not received there are none."""
    assert wanted.resource is not None  # noqa: S101 - the caller has seen to it
    try:
        return uow.audit_questions.versions(wanted.resource)
    except NotFound:
        return wanted.filter.patient_key, frozenset()


def _total(uow: UnitOfWork, asked: AuditFilter) -> int | None:
    """Count what matches, as long as that is quick: few, and nothing to be read for it."""
    if asked.written or asked.written_any or asked.agent:
        return None
    found = uow.audit_log.count(replace(asked, before_seq=None), most=_MOST_COUNTED + 1)
    return found if found <= _MOST_COUNTED else None
