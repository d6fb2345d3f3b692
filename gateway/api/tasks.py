"""`GET /fhir/Task`: what became of an event, and of each of its jobs.

A caller of role `ehr` sees the events it pushed itself; an `integrator` sees all. Both see states
and reasons, never a value of a patient.
"""

from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from gateway.api.edge import Call, Edge
from gateway.api.outcome import fhir_response
from gateway.api.paging import count_of, insist_on_known, next_link, next_of, searchset
from gateway.core.errors import NotFound
from gateway.core.jobs import Job
from gateway.core.principal import Permission, Principal
from gateway.core.task import JobLine, ReceivedEvent, event_task, job_task
from gateway.store.events import Event
from gateway.store.unit_of_work import UnitOfWork


@dataclass(frozen=True)
class _Found:
    task: dict[str, object]
    patient_key: str | None


class Tasks:
    """Reads Tasks out of events and jobs."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def read(self, call: Call) -> Response:
        """`GET /fhir/Task/{id}`."""
        task_id = call.request.path_params["id"]
        found = await run_in_threadpool(self._find, task_id, call.principal)
        await self._edge.record_read(call, "Task", task_id, found.patient_key)
        return fhir_response(found.task)

    async def search(self, call: Call) -> Response:
        """`GET /fhir/Task?_count=&before=`: the caller's newest events."""
        insist_on_known(call.request)
        count, before = count_of(call.request), next_of(call.request)
        events = await run_in_threadpool(self._list, call.principal, count, before)
        await self._edge.record_query(
            call, f"Task?_count={count}", {found.patient_key for found in events}
        )
        tasks = [found.task for found in events]
        last = str(tasks[-1]["id"]) if len(tasks) == count else None
        return fhir_response(searchset(call.request, tasks, following=next_link("before", last)))

    def _find(self, task_id: str, caller: Principal) -> _Found:
        with self._edge.store.read() as uow:
            job = uow.jobs.get(task_id)
            event = uow.events.get(job.event_id if job else task_id)
            if event is None or not _may_see(caller, event):
                raise NotFound
            if job is not None:
                return _Found(job_task(job), job.patient_key)
            jobs = uow.jobs.of_events([event.id])
            return _found(event, [job for found in jobs.values() for job in found])

    def _list(self, caller: Principal, count: int, before: str | None) -> list[_Found]:
        with self._edge.store.read() as uow:
            events = _visible(uow, caller, count, before)
            jobs = uow.jobs.of_events([event.id for event in events])
            by_event = {str(event_id): found for event_id, found in jobs.items()}
            return [_found(event, by_event.get(event.id, [])) for event in events]


def _visible(uow: UnitOfWork, caller: Principal, count: int, before: str | None) -> list[Event]:
    owner = None if caller.may(Permission.READ_EVERY_TASK) else caller.id
    return uow.events.recent(principal_id=owner, limit=count, before=before)


def _may_see(caller: Principal, event: Event) -> bool:
    return caller.may(Permission.READ_EVERY_TASK) or event.principal_id == caller.id


def _found(event: Event, jobs: list[Job]) -> _Found:
    received = ReceivedEvent(
        event.id, event.resource_type, event.is_current, event.received_ms, event.is_erased
    )
    lines = [JobLine(job.id, job.route, job.state, job.business_status) for job in jobs]
    return _Found(event_task(received, lines), event.patient_key)
