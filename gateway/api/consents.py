"""Consents over the API, for the role `compliance`; every look is audited.

* `GET /fhir/Consent?patient=`: a patient's Consents that the EHR sent, in their newest version and
  as received but for an identifier by which decisions name them, and what staff recorded or
  imported, written as FHIR Consents;
  `GET /fhir/Consent/{id}` gives one, by the id that decisions name it with.
* `POST /consent/$decide`: the decision on a question, with every rule and what would change it. The
  patient stands in the body alone, never in an address or log.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.api.body import check_headers, place_of, read_body
from gateway.api.edge import Call, Edge
from gateway.api.outcome import fhir_response
from gateway.api.paging import insist_on_known, searchset
from gateway.consent_resources import of_patient, one
from gateway.core.consent import READ, Actor
from gateway.core.consent.vocabulary import PURPOSES
from gateway.core.errors import ContentError, Erased
from gateway.core.r4_json import decode
from gateway.deciding import Answer, Wanted, answered, as_json, as_parameters

_MOST_BYTES = 1024 * 1024
_DEEPEST = 40

Word = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Action = Literal["access", "collect", "correct", "disclose", "use"]


class _Actor(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    references: list[Word] = []
    identifiers: list[Word] = []
    groups: list[Word] = []
    organizations: list[Word] = []
    roles: list[Word] = []

    def actor(self) -> Actor:
        """Give it as decisions take it: what is not named it is not."""
        return Actor(
            references=frozenset(self.references),
            identifiers=frozenset(self.identifiers),
            groups=frozenset(self.groups),
            organizations=frozenset(self.organizations),
            roles=frozenset(self.roles),
        )


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    patient: Annotated[str, StringConstraints(pattern=r"^(Patient/)?[A-Za-z0-9.-]{1,64}$")]
    system: Word | None = None
    route: Word | None = None
    purpose: Word | None = None
    action: list[Action] = []
    actor: _Actor | None = None
    resource: dict[str, Any] | None = Field(None, description="The data, as FHIR.")


class ConsentCalls:
    """The three calls."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def search(self, call: Call) -> Response:
        """`GET /fhir/Consent`."""
        insist_on_known(call.request, "patient", "system")
        key = self._edge.patient_key_of(call.request)
        if key is None:
            raise ContentError("Name the patient: ?patient=Patient/<id>.", location="patient")
        found = await run_in_threadpool(self._of_patient, key)
        await self._edge.record_query(call, f"Consent?patient-key={key}", {key})
        resources = [resource for _, resource in found]
        addresses = [f"urn:uuid:{consent_id}" for consent_id, _ in found]
        bundle = searchset(
            call.request, resources, following={}, total=len(found), addresses=addresses
        )
        return fhir_response(bundle)

    async def read(self, call: Call) -> Response:
        """`GET /fhir/Consent/{id}`."""
        consent_id = str(call.request.path_params["id"])
        body, key = await run_in_threadpool(self._one, consent_id)
        await self._edge.record_read(call, "Consent", consent_id, key)
        return Response(body, media_type="application/fhir+json")

    async def decide(self, call: Call) -> Response:
        """`POST /consent/$decide`."""
        content, is_fhir = await _body(call.request)
        wanted = self._wanted(call.request, _read(content))
        answer = await run_in_threadpool(self._answer, wanted)
        query = f"consent/$decide?patient-key={wanted.key}&purpose={answer.decision.purpose}"
        await self._edge.record_query(call, query, {wanted.key})
        if is_fhir:
            return fhir_response(as_parameters(answer))
        return JSONResponse(as_json(answer))

    def _wanted(self, request: Request, asked: _Asked) -> Wanted:
        patient = f"Patient/{asked.patient.removeprefix('Patient/')}"
        system = asked.system or self._edge.system_of(request)
        return Wanted(
            key=self._edge.store.sealer.patient_key(system, patient),
            patient=patient,
            route=asked.route,
            purpose=asked.purpose,
            actions=frozenset(asked.action) or READ,
            actor=asked.actor.actor() if asked.actor else None,
            resource=asked.resource,
        )

    def _answer(self, wanted: Wanted) -> Answer:
        with self._edge.store.read() as uow:
            if uow.erasures.closed([wanted.key]):
                raise Erased
            return answered(uow, self._edge.site(), wanted)

    def _of_patient(self, key: str) -> list[tuple[str, dict[str, object]]]:
        with self._edge.store.read() as uow:
            return of_patient(uow, key)

    def _one(self, consent_id: str) -> tuple[bytes, str | None]:
        with self._edge.store.read() as uow:
            return one(uow, consent_id)


async def _body(request: Request) -> tuple[dict[str, Any], bool]:
    """Give what is asked, and whether it was asked as FHIR Parameters."""
    check_headers(request)
    raw = await read_body(request, max_bytes=_MOST_BYTES, max_decompressed=_MOST_BYTES)
    content = decode(raw, max_depth=_DEEPEST)
    if not isinstance(content, dict):
        raise ContentError("The body has to be a JSON object.")
    if content.get("resourceType") == "Parameters":
        try:
            return _of_parameters(content), True
        except (AttributeError, TypeError):
            raise ContentError(
                "parameter has to be a list of objects, each with name and value[x].",
                location="Parameters.parameter",
            ) from None
    return content, False


def _read(content: dict[str, Any]) -> _Asked:
    try:
        asked = _Asked.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = place_of(first["loc"])
        raise ContentError(f"{where}: {first['msg']}.", location=where) from None
    if asked.purpose is not None and asked.purpose not in PURPOSES:
        raise ContentError("purpose: not a purpose of use of v3-ActReason.", location="purpose")
    return asked


_LISTS = {"Group": "groups", "CareTeam": "groups", "Organization": "organizations"}


def _of_parameters(content: dict[str, Any]) -> dict[str, Any]:
    """Read Parameters: each of `patient`, `route`, … by name; `actor` as a Reference, repeating."""
    told: dict[str, Any] = {}
    for each in content.get("parameter") or ():
        name = str(each.get("name")) if isinstance(each, dict) else ""
        if name == "actor":
            _add_actor(told.setdefault("actor", {}), each.get("valueReference") or {})
        elif name == "action":
            told.setdefault("action", []).append(_value(each))
        else:
            told[name] = each.get("resource") if name == "resource" else _value(each)
    return told


def _add_actor(actor: dict[str, list[str]], reference: dict[str, Any]) -> None:
    if literal := reference.get("reference"):
        kind = str(literal).rpartition("/")[0].rpartition("/")[2]
        actor.setdefault(_LISTS.get(kind, "references"), []).append(literal)
    if identifier := reference.get("identifier"):
        written = f"{identifier.get('system', '')}|{identifier.get('value', '')}"
        actor.setdefault("identifiers", []).append(written)


def _value(parameter: dict[str, Any]) -> object:
    """Give the value of a parameter, whichever type it was written as."""
    if "valueReference" in parameter:
        return (parameter["valueReference"] or {}).get("reference")
    if "valueCoding" in parameter:
        return (parameter["valueCoding"] or {}).get("code")
    return next((parameter[name] for name in parameter if name.startswith("value")), None)
