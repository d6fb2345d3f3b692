"""The calls of CDS Hooks: an EHR asks while somebody looks at a chart, and gets cards.

(1) the call is read; what it brings of what was asked for is received as everything else is:
    durable, with consent, jobs and audit (`bringing`); what it does not bring is asked of the EHR,
    if the patient's consents foresee that;
(2) its jobs are stat, and are waited for until the deadline;
(3) what there is then is answered by cards (`showing`); the rest follows in the chart.

A call is answered at its deadline whatever is still underway: then all that it brings is received
all the same, and a result may follow.

Discovery and services are those of the caller's own system.

Source: CDS Hooks 2.0.
"""

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from adapters.site import Site
from adapters.site_cds_hooks import CdsService
from gateway.api.arrivals import base_url_of
from gateway.api.body import check_headers, read_body
from gateway.api.cds.answering import Answered, Answers, about_address
from gateway.api.cds.asked import Asked, route_of
from gateway.api.cds.awaiting import ResultWatch, is_underway
from gateway.api.cds.bringing import Bringing
from gateway.api.cds.showing import Showing
from gateway.api.cds.shown import ModelsShown, about_page, shown
from gateway.api.edge import Call, Edge
from gateway.api.outcome import refuse
from gateway.api.receive import LARGE_BYTES, Receiver
from gateway.core.cds.accepting import DataMissing, insist_on_server, not_given
from gateway.core.cds.card import waiting_card
from gateway.core.cds.prefetch import Template, missing_of, taken_of, templates_of
from gateway.core.cds.request import Brought, CdsRequest, read_request
from gateway.core.errors import ContentError, NotFound
from gateway.core.fhir import ParseLimits
from gateway.core.model_register import RegisteredModel
from gateway.core.routing import Route
from gateway.settings import Settings
from gateway.telemetry import count_cds, get_logger

#: Content-Security-Policy of the page about a model.
_CSP = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
#: Before the deadline so much is left for a last look at what is there by then.
_LAST_LOOK_S = 0.05

T = TypeVar("T")

log = get_logger()


class CdsCalls:
    """Discovery, services and the page about a model."""

    def __init__(
        self, settings: Settings, edge: Edge, receiver: Receiver, models: ModelsShown
    ) -> None:
        self._settings = settings
        self._edge = edge
        self._receiver = receiver
        self._models = models
        self._limits = ParseLimits(settings.max_depth, settings.max_entries)
        self._bringing = Bringing(edge, receiver, self._limits)
        self._showing = Showing(edge, Answers(models))
        self._watch = ResultWatch(edge.store)
        #: By version of the site, route and digest of the model.
        self._made: dict[tuple[int, str, str], tuple[Template, ...]] = {}
        #: Calls that were answered before all they bring was received.
        self._late: set[asyncio.Task[Answered]] = set()

    def close(self) -> None:
        """Answer those that wait, and close the connections to EHRs."""
        self._showing.close()
        self._bringing.close()

    # -- discovery ---------------------------------------------------------------------------

    async def discover(self, call: Call) -> Response:
        """`GET /cds-services`."""
        return _json({"services": await run_in_threadpool(self._services, call)})

    def _services(self, call: Call) -> list[dict[str, object]]:
        site = self._edge.site()
        return [
            self._described(site, service, route)
            for service in site.cds.services.values()
            if (route := route_of(site, service, call)) is not None
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
        if line is None or manifest is None:
            return ()
        key = (site.version, route.name, line.card.digest)
        if key not in self._made:
            # Of another version of the site nothing is asked any more.
            self._made = {known: made for known, made in self._made.items() if known[0] == key[0]}
            self._made[key] = templates_of(
                manifest, trigger_type=route.resource_type, local_codes=site.local_codes
            )
        return self._made[key]

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
        try:
            asked = await self._on_record(call, self._asked(call))
            answered = await self._in_time(asked) if asked else Answered()
        except DataMissing as error:
            return refuse(error, status=412)
        kind = "follows" if answered.is_waiting else "cards" if answered.cards else "none"
        count_cds(call.request.path_params["id"], kind)
        return _json({"cards": answered.cards})

    async def _on_record(self, call: Call, work: Awaitable[T]) -> T:
        try:
            return await work
        except ContentError as error:
            await self._edge.record_refusal(call, error.issues[0].code)
            raise

    async def _asked(self, call: Call) -> Asked | None:
        """Read a call; None where there is nobody to be shown anything, or no model to be asked."""
        service, site = self._service(call.request), self._edge.site()
        route = route_of(site, service, call)
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
        line = self._models.remembered(route.model)
        line = line or await run_in_threadpool(self._models.line, route.model)
        if line is None or not request.is_of_staff:
            return None
        key = self._edge.store.sealer.patient_key(route.source, f"Patient/{request.patient}")
        until_s = call.request.state.began_s + site.cds.within_ms / 1000
        asked = Asked(call, site, service, route, line, request, key, until_s)
        insist_on_server(request, base_url_of(site, route.source))
        return asked

    async def _read(self, body: bytes, service: CdsService) -> CdsRequest:
        read = partial(read_request, body, hook=service.hook, max_depth=self._limits.max_depth)
        return await run_in_threadpool(read) if len(body) > LARGE_BYTES else read()

    async def _in_time(self, asked: Asked) -> Answered:
        """Answer in time; what is not there then goes on alone.

        What is withheld is answered when what is slow is: sooner, it would say that it is withheld.
        """
        work = asyncio.create_task(self._on_record(asked.call, self._answer(asked)))
        try:
            await asyncio.wait({work}, timeout=_rest_s(asked))
        finally:  # also where the caller has gone away
            if not work.done():
                self._late.add(work)
                work.add_done_callback(self._over)
        if not work.done():
            return _waiting(asked)
        answered = work.result()
        if answered.is_waiting:
            await asyncio.sleep(_rest_s(asked))
        return answered

    def _over(self, work: asyncio.Task[Answered]) -> None:
        self._late.discard(work)
        error = None if work.cancelled() else work.exception()
        if error is not None:
            log.warning("cds-late-failed", error=type(error).__name__)

    async def _answer(self, asked: Asked) -> Answered:
        templates = self._templates(asked.site, asked.route, asked.line)
        prefetch: Mapping[str, Sequence[Brought]] = asked.request.prefetch
        missing = missing_of(asked.request, templates)
        failed: tuple[str, ...] = ()
        if missing:
            got = await self._bringing.fetched(asked, missing)
            if got is None:
                return _waiting(asked)
            prefetch, failed = {**prefetch, **got.prefetch}, got.failed
        brought = [*asked.request.orders, *taken_of(prefetch, templates)]
        shown_before = None if failed else await self._showing.again(asked, brought)
        is_told = bool(templates) and not failed
        answered = shown_before or await self._received(asked, brought, is_told=is_told)
        if answered.missing and not answered.cards:
            raise DataMissing(" ".join(answered.missing))
        if failed and not answered.cards:
            raise not_given(failed)
        return answered

    async def _received(
        self, asked: Asked, brought: Sequence[Brought], *, is_told: bool
    ) -> Answered:
        """Receive what a call brings, and wait for its results."""
        if not brought:
            return Answered()
        lines = await self._bringing.received(asked, brought, is_told=is_told)
        if not lines:
            return Answered()
        underway = [each.id for each in lines if is_underway(each)]
        is_settled = await self._watch.wait(underway, asked.until_s - _LAST_LOOK_S)
        if not is_settled and len(lines) == 1:
            return _waiting(asked)
        return await self._showing.of(asked, [each.id for each in lines])


def _rest_s(asked: Asked) -> float:
    return max(0.0, asked.until_s - time.monotonic())


def _waiting(asked: Asked) -> Answered:
    model = shown(asked.line, about_address(asked.site, asked.service))
    return Answered([waiting_card(model)], is_waiting=True)


def _json(content: object) -> Response:
    kept_by_nobody = {"Cache-Control": "no-store"}
    return Response(orjson.dumps(content), media_type="application/json", headers=kept_by_nobody)
