"""Composition root of the API process: knows everyone, decides nothing.

Run it with `python -m gateway.app`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route as Path
from starlette.types import Receive, Scope, Send

from adapters.site import SiteWatch, name_of, site_schema
from gateway import heap
from gateway.api.arrivals import Posting
from gateway.api.audit_event import AuditEvents
from gateway.api.audit_questions import Questions
from gateway.api.batch import Receipt
from gateway.api.break_glass import BreakGlassCalls
from gateway.api.canary import CanaryRunner
from gateway.api.capability import capability_statement
from gateway.api.cds.routes import CdsHooksApi
from gateway.api.connections import bounded
from gateway.api.consents import ConsentCalls
from gateway.api.docs_page import CONTENT_SECURITY_POLICY, docs_page
from gateway.api.edge import Edge
from gateway.api.front import Front, Serve
from gateway.api.health import Health
from gateway.api.intake import Intake
from gateway.api.notices import NoticeBox
from gateway.api.openapi import describe
from gateway.api.outcome import NotOffered, fhir_response, refuse
from gateway.api.patient_report import Reports
from gateway.api.receive import Receiver
from gateway.api.results import Results
from gateway.api.security import Authenticator
from gateway.api.tasks import Tasks
from gateway.api.witness_log import WitnessedLogs
from gateway.api.worklist import WorklistCalls
from gateway.core.audit import Source
from gateway.core.canary import CANARY_SYSTEM
from gateway.core.errors import NotFound
from gateway.core.principal import Permission
from gateway.core.r4_schema import prepare_for
from gateway.erasure_watch import ErasureWatch
from gateway.feed_standing import listeners_of
from gateway.heartbeat import heartbeat
from gateway.queue import bell, is_broker_up
from gateway.room import Room
from gateway.settings import Settings, get_settings
from gateway.store.group_commit import GroupCommit
from gateway.store.installation import MASTER, open_installation, record_start, record_stop
from gateway.store.model_watch import ModelWatch
from gateway.store.unit_of_work import Store
from gateway.telemetry import configure, report_levels

PROCESS = "api"

#: Resource types that come first at nearly every site.
_USUAL = ("Patient", "Consent", "Observation")


class _Gateway(FastAPI):
    """The application, with the short way in before it."""

    canary: CanaryRunner
    room: Room

    def open_front(self, served: dict[str, Serve]) -> None:
        self._front = Front(super().__call__, **served)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._front(scope, receive, send)


def build(settings: Settings) -> _Gateway:
    """Put the API process together."""
    installation = open_installation(settings)
    store = installation.store
    watch = SiteWatch(store)
    models = ModelWatch(store)
    committer = _committer(settings, store, watch, models)
    edge = Edge(store, Authenticator(store, partial(listeners_of, watch)), site=watch.current)
    room = Room(settings, store)
    notices = NoticeBox(store, watch.current)
    receiver = Receiver(settings, committer, edge, room, notices)
    cds = CdsHooksApi(settings, edge, receiver, models.current)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        source = Source(name_of(watch.current, "unconfigured"), PROCESS)
        with store.write() as uow:
            record_start(uow, source, MASTER)
        beating = asyncio.create_task(heartbeat().keep_beating())
        with ErasureWatch(store), room:
            yield
        beating.cancel()
        for each in (committer, notices, cds, edge):
            each.close()
        record_stop(store, source)
        store.close()

    pushes = _pushes(edge, receiver)
    app = _Gateway(title="Nadi", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.open_front({**pushes, "cards": cds.cards})
    app.room = room
    app.canary = _canary(app, edge, settings)
    app.router.routes.extend(
        [
            *_read_routes(edge, AuditEvents(edge, installation.keys.verifier)),
            *_push_routes(pushes),
            *_break_glass_routes(edge),
            *_worklist_routes(edge),
            *cds.routes(),
            *_operator_routes(_health(store, room, watch)),
            *_witness_routes(WitnessedLogs(store, watch.current, PROCESS)),
            _docs(app, settings),
            Path("/", RedirectResponse("/docs"), methods=["GET"]),
        ]
    )
    _explain(app)
    return app


def _committer(
    settings: Settings, store: Store, watch: SiteWatch, models: ModelWatch
) -> GroupCommit[Posting, tuple[Receipt, ...]]:
    """Make what receives: many requests, one commit."""
    intake = Intake(
        store,
        watch.current,
        models.current,
        process_name=PROCESS,
        after_commit=bell().knock,
    )
    return GroupCommit(
        intake,
        limit=settings.commit_batch,
        max_waiting=settings.max_waiting,
        weigh=lambda posting: posting.weight,
    )


def _health(store: Store, room: Room, watch: SiteWatch) -> Health:
    """Make what is asked how the process is, and let each scrape read the queues' depths."""
    health = Health(store, is_broker_up, watch.current)
    report_levels(lambda: replace(health.levels(), room=room.gauges()))
    return health


def _canary(app: FastAPI, edge: Edge, settings: Settings) -> CanaryRunner:
    token = edge.own_token(CANARY_SYSTEM, CANARY_SYSTEM)
    return CanaryRunner(app, edge.store, edge.site, token=token, every_s=settings.canary_every_s)


def _read_routes(edge: Edge, audit: AuditEvents) -> list[Path]:
    async def metadata(_request: Request) -> Response:
        return fhir_response(capability_statement())

    tasks = Tasks(edge)
    guarded = (
        ("/fhir/Task", Permission.READ_TASKS, tasks.search),
        ("/fhir/Task/{id}", Permission.READ_TASKS, tasks.read),
        *(
            (f"/fhir/{name}", Permission.READ_RESULTS, Results(edge, name).search)
            for name in ("Observation", "RiskAssessment")
        ),
        ("/fhir/AuditEvent", Permission.READ_AUDIT, audit.search),
        ("/audit/checkpoint", Permission.READ_AUDIT, audit.checkpoint),
        ("/audit/proof/{id}", Permission.READ_AUDIT, audit.proof),
        ("/audit/questions/{name}", Permission.READ_AUDIT, Questions(edge).ask),
        ("/audit/report", Permission.READ_AUDIT, Reports(edge).report),
    )
    return [
        Path("/fhir/metadata", metadata, methods=["GET"]),
        *(
            Path(path, edge.endpoint(permission, handler), methods=["GET"])
            for path, permission, handler in guarded
        ),
        *_consent_routes(edge),
    ]


def _pushes(edge: Edge, receiver: Receiver) -> dict[str, Serve]:
    handlers = {
        "base": receiver.base,
        "create": receiver.create,
        "update": receiver.update,
        "delete": receiver.delete,
    }
    return {name: edge.endpoint(Permission.PUSH, each) for name, each in handlers.items()}


def _push_routes(pushes: dict[str, Serve]) -> list[Path]:
    return [
        Path("/fhir", pushes["base"], methods=["POST"]),
        Path("/fhir/", pushes["base"], methods=["POST"]),
        Path("/fhir/{type}", pushes["create"], methods=["POST"]),
        Path("/fhir/{type}/{id}", pushes["update"], methods=["PUT"]),
        Path("/fhir/{type}/{id}", pushes["delete"], methods=["DELETE"]),
    ]


def _consent_routes(edge: Edge) -> list[Path]:
    calls = ConsentCalls(edge)
    search, read, decide = (
        edge.endpoint(Permission.READ_CONSENT, each)
        for each in (calls.search, calls.read, calls.decide)
    )
    return [
        Path("/fhir/Consent", search, methods=["GET"]),
        Path("/fhir/Consent/{id}", read, methods=["GET"]),
        Path("/consent/$decide", decide, methods=["POST"]),
    ]


def _break_glass_routes(edge: Edge) -> list[Path]:
    calls = BreakGlassCalls(edge)
    use, listed, review = (
        edge.endpoint(permission, handler)
        for permission, handler in (
            (Permission.BREAK_GLASS, calls.use),
            (Permission.REVIEW_BREAK_GLASS, calls.listed),
            (Permission.REVIEW_BREAK_GLASS, calls.review),
        )
    )
    return [
        Path("/break-glass", use, methods=["POST"]),
        Path("/break-glass", listed, methods=["GET"]),
        Path("/break-glass/{id}/review", review, methods=["POST"]),
    ]


def _worklist_routes(edge: Edge) -> list[Path]:
    calls = WorklistCalls(edge, bell().knock)
    guarded = (
        ("", "GET", Permission.READ_WORKLIST, calls.listed),
        ("/{id}", "GET", Permission.READ_WORKLIST, calls.read),
        ("/{id}/result", "GET", Permission.READ_RESULTS, calls.result),
        ("/{id}/sign-off", "POST", Permission.SIGN_OFF, calls.sign_off),
        ("/{id}/retry", "POST", Permission.RETRY_RESULTS, calls.retry),
    )
    return [
        Path(f"/worklist{path}", edge.endpoint(permission, handler), methods=[method])
        for path, method, permission, handler in guarded
    ]


def _operator_routes(health: Health) -> list[Path]:
    async def schema(_request: Request) -> Response:
        return JSONResponse(site_schema())

    return [
        Path("/health/live", health.live, methods=["GET"]),
        Path("/health/ready", health.ready, methods=["GET"]),
        Path("/metrics", health.metrics, methods=["GET"]),
        Path("/site.schema.json", schema, methods=["GET"]),
    ]


def _witness_routes(logs: WitnessedLogs) -> list[Path]:
    return [
        Path("/witness/checkpoints", logs.add, methods=["POST"]),
        Path("/witness/checkpoints", logs.newest, methods=["GET"]),
    ]


def _docs(app: FastAPI, settings: Settings) -> Path:
    async def docs(_request: Request) -> Response:
        page = docs_page(app.openapi(), settings.base_url)
        return HTMLResponse(page, headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY})

    return Path("/docs", docs, methods=["GET"])


def _explain(app: FastAPI) -> None:
    """Describe the app, and answer unknown addresses and methods with an OperationOutcome too."""
    describe(app)

    async def not_found(_request: Request, _error: Exception) -> Response:
        return refuse(NotFound("There is nothing at this address."))

    async def not_allowed(_request: Request, error: Exception) -> Response:
        response = refuse(NotOffered(), status=405)
        response.headers.update(getattr(error, "headers", None) or {})
        return response

    app.add_exception_handler(404, not_found)
    app.add_exception_handler(405, not_allowed)


def main() -> None:
    """Serve until told to stop; running requests are finished first."""
    settings = get_settings()
    configure(PROCESS, settings)
    app = build(settings)
    prepare_for(_USUAL)
    heap.settle()
    app.canary.start()
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        http=bounded(settings),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
        backlog=2048,
    )


if __name__ == "__main__":
    main()
