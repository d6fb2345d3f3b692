"""As much of OpenMRS's REST interface as registers a patient and saves a visit with its results.

What is saved here makes entries in the Atom feeds; what is written by FHIR makes none:

* a patient who is registered, or saved again as she is, one of `patient`;
* a visit (`bahmniencounter`, what Bahmni's own pages save) one of `encounter`, however many results
  it brings. A result that is changed is voided, and a new one, published later, takes its place.

This stand-in has no dictionary: what a concept is called, its unit and its mappings are those that
the visit says of it.

Source: openmrs-atomfeed, advice on `PatientService` and `EmrEncounterService`; bahmni-core,
`BahmniEncounterController`; emrapi, `EncounterTransaction`.
"""

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.sandbox.keys import Resource
from adapters.sandbox.refusal import Refusal
from adapters.sandbox.store import Store, instant
from gateway.core.clock import to_ms, utc_now

_REST_PATH = "/openmrs/ws/rest/v1"
_SYSTEMS = {"LOINC": "http://loinc.org", "CIEL": "https://cielterminology.org"}
_GENDERS = {"F": "female", "M": "male", "O": "other"}

#: Makes an entry: the feed, and the id of what changed.
Announce = Callable[[str, str], None]


class OpenmrsRest:
    """Saves what a hospital's people enter."""

    def __init__(self, store: Store, announce: Announce) -> None:
        self._store = store
        self._announce = announce

    def routes(self) -> list[Route]:
        """List the routes."""
        return [
            Route(f"{_REST_PATH}/patient", self.register, methods=["POST"]),
            Route(f"{_REST_PATH}/patient/{{id}}", self.save, methods=["POST"]),
            Route(f"{_REST_PATH}/bahmnicore/bahmniencounter", self.visit, methods=["POST"]),
        ]

    async def register(self, request: Request) -> Response:
        """Register a patient; the server chooses her id."""
        person = _part(await _said(request), "person")
        name = str(uuid.uuid4())
        self._store.put(_patient(person), name)
        self._announce("patient", name)
        return _answer({"uuid": name}, 201)

    async def save(self, request: Request) -> Response:
        """Save a patient as she is: a new version, and an entry."""
        name = request.path_params["id"]
        self._store.put(self._known("Patient", name), name)
        self._announce("patient", name)
        return _answer({"uuid": name})

    async def visit(self, request: Request) -> Response:
        """Save a visit with the results that it names; give the ids of all of them."""
        said = await _said(request)
        whose, name = str(said.get("patientUuid")), said.get("encounterUuid")
        self._known("Patient", whose)
        if name is not None:
            self._known("Encounter", name)
        name = name or str(uuid.uuid4())
        with self._store.transaction():
            self._store.put(_encounter(whose), name)
            results = [self._result(each, whose, name) for each in _objects(said, "observations")]
        self._announce("encounter", name)
        return _answer({"encounterUuid": name, "patientUuid": whose, "observations": results})

    def _result(self, said: dict[str, Any], whose: str, visit: str) -> dict[str, Any]:
        before = said.get("uuid")
        if before is not None:
            self._known("Observation", str(before))
            self._store.delete("Observation", str(before))
        name = str(uuid.uuid4())
        self._store.put(_observation(said, whose, visit), name)
        return {"uuid": name, "concept": said["concept"], "value": said.get("value")}

    def _known(self, resource_type: str, name: str) -> Resource:
        record = self._store.current(resource_type, name)
        if record is None or record.is_deleted:
            raise Refusal(404, "not-found", f"No such {resource_type}.")
        found: Resource = orjson.loads(record.body)
        return found


async def _said(request: Request) -> dict[str, Any]:
    try:
        said = orjson.loads(await request.body() or b"{}")
    except orjson.JSONDecodeError:
        raise Refusal(400, "structure", "The body is not JSON.") from None
    if not isinstance(said, dict):
        raise Refusal(400, "structure", "The body is not a JSON object.")
    return said


def _part(said: dict[str, Any], name: str) -> dict[str, Any]:
    part = said.get(name)
    if not isinstance(part, dict):
        raise Refusal(400, "required", f"{name} has to be there.")
    return part


def _objects(said: dict[str, Any], name: str) -> list[dict[str, Any]]:
    listed = said.get(name) or []
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise Refusal(400, "structure", f"{name} has to be a list of objects.")
    return listed


def _patient(person: dict[str, Any]) -> Resource:
    names = [
        {"given": [each.get("givenName")], "family": each.get("familyName")}
        for each in _objects(person, "names")
    ]
    return {
        "resourceType": "Patient",
        "active": True,
        **({"name": names} if names else {}),
        "gender": _GENDERS.get(str(person.get("gender")), "unknown"),
        "birthDate": str(person.get("birthdate"))[:10],
    }


def _encounter(whose: str) -> Resource:
    return {
        "resourceType": "Encounter",
        "status": "unknown",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "subject": {"reference": f"Patient/{whose}", "type": "Patient"},
    }


def _observation(said: dict[str, Any], whose: str, visit: str) -> Resource:
    concept = _part(said, "concept")
    unit = {"unit": concept["units"]} if concept.get("units") else {}
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": _codings(concept), "text": concept.get("name")},
        "subject": {"reference": f"Patient/{whose}", "type": "Patient"},
        "encounter": {"reference": f"Encounter/{visit}", "type": "Encounter"},
        "effectiveDateTime": _moment(said.get("observationDateTime")),
        "issued": instant(to_ms(utc_now())),
        "valueQuantity": {"value": said.get("value"), **unit},
    }


def _codings(concept: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the concept itself, which has no system, and what it is mapped to."""
    own = {"code": concept.get("uuid"), "display": concept.get("name")}
    mapped = [
        {"system": _SYSTEMS[each["source"]], "code": each.get("code")}
        for each in _objects(concept, "mappings")
        if each.get("source") in _SYSTEMS
    ]
    return [own, *mapped]


def _moment(said: object) -> str:
    try:
        at = datetime.fromisoformat(str(said)) if said else utc_now()
    except ValueError:
        raise Refusal(400, "value", "observationDateTime is no time.") from None
    return at.isoformat(timespec="seconds")


def _answer(content: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
