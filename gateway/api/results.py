"""`GET /fhir/Observation?patient=`: a patient's results, for the role `clinician`; itself audited.

The results are Nadi's own: what it wrote, or is about to write, into the EHR, each under the type
that it has there: a RiskAssessment is an Observation in an EHR that has no other. The patient has
to be named, so that nobody browses; but `?worklist=true` gives what no EHR takes and nobody signed
off, whoever it is of, since nobody would find it otherwise.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from gateway.api.edge import Call, Edge
from gateway.api.outcome import fhir_response
from gateway.api.paging import count_of, insist_on_known, next_link, next_of, searchset
from gateway.core.clock import from_ms
from gateway.core.delivery import Delivery
from gateway.core.errors import ContentError, Erased
from gateway.core.findings import Report
from gateway.core.retraction import retracted
from gateway.core.worklist import Item
from gateway.core.write_back import AS_OBSERVATION
from gateway.store import worklist
from gateway.store.jobs import JobFilter
from gateway.store.unit_of_work import UnitOfWork


class Results:
    """Reads results of one type out of the deliveries."""

    def __init__(self, edge: Edge, resource_type: str) -> None:
        self._edge = edge
        self._type = resource_type

    async def search(self, call: Call) -> Response:
        """Give the newest results of one patient."""
        insist_on_known(call.request, "patient", "system", "worklist")
        if "worklist" in call.request.query_params:
            return await self._worklist(call)
        patient_key = self._edge.patient_key_of(call.request)
        if patient_key is None:
            raise ContentError("Name the patient: ?patient=Patient/<id>.", location="patient")
        count, before = count_of(call.request), next_of(call.request)
        results, last = await run_in_threadpool(self._find, patient_key, count, before)
        await self._edge.record_query(
            call, f"{self._type}?patient-key={patient_key}&_count={count}", {patient_key}
        )
        return fhir_response(searchset(call.request, results, following=next_link("before", last)))

    async def _worklist(self, call: Call) -> Response:
        """Give the newest results that stay here, since no EHR takes them."""
        if dict(call.request.query_params.multi_items()).keys() & {"patient", "system"}:
            raise ContentError("Ask for the worklist or for a patient.", location="worklist")
        if call.request.query_params["worklist"] != "true":
            raise ContentError("worklist has to be true.", location="worklist")
        count, before = count_of(call.request), next_of(call.request)
        results, patients, last = await run_in_threadpool(self._kept_here, count, before)
        query = f"{self._type}?worklist=true&_count={count}"
        await self._edge.record_query(call, query, patients)
        return fhir_response(searchset(call.request, results, following=next_link("before", last)))

    def _kept_here(
        self, count: int, before: str | None
    ) -> tuple[list[dict[str, Any]], set[str | None], str | None]:
        """Give a page of the worklist, whose they are, and what the next page starts after."""
        with self._edge.store.read() as uow:
            items, last = worklist.listed(uow, before=before, limit=count)
            shown = [each.delivery for each in items]
            uow.patient_keys.load({each.patient_key for each in shown})
            found = [each for each in written(uow, shown) if each["resourceType"] == self._type]
        return found, {each.patient_key for each in shown}, last

    def _find(
        self, patient_key: str, count: int, before: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Give a page of results, and the job that the next page starts after.

        A page is of jobs: one whose results are of the other type is shorter than `count`.
        """
        wanted = JobFilter(patient_key=patient_key, before_id=before, limit=count)
        with self._edge.store.read() as uow:
            if uow.erasures.closed([patient_key]):
                raise Erased
            jobs = uow.jobs.find(wanted)
            known = uow.deliveries.of_jobs([job.id for job in jobs])
            items = [Item(job, known[job.id]) for job in jobs if job.id in known]
            shown = [each.delivery for each in items if not each.is_withdrawn]
            found = list(written(uow, shown))
        last = jobs[-1].id if len(jobs) == count else None
        return [each for each in found if each["resourceType"] == self._type], last


def written(uow: UnitOfWork, deliveries: Sequence[Delivery]) -> Iterator[dict[str, Any]]:
    """Give each result in the form in which its EHR has it or is to have it."""
    withdrawn = uow.retractions.of([each.id for each in deliveries])
    for delivery in deliveries:
        if not delivery.body:
            continue  # erased, or its retention is over: its job is still told by /fhir/Task
        report = Report.from_json(uow.deliveries.body(delivery))
        is_changed = AS_OBSERVATION in delivery.last_answer
        result = report.observation if is_changed else report.result
        mark = withdrawn.get(delivery.id)
        yield retracted(result, from_ms(mark.created_ms), mark.reason) if mark else result
