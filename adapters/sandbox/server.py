"""The HTTP side of the stand-in EHR and its composition.

`create_app` puts together store, faults, Subscriptions and routes; uvicorn serves it. The FHIR
base is `/fhir`; `/dicomweb` is the image archive's; `/sandbox/faults` and `/sandbox/stats` are for
whoever runs the experiment.

Source: FHIR R4 RESTful API (http://hl7.org/fhir/R4/http.html).
"""

import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from adapters.sandbox.archive import Archive
from adapters.sandbox.atom import AtomFeeds
from adapters.sandbox.binaries import binary_of, content_of, is_native, wants_content
from adapters.sandbox.bundles import perform
from adapters.sandbox.capability import capability_statement
from adapters.sandbox.dates import parse_range
from adapters.sandbox.export import Exports
from adapters.sandbox.faults import FaultGate, FaultKnobs, Faults
from adapters.sandbox.interactions import Answer, Interactions, Validate
from adapters.sandbox.journal import Journal
from adapters.sandbox.keys import Resource
from adapters.sandbox.openmrs import OpenmrsRest
from adapters.sandbox.refusal import FHIR_JSON, Refusal, outcome
from adapters.sandbox.results import Snapshots, history_bundle, search_bundle
from adapters.sandbox.search import Pairs, parse_pairs, run
from adapters.sandbox.store import Record, Store
from adapters.sandbox.subscriptions import Pusher

BASE_PATH = "/fhir"
_JSON_TYPES = frozenset({FHIR_JSON, "application/json", "application/json+fhir"})
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class SandboxOptions:
    """What can be chosen when the stand-in EHR starts.

    Attributes:
        token: Bearer token that every request needs, except for `/fhir/metadata`.
        journal: File to start again from; None keeps everything in memory only.
        faults: How it is broken from the start.
        validate: Raises a `GatewayError` for JSON that this EHR shall refuse (422).
        give_up_after_s: How long a Subscription push is tried.
    """

    token: str | None = None
    journal: Path | None = None
    faults: Faults = field(default_factory=Faults)
    validate: Validate | None = None
    give_up_after_s: float = 60.0


def create_app(options: SandboxOptions | None = None) -> ASGIApp:
    """Put the stand-in EHR together.

    Args:
        options: Defaults to a healthy, open, forgetful EHR.

    Returns:
        An ASGI application; its lifespan ends the Subscription pushes and closes the journal.
    """
    chosen = options or SandboxOptions()
    journal = Journal(chosen.journal) if chosen.journal else None
    store = Store(journal=journal)
    knobs = FaultKnobs(chosen.faults)
    pusher = Pusher(store, knobs, give_up_after_s=chosen.give_up_after_s)
    endpoints = _Endpoints(Interactions(store, knobs, chosen.validate), pusher)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await pusher.close()
        if journal:
            journal.close()

    exports = Exports(store, knobs, BASE_PATH)
    feeds = AtomFeeds()
    entered = OpenmrsRest(store, feeds.announce)
    beside = [*Archive().routes(), *feeds.routes(), *entered.routes()]
    routes = Starlette(
        routes=[*exports.routes(), *endpoints.routes(), *beside],
        lifespan=lifespan,
        exception_handlers={Refusal: _answer_refusal},
    )
    return FaultGate(_BearerGate(routes, chosen.token) if chosen.token else routes, knobs)


class _BearerGate:
    """Lets only the holder of the token in; anyone may read what this EHR can do."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._wanted = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_open = scope["type"] != "http" or scope["path"] == f"{BASE_PATH}/metadata"
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        if is_open or hmac.compare_digest(given, self._wanted):
            await self._app(scope, receive, send)
            return
        body = outcome("login", "This EHR wants a bearer token.")
        headers = {"WWW-Authenticate": "Bearer"}
        await Response(body, 401, headers, FHIR_JSON)(scope, receive, send)


class _Endpoints:
    """One method per kind of request; each only translates between HTTP and `Interactions`."""

    def __init__(self, interactions: Interactions, pusher: Pusher) -> None:
        self._fhir = interactions
        self._pusher = pusher
        self._snapshots = Snapshots(interactions.store)

    def routes(self) -> list[Route]:
        """List the routes, the most travelled first."""
        kind, item = f"{BASE_PATH}/{{type}}", f"{BASE_PATH}/{{type}}/{{id}}"
        return [
            Route(f"{BASE_PATH}/metadata", self.metadata, methods=["GET"]),
            Route(kind, self.create, methods=["POST"]),
            Route(kind, self.search, methods=["GET"]),
            Route(f"{kind}/_search", self.search, methods=["POST"]),
            Route(kind, self.update_where, methods=["PUT"]),
            Route(f"{kind}/_history", self.history, methods=["GET"]),
            Route(item, self.read, methods=["GET"]),
            Route(item, self.update, methods=["PUT"]),
            Route(item, self.delete, methods=["DELETE"]),
            Route(f"{item}/_history/{{version}}", self.read, methods=["GET"]),
            Route(f"{BASE_PATH}/Subscription/{{id}}/$status", self.status, methods=["GET"]),
            Route(f"{BASE_PATH}/Subscription/{{id}}/$events", self.events, methods=["GET"]),
            Route(BASE_PATH, self.bundle, methods=["POST"]),
            Route(f"{BASE_PATH}/", self.bundle, methods=["POST"]),
            Route(BASE_PATH, self.page, methods=["GET"]),
            Route("/sandbox/faults", self.show_faults, methods=["GET"]),
            Route("/sandbox/faults", self.set_faults, methods=["POST"]),
            Route("/sandbox/stats", self.stats, methods=["GET"]),
        ]

    async def metadata(self, _: Request) -> Response:
        """Say what this EHR can do."""
        if self._fhir.knobs.current.no_metadata:
            raise Refusal(404, "not-found", "This EHR does not say what it can do.")
        return _json(capability_statement(self._fhir.knobs.current))

    async def create(self, request: Request) -> Response:
        """Create, on a condition if the request names one."""
        resource = _of_type(await _body(request), request.path_params["type"])
        self._pusher.base_url = _base_url(request)
        answer = self._fhir.create(resource, if_none_exist=request.headers.get("if-none-exist"))
        return _answer(request, answer)

    async def update(self, request: Request) -> Response:
        """Update, or create under the id that the client chose."""
        resource = _of_type(await _body(request), request.path_params["type"])
        if_match = request.headers.get("if-match")
        answer = self._fhir.update(resource, request.path_params["id"], if_match=if_match)
        return _answer(request, answer)

    async def update_where(self, request: Request) -> Response:
        """Update the one that the query finds."""
        resource = _of_type(await _body(request), request.path_params["type"])
        return _answer(request, self._fhir.update_where(resource, request.url.query))

    async def read(self, request: Request) -> Response:
        """Give a resource, or one version of it."""
        at = request.path_params
        return _answer(request, self._fhir.read(at["type"], at["id"], at.get("version")))

    async def delete(self, request: Request) -> Response:
        """Delete a resource."""
        at = request.path_params
        return _answer(request, self._fhir.delete(at["type"], at["id"]))

    async def status(self, request: Request) -> Response:
        """Say how a topic-based Subscription is."""
        count, status = self._pusher.topic_of(request.path_params["id"])
        return _json(count.status_bundle(status, _base_url(request)))

    async def events(self, request: Request) -> Response:
        """Give events of a topic-based Subscription again."""
        if self._fhir.knobs.current.no_events_operation:
            raise Refusal(501, "not-supported", "This EHR does not keep its events.")
        count, status = self._pusher.topic_of(request.path_params["id"])
        asked, total = request.query_params, len(count.records)
        first = max(_number(asked.get("eventsSinceNumber", "1")), 1)
        last = min(_number(asked.get("eventsUntilNumber", str(total))), total)
        body = count.notification(
            "query-event",
            status,
            _base_url(request),
            numbers=range(first, last + 1),
            content=asked.get("content", ""),
        )
        return _json(body)

    async def search(self, request: Request) -> Response:
        """Search by query string, by form, or by both."""
        pairs = [*parse_pairs(request.url.query), *await _form(request)]
        query = self._fhir.query(request.path_params["type"], pairs)
        found = run(self._fhir.store, query)
        base_url = _base_url(request)
        if query.is_summary:
            return _json(search_bundle((), total=len(found), base_url=base_url))
        return _json(self._snapshots.first(found, query, base_url))

    async def history(self, request: Request) -> Response:
        """Give what happened to a type since a moment, deletions too, the newest first."""
        kind = request.path_params["type"]
        self._fhir.check_type(kind)
        if self._fhir.knobs.current.no_history:
            raise Refusal(501, "not-supported", "This EHR tells no history.")
        since = parse_range(request.query_params.get("_since", "1970-01-01"))
        if since is None:
            raise Refusal(400, "value", "_since can't be read.")
        found = self._fhir.store.history_since(kind, since[0] // 1000)
        return _json(history_bundle(found, _base_url(request)))

    async def page(self, request: Request) -> Response:
        """Give a further page of a search."""
        return _json(self._snapshots.following(parse_pairs(request.url.query), _base_url(request)))

    async def bundle(self, request: Request) -> Response:
        """Perform a transaction or a batch."""
        bundle = _of_type(await _body(request), "Bundle")
        return _json(perform(self._fhir, bundle, _base_url(request)))

    async def show_faults(self, _: Request) -> Response:
        """Show the faults of the moment."""
        return _json(orjson.dumps(self._fhir.knobs.current.model_dump()))

    async def set_faults(self, request: Request) -> Response:
        """Set the faults that the body names."""
        self._fhir.knobs.turn(await _body(request))
        return await self.show_faults(request)

    async def stats(self, _: Request) -> Response:
        """Count what is there, what is there twice, and the pushes."""
        store = self._fhir.store
        counted = {
            "resources": store.counts(),
            "duplicates": store.duplicates(),
            "pushes": dict(sorted(self._pusher.counts.items())),
        }
        return _json(orjson.dumps(counted))


async def _answer_refusal(_: Request, error: Exception) -> Response:
    if not isinstance(error, Refusal):
        raise error
    return _json(error.body, error.status)


async def _body(request: Request) -> Resource:
    """Read a JSON object from a request; of the bytes of a Binary it is made."""
    media_type = request.headers.get("content-type", FHIR_JSON).partition(";")[0].strip().lower()
    if is_native(request, media_type):
        return await binary_of(request, media_type)
    if media_type not in _JSON_TYPES:
        raise Refusal(415, "not-supported", "This EHR reads JSON only.")
    try:
        found = orjson.loads(await request.body())
    except orjson.JSONDecodeError:
        raise Refusal(400, "structure", "The body is not JSON.") from None
    if not isinstance(found, dict):
        raise Refusal(400, "structure", "The body is not a JSON object.")
    return found


async def _form(request: Request) -> Pairs:
    """Read search parameters from a form body; a GET has none."""
    if request.method != "POST":
        return ()
    if not request.headers.get("content-type", _FORM).startswith(_FORM):
        raise Refusal(415, "not-supported", "_search takes a form.")
    return parse_pairs((await request.body()).decode("utf-8", "replace"))


def _number(text: str) -> int:
    if not text.isdecimal():
        raise Refusal(400, "value", "An event number is a whole number.")
    return int(text)


def _of_type(resource: Resource, resource_type: str) -> Resource:
    if resource.get("resourceType") != resource_type:
        raise Refusal(400, "invalid", "The body is not of the type that the URL names.")
    return resource


def _base_url(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}{BASE_PATH}"


def _answer(request: Request, answer: Answer) -> Response:
    record = answer.record
    if record is None:
        return Response(status_code=answer.status)
    headers = _headers(request, record)
    if request.method == "GET" and wants_content(request, record):
        return content_of(record, headers)
    if "return=minimal" in request.headers.get("prefer", ""):
        return Response(b"", answer.status, headers)
    return Response(record.body, answer.status, headers, FHIR_JSON)


def _headers(request: Request, record: Record) -> dict[str, str]:
    version_url = f"{_base_url(request)}/{record.reference}/_history/{record.version}"
    return {
        "ETag": record.etag,
        "Last-Modified": formatdate(record.updated_ms / 1000, usegmt=True),
        "Location": version_url,
    }


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type=FHIR_JSON)
