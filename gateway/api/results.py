"""`GET /fhir/Observation?patient=`: a patient's results, for the role `clinician`; itself audited.

The results are Nadi's own: what it wrote, or is about to write, into the EHR. The patient has to
be named, so that nobody browses.
"""

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from gateway.api.edge import Call, Edge
from gateway.api.outcome import fhir_response
from gateway.api.paging import count_of, insist_on_known, next_link, next_of, searchset
from gateway.core.errors import ContentError
from gateway.core.findings import Report
from gateway.store.jobs import JobFilter


class Results:
    """Reads results out of the deliveries."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def search(self, call: Call) -> Response:
        """Give the newest results of one patient."""
        insist_on_known(call.request, "patient", "system")
        patient_key = self._edge.patient_key_of(call.request)
        if patient_key is None:
            raise ContentError("Name the patient: ?patient=Patient/<id>.", location="patient")
        count, before = count_of(call.request), next_of(call.request)
        results, last = await run_in_threadpool(self._find, patient_key, count, before)
        await self._edge.record_query(
            call, f"Observation?patient-key={patient_key}&_count={count}", {patient_key}
        )
        return fhir_response(searchset(call.request, results, following=next_link("before", last)))

    def _find(
        self, patient_key: str, count: int, before: str | None
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Give a page of results, and the job that the next page starts after."""
        wanted = JobFilter(patient_key=patient_key, before_id=before, limit=count)
        with self._edge.store.read() as uow:
            jobs = uow.jobs.find(wanted)
            deliveries = uow.deliveries.of_jobs([job.id for job in jobs])
            bodies = [uow.deliveries.body(deliveries[j.id]) for j in jobs if j.id in deliveries]
        last = jobs[-1].id if len(jobs) == count else None
        return [Report.from_json(body).observation for body in bodies], last
