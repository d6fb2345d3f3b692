"""The calls of CDS Hooks: an EHR asks while somebody looks at a chart, and gets cards.

(1) the call is read; what it brings of what was asked for is received as everything else is:
    durable, with consent, jobs and audit; what it does not bring is asked of the EHR, if the
    patient's consents foresee that;
(2) its jobs are stat, and are waited for until the deadline;
(3) what there is then is answered by cards; the rest follows in the chart.

Discovery and services are those of the caller's own system.

Source: CDS Hooks 2.0.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from adapters.site import Site, System
from adapters.site_cds_hooks import CdsService
from gateway.api.arrivals import Posting, base_url_of
from gateway.api.batch import Receipt
from gateway.api.body import check_headers, read_body
from gateway.api.cds.answering import Answered, Answers
from gateway.api.cds.awaiting import ResultWatch, is_underway
from gateway.api.cds.charts import Charts
from gateway.api.cds.shown import ModelsShown, about_page, shown
from gateway.api.edge import Call, Edge, Endpoint
from gateway.api.entries import with_refusals
from gateway.api.outcome import refuse
from gateway.api.receive import LARGE_BYTES, Receiver
from gateway.core.audit import (
    AgentKind,
    AuditAgent,
    AuditRecord,
    Outcome,
    Source,
    Step,
    consent_decided,
    fetched,
)
from gateway.core.cds.card import waiting_card
from gateway.core.cds.prefetch import Template, missing_of, taken_of, templates_of
from gateway.core.cds.request import Brought, CdsRequest, bundle_of, read_request
from gateway.core.clock import new_id, utc_now
from gateway.core.consent import READ, About, ConsentDecision, Model, question
from gateway.core.errors import (
    ContentError,
    Forbidden,
    InvalidResource,
    Issue,
    NotFound,
    ProcessingError,
)
from gateway.core.event import facts
from gateway.core.fhir import ParsedBundle, ParseLimits, parse_bundle
from gateway.core.model_register import RegisteredModel
from gateway.core.routing import Route
from gateway.core.task import JobLine
from gateway.settings import Settings
from gateway.telemetry import count_cds

#: Content-Security-Policy of the page about a model.
_CSP = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


class DataMissing(ProcessingError):
    """What the model needs was neither brought along nor found in the EHR."""

    issue_type = "not-found"


@dataclass(frozen=True)
class _Asked:
    """One call of a service.

    Attributes:
        until_s: When it has to be answered, by `time.monotonic`.
        line: Of the register, the model that answers.
    """

    call: Call
    site: Site
    service: CdsService
    route: Route
    line: RegisteredModel
    request: CdsRequest
    until_s: float

    @property
    def patient(self) -> str:
        """The patient as the EHR names her."""
        return f"Patient/{self.request.patient}"


class CdsCalls:
    """Discovery, services and the page about a model."""

    def __init__(
        self, settings: Settings, edge: Edge, receiver: Receiver, models: ModelsShown
    ) -> None:
        self._settings = settings
        self._edge = edge
        self._receiver = receiver
        self._models = models
        self._answers = Answers(edge, models)
        self._watch = ResultWatch(edge.store)
        self._charts = Charts()
        self._limits = ParseLimits(settings.max_depth, settings.max_entries)

    def close(self) -> None:
        """Close the connections to EHRs."""
        self._charts.close()

    # -- discovery ---------------------------------------------------------------------------

    async def discover(self, call: Call) -> Response:
        """`GET /cds-services`."""
        return _json({"services": await run_in_threadpool(self._services, call)})

    def _services(self, call: Call) -> list[dict[str, object]]:
        site = self._edge.site()
        return [
            self._described(site, service, route)
            for service in site.cds.services.values()
            if (route := _route_of(site, service, call)) is not None
        ]

    def _described(self, site: Site, service: CdsService, route: Route) -> dict[str, object]:
        line = self._models.line(route.model)
        title = service.title or (line.card.title if line else service.route)
        intended = service.description or (line.card.intended_use if line else "")
        found: dict[str, object] = {
            "id": service.id,
            "hook": service.hook,
            "title": title,
            "description": f"{intended} Made by AI.".strip(),
        }
        templates = self._templates(site, route, line)
        if templates:
            found["prefetch"] = {each.key: each.query for each in templates}
        if line is None:
            found["usageRequirements"] = "Its model is not in service now; it answers no cards."
        return found

    def _templates(
        self, site: Site, route: Route, line: RegisteredModel | None
    ) -> tuple[Template, ...]:
        manifest = self._models.manifest(line) if line else None
        if manifest is None:
            return ()
        return templates_of(
            manifest, trigger_type=route.resource_type, local_codes=site.local_codes
        )

    async def about(self, request: Request) -> Response:
        """`GET /cds-services/{id}/about`: what the model is, for whoever reads a card.

        Raises:
            NotFound: There is no such service, or its model is not in service.
        """
        service, site = self._service(request), self._edge.site()
        route = site.route(service.route)
        line = await run_in_threadpool(self._models.line, route.model) if route else None
        if line is None:
            raise NotFound("The model of this service is not in service.")
        page = about_page(service, line)
        return HTMLResponse(page, headers={"Content-Security-Policy": _CSP})

    def _service(self, request: Request) -> CdsService:
        found = self._edge.site().cds.services.get(request.path_params["id"])
        if found is None:
            raise NotFound("There is no such CDS service.")
        return found

    # -- services ----------------------------------------------------------------------------

    async def invoke(self, call: Call) -> Response:
        """`POST /cds-services/{id}`."""
        started = time.monotonic()
        try:
            return await self._on_record(call, lambda call: self._invoke(call, started))
        except DataMissing as error:
            return refuse(error, status=412)

    async def _on_record(self, call: Call, handler: Endpoint) -> Response:
        try:
            return await handler(call)
        except ContentError as error:
            await self._edge.record_refusal(call, error.issues[0].code)
            raise

    async def _invoke(self, call: Call, started: float) -> Response:
        service, site = self._service(call.request), self._edge.site()
        route = _route_of(site, service, call)
        if route is None:
            raise NotFound("There is no such CDS service.")
        check_headers(call.request)
        body = await read_body(
            call.request,
            max_bytes=self._settings.max_body_bytes,
            max_decompressed=self._settings.max_decompressed_bytes,
        )
        call.keep(body)
        request = await self._read(body, service)
        line = await run_in_threadpool(self._models.line, route.model)
        if line is None or not request.is_of_staff:
            return self._told(service, Answered())
        until_s = started + site.cds.within_ms / 1000
        asked = _Asked(call, site, service, route, line, request, until_s)
        _insist_on_server(asked)
        return await self._answer(asked)

    async def _read(self, body: bytes, service: CdsService) -> CdsRequest:
        read = partial(read_request, body, hook=service.hook, max_depth=self._limits.max_depth)
        return await run_in_threadpool(read) if len(body) > LARGE_BYTES else read()

    async def _answer(self, asked: _Asked) -> Response:
        templates = self._templates(asked.site, asked.route, asked.line)
        prefetch: Mapping[str, Sequence[Brought]] = asked.request.prefetch
        missing = missing_of(asked.request, templates)
        failed: tuple[str, ...] = ()
        if missing:
            got = await self._fetched(asked, missing)
            if got is None:
                return await self._withheld(asked)
            prefetch, failed = {**prefetch, **got[0]}, got[1]
        brought = [*asked.request.orders, *taken_of(prefetch, templates)]
        lines = await self._received(asked, brought) if brought else []
        if not lines and failed:
            raise DataMissing
        await self._watch.wait([e.id for e in lines if is_underway(e)], asked.until_s)
        answered = await self._cards(asked, [each.id for each in lines])
        if answered.missing and not answered.cards:
            raise DataMissing(" ".join(answered.missing))
        return self._told(asked.service, answered)

    async def _cards(self, asked: _Asked, jobs: Sequence[str]) -> Answered:
        answered = await run_in_threadpool(self._answers.of, asked.call, asked.service, jobs)
        rest_s = asked.until_s - time.monotonic()
        if answered.is_waiting and rest_s > 0:
            # A refusal that came sooner than what is slow would say that it is one.
            await asyncio.sleep(rest_s)
            answered = await run_in_threadpool(self._answers.of, asked.call, asked.service, jobs)
        await self._edge.record(*answered.records)
        return answered

    async def _withheld(self, asked: _Asked) -> Response:
        """Answer where nothing may be fetched, as if it were not there in time."""
        await asyncio.sleep(max(0.0, asked.until_s - time.monotonic()))
        model = shown(asked.line, self._answers.about(asked.site, asked.service))
        card = waiting_card(model)
        return self._told(asked.service, Answered([card], is_waiting=True))

    def _told(self, service: CdsService, answered: Answered) -> Response:
        kind = "follows" if answered.is_waiting else "cards" if answered.cards else "none"
        count_cds(service.id, kind)
        return _json({"cards": answered.cards})

    # -- (1) ---------------------------------------------------------------------------------

    async def _received(self, asked: _Asked, brought: Sequence[Brought]) -> list[JobLine]:
        """Receive what the call brings; give the jobs whose results are shown."""
        bundle = await run_in_threadpool(self._parsed, asked, brought)
        posting = Posting(
            principal=asked.call.principal,
            system=asked.route.source,
            request_id=asked.call.request_id,
            address=asked.call.address,
            bundle=bundle,
            awaited_by=asked.route.name,
        )
        receipts = await self._receiver.receive(posting)
        return _shown_jobs(asked, bundle, receipts)

    def _parsed(self, asked: _Asked, brought: Sequence[Brought]) -> ParsedBundle:
        bundle = with_refusals(parse_bundle(bundle_of(brought), limits=self._limits))
        base_url = base_url_of(asked.site, asked.route.source)
        for entry in bundle.entries:
            if entry.resource is None:
                continue
            patient = facts(entry.resource.content, base_url=base_url).patient
            if patient is not None and patient != asked.patient:
                words = "Something is brought along that is not the patient's of the context."
                raise InvalidResource((Issue("business-rule", words, "prefetch"),))
        return bundle

    async def _fetched(
        self, asked: _Asked, missing: Sequence[Template]
    ) -> tuple[Mapping[str, Sequence[Brought]], tuple[str, ...]] | None:
        """Ask the EHR for what is missing; None where the patient's consents forbid it."""
        system = asked.site.system(asked.route.source)
        if system is None or system.address is None:
            return {}, tuple(each.key for each in missing)
        decision = await run_in_threadpool(self._foreseen, asked)
        step, user = self._step(asked), _model_agent(asked)
        await self._edge.record(consent_decided(step, decision, stage="fetch", user=user))
        if not decision.is_permitted:
            return None
        got = await run_in_threadpool(
            self._charts.fetch,
            system,
            missing,
            asked.request.patient,
            token=asked.request.access_token,
            until_s=asked.until_s,
        )
        await self._edge.record(*self._asked_for(asked, system, missing, got.failed))
        return got.prefetch, got.failed

    def _foreseen(self, asked: _Asked) -> ConsentDecision:
        """Ask the consents before anything is known of what would be fetched."""
        key = self._edge.store.sealer.patient_key(asked.route.source, asked.patient)
        card = asked.line.card
        with self._edge.store.read() as uow:
            consents = uow.consents.of([key], asked.site.abdm_policy)[key]
            about, model = (
                About(asked.patient, None, uow.now),
                Model(asked.route.model, card.digest),
            )
            return question(asked.route.asks, about, consents, model, READ).foresee()

    def _asked_for(
        self, asked: _Asked, system: System, missing: Sequence[Template], failed: Sequence[str]
    ) -> list[AuditRecord]:
        ehr = AuditAgent(system.name, system.name, AgentKind.SERVER)
        step = self._step(asked)
        return [
            fetched(
                replace(step, id=new_id(), outcome=outcome, reason=reason),
                ehr=ehr,
                query=f"{each.resource_type}?cds-prefetch={each.key}&patient={step.patient_key}",
            )
            for each in missing
            for outcome, reason in [_how_it_went(each.key in failed)]
        ]

    def _step(self, asked: _Asked) -> Step:
        return Step(
            id=new_id(),
            recorded=utc_now(),
            source=Source(asked.site.name or "unconfigured", "api"),
            patient_key=self._edge.store.sealer.patient_key(asked.route.source, asked.patient),
            request_id=asked.call.request_id,
        )


def _route_of(site: Site, service: CdsService, call: Call) -> Route | None:
    """Give the route of a service; None where it is not the caller's."""
    if call.principal.system is None:
        raise Forbidden(
            "This credential speaks for no system: "
            "make one with `nadi access add NAME --role ehr --system SYSTEM`."
        )
    route = site.route(service.route)
    return route if route and route.source == call.principal.system else None


def _insist_on_server(asked: _Asked) -> None:
    """Insist that the caller's FHIR server is the one of the site file: no other is asked."""
    given = asked.request.fhir_server
    if given is None:
        return
    if given.rstrip("/") != base_url_of(asked.site, asked.route.source):
        words = (
            "This is not the base_url that the site file has for your system; none else is asked."
        )
        raise InvalidResource((Issue("value", words, "fhirServer"),))


def _shown_jobs(asked: _Asked, bundle: ParsedBundle, receipts: Sequence[Receipt]) -> list[JobLine]:
    """Give the jobs to be shown: of every draft order, and of the newest of all else."""
    found: dict[str, JobLine] = {}
    newest: tuple[float, JobLine] | None = None
    for index, receipt in enumerate(receipts):
        resource = bundle.entries[index].resource
        mine = [job for job in receipt.jobs if job.route == asked.route.name]
        if not mine or resource is None:
            continue
        if index < len(asked.request.orders):
            found |= {job.id: job for job in mine}
            continue
        moment = facts(resource.content).effective
        at = moment.timestamp() if moment else 0.0
        if newest is None or at >= newest[0]:
            newest = at, mine[0]
    if newest is not None:
        found[newest[1].id] = newest[1]
    return list(found.values())


def _model_agent(asked: _Asked) -> AuditAgent:
    return AuditAgent(asked.line.card.digest, asked.route.model, AgentKind.USER)


def _how_it_went(has_failed: bool) -> tuple[Outcome, str]:
    if has_failed:
        return Outcome.MINOR_FAILURE, "The system did not give it in time."
    return Outcome.SUCCESS, ""


def _json(content: object) -> Response:
    kept_by_nobody = {"Cache-Control": "no-store"}
    return Response(orjson.dumps(content), media_type="application/json", headers=kept_by_nobody)
