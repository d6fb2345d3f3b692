"""`GET /audit/questions/{name}`: a compliance officer's questions; each is itself audited.

A patient may be named by the header `X-Nadi-Patient` instead of `patient=`, so that the id stands
in no address that a proxy or browser keeps.
"""

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.api.audit_asking import QUESTIONS, ask, query_of
from gateway.api.edge import Call, Edge
from gateway.api.paging import count_of, insist_on_known, whole_number
from gateway.core import clinical_time
from gateway.core.audit_answers import Answer
from gateway.core.clock import to_ms
from gateway.core.errors import ContentError, NotFound
from gateway.core.working_hours import WorkingHours
from gateway.store.audit_questions import Asked, Named

_KNOWN = ("patient", "resource", "system", "model", "since", "until")
NO_HOURS = (
    "The site file does not say when the hospital works: give it the key 'hours' "
    "(docs/site-yaml.md), and apply it."
)


class Questions:
    """Answers the questions."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def ask(self, call: Call) -> Response:
        """Answer one question with JSON."""
        name = str(call.request.path_params["name"])
        if name not in QUESTIONS:
            raise NotFound(f"There is no such question; known: {', '.join(QUESTIONS)}.")
        asked = self._asked(call.request, name)
        answer = await run_in_threadpool(self._answer, name, asked)
        await self._edge.record_query(call, query_of(name, asked), set(answer.patients))
        return JSONResponse(_written(call.request, name, answer))

    def _answer(self, name: str, asked: Asked) -> Answer:
        with self._edge.store.read() as uow:
            return ask(uow, name, asked)

    def _asked(self, request: Request, name: str) -> Asked:
        insist_on_known(request, *_KNOWN)
        given = request.query_params
        asked = Asked(
            patient_key=self._edge.patient_key_of(request),
            resource=self._resource(request),
            model=given.get("model"),
            hours=self._hours(name),
            since_ms=_moment(request, "since"),
            until_ms=_moment(request, "until"),
            before_seq=whole_number(request, "before"),
            limit=count_of(request),
        )
        _insist_on_needs(name, asked)
        return asked

    def _resource(self, request: Request) -> Named | None:
        given = request.query_params.get("resource")
        if given is None:
            return None
        kind, _, identifier = given.partition("/")
        if not (kind and identifier) or "/" in identifier:
            raise ContentError("resource has to be Type/id.", location="resource")
        return Named(self._edge.system_of(request), kind, identifier)

    def _hours(self, name: str) -> WorkingHours | None:
        hours = self._edge.site().hours
        if name == "out-of-hours" and hours is None:
            raise ContentError(NO_HOURS)
        return hours


def _insist_on_needs(name: str, asked: Asked) -> None:
    needs = QUESTIONS[name].needs
    given = {
        "patient": asked.patient_key is not None,
        "resource": asked.resource is not None,
        "model": asked.model is not None,
    }
    if needs and sum(given[need] for need in needs) != 1:
        raise ContentError(f"This question needs {' or '.join(needs)}.", location=needs[0])


def _moment(request: Request, name: str) -> int | None:
    given = request.query_params.get(name)
    if given is None:
        return None
    # A `+` of a time zone arrives as a space when the caller did not encode it.
    span = clinical_time.parse(given.replace(" ", "+"))
    if span is None:
        raise ContentError(f"{name} has to be a FHIR date or dateTime.", location=name)
    return to_ms(span.first)


def _written(request: Request, name: str, answer: Answer) -> dict[str, object]:
    told: dict[str, object] = {
        "question": name,
        "title": QUESTIONS[name].title,
        "groups": list(answer.groups),
        "rows": list(answer.rows),
    }
    if answer.last_seq is not None:
        url = request.url.include_query_params(before=answer.last_seq)
        told["next"] = f"{url.path}?{url.query}"
    return told
