"""What became of cards, told by the EHR: kept once, sealed, and on record.

A card's uuid is the id of the job whose result it showed: so what became of it is known by result,
by model and by route, and only of cards that the caller's own system was shown.

Source: CDS Hooks 2.0, "Feedback".
"""

from collections.abc import Sequence

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from gateway.api.body import check_headers, read_body
from gateway.api.edge import Call, Edge
from gateway.core.audit import AuditRecord, Source, job_step
from gateway.core.audit_cds import feedback_given
from gateway.core.cds.feedback import Feedback, read_feedback
from gateway.core.errors import ContentError, Erased, InvalidResource, Issue, NotFound
from gateway.core.jobs import Job
from gateway.store.unit_of_work import UnitOfWork

_MOST_BYTES = 256 * 1024


class FeedbackCalls:
    """`POST /cds-services/{id}/feedback`."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def give(self, call: Call) -> Response:
        """Keep what became of cards."""
        try:
            return await self._give(call)
        except ContentError as error:
            await self._edge.record_refusal(call, error.issues[0].code)
            raise

    async def _give(self, call: Call) -> Response:
        site = self._edge.site()
        service = site.cds.services.get(call.request.path_params["id"])
        route = site.route(service.route) if service else None
        if route is None or route.source != call.principal.system:
            raise NotFound("There is no such CDS service.")
        check_headers(call.request)
        body = await read_body(call.request, max_bytes=_MOST_BYTES, max_decompressed=_MOST_BYTES)
        call.keep(body)
        await run_in_threadpool(self._keep, call, route.name, read_feedback(body))
        return Response(status_code=200)

    def _keep(self, call: Call, route: str, feedback: Sequence[Feedback]) -> None:
        with self._edge.store.write() as uow:
            pairs = _of_jobs(uow, route, feedback)
            # What an erased patient's card met is hers too.
            if uow.erasures.closed([job.patient_key for _, job in pairs if job.patient_key]):
                raise Erased
            news = uow.cds.add(call.principal.name, pairs)
            new = [pair for pair, is_new in zip(pairs, news, strict=True) if is_new]
            uow.audit(*[self._record(uow, call, *pair) for pair in new])

    def _record(self, uow: UnitOfWork, call: Call, feedback: Feedback, job: Job) -> AuditRecord:
        source = Source(self._edge.site().name or "unconfigured", "api")
        step = job_step(job, uow.now, source, request_id=call.request_id)
        said = {"outcome": feedback.outcome, "reason": feedback.reason}
        return feedback_given(step, client=call.agent, **said)


def _of_jobs(
    uow: UnitOfWork, route: str, feedback: Sequence[Feedback]
) -> list[tuple[Feedback, Job]]:
    """Find the job of each card.

    Raises:
        InvalidResource: A card is none of this service.
    """
    jobs = {str(key): job for key, job in uow.jobs.get_many([f.card for f in feedback]).items()}
    words = "No card of this service has this uuid."
    unknown = [
        Issue("not-found", words, f"feedback[{index}].card")
        for index, each in enumerate(feedback)
        if each.card not in jobs or jobs[each.card].route != route
    ]
    if unknown:
        raise InvalidResource(tuple(unknown))
    return [(each, jobs[each.card]) for each in feedback]
