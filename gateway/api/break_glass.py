"""Break-glass over the API: a clinician uses it, compliance lists and reviews the uses.

* `POST /break-glass` {patient, route, reason, system?} answers 202 with the Task of the job;
* `GET /break-glass` lists the uses, newest first, each with its reason and its review;
* `POST /break-glass/{id}/review` {verdict, comment} closes one; nobody reviews their own.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from gateway.api.body import place_of, read_body
from gateway.api.edge import Call, Edge
from gateway.breaking import Emergency, break_glass, review
from gateway.core.audit import Source
from gateway.core.clock import from_ms
from gateway.core.errors import ContentError, Unsealable
from gateway.store.break_glass import ReviewVerdict, Use
from gateway.store.unit_of_work import UnitOfWork

_MOST_BYTES = 16 * 1024
_MOST_LISTED = 200
_MOST_NAMED = 20

Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    patient: Annotated[str, StringConstraints(pattern=r"^(Patient/)?[A-Za-z0-9.-]{1,64}$")]
    route: Text
    reason: Text
    system: Text | None = None


class _Reviewed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    verdict: Literal["justified", "not-justified"]
    comment: Text


class BreakGlassCalls:
    """The three calls."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def use(self, call: Call) -> Response:
        """`POST /break-glass`."""
        asked = _read(_Asked, await _body(call))
        system = asked.system or self._edge.system_of(call.request)
        reference = f"Patient/{asked.patient.removeprefix('Patient/')}"
        wanted = Emergency(
            clinician=call.principal,
            patient_key=self._edge.store.sealer.patient_key(system, reference),
            route=asked.route,
            reason=asked.reason,
        )
        edge, source = self._edge, self._source()
        used = await run_in_threadpool(break_glass, edge.store, edge.site(), source, wanted)
        shown = {"job": used.job_id, "review": used.id, "review_by": _iso(used.due_ms)}
        return JSONResponse(shown, status_code=202)

    async def listed(self, call: Call) -> Response:
        """`GET /break-glass`: `open=true` leaves out what was reviewed."""
        only_open = call.request.query_params.get("open") == "true"
        found = await run_in_threadpool(self._list, only_open)
        patients: set[str | None] = {key for key, _ in found}
        await self._edge.record_query(call, f"break-glass?open={only_open}", patients)
        return JSONResponse([shown for _, shown in found])

    async def review(self, call: Call) -> Response:
        """`POST /break-glass/{id}/review`."""
        given = _read(_Reviewed, await _body(call))
        use = await run_in_threadpool(
            review,
            self._edge.store,
            self._source(),
            call.request.path_params["id"],
            reviewer=call.principal,
            verdict=ReviewVerdict(given.verdict),
            comment=given.comment,
        )
        with self._edge.store.read() as uow:
            return JSONResponse(use_json(uow, use))

    def _list(self, only_open: bool) -> list[tuple[str, dict[str, Any]]]:
        with self._edge.store.read() as uow:
            uses = uow.break_glass.listed(only_open=only_open, limit=_MOST_LISTED)
            return [(use.patient_key, use_json(uow, use)) for use in uses]

    def _source(self) -> Source:
        return Source(self._edge.site().name or "unconfigured", "api")


def use_json(uow: UnitOfWork, use: Use) -> dict[str, Any]:
    """Give a use as it is shown to who reviews it; without the patient's id."""
    return {
        "id": use.id,
        "job": use.job_id,
        "route": use.route,
        "clinician": use.clinician,
        "used_at": _iso(use.used_ms),
        "review_by": _iso(use.due_ms),
        "is_overdue": use.is_overdue(uow.now_ms),
        "reason": _text(lambda: uow.break_glass.reason(use)),
        "reviewed_at": _iso(use.reviewed_ms) if use.reviewed_ms else None,
        "reviewer": use.reviewer,
        "verdict": use.verdict.value if use.verdict else None,
        "comment": _text(lambda: uow.break_glass.comment(use)),
    }


def _text(opened: Any) -> str | None:  # noqa: ANN401 - a function that gives a text
    """Open a sealed text; one whose patient was erased is gone."""
    try:
        text: str | None = opened()
    except Unsealable:
        return "(erased)"
    return text


def _iso(ms: int) -> str:
    return from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def _body(call: Call) -> bytes:
    body = await read_body(call.request, max_bytes=_MOST_BYTES, max_decompressed=_MOST_BYTES)
    call.keep(body)
    return body


def _read(kind: type[Any], body: bytes) -> Any:  # noqa: ANN401 - an instance of the kind
    """Read the body; what is wrong is named by its place, never by its value."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        where = {place_of(each["loc"]) or "the body" for each in error.errors()}
        names = ", ".join(sorted(where)[:_MOST_NAMED])
        raise ContentError(f"Not as it has to be: {names}.", location=names) from None
