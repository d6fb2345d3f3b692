"""Properties of the API: whatever is pushed or asked, by whom ever, the answer is explained.

`tests/fuzz/test_api.py` runs them for a moment, the targets `api_calls` and `api_pushes` for long.
"""

import json
from functools import cache
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from schemathesis import checks
from schemathesis.core import NotSet

from gateway.api.openapi import document
from gateway.core.principal import Role
from tests.cds import SERVICE, request
from tests.fuzz.fhir import broken
from tests.fuzz.served import MARK, insist_on_explained, served

_ROLES = (*(role.value for role in Role), "nobody", None)
_CHECKS = [
    checks.not_a_server_error,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.status_code_conformance,
]
_ODD = (
    MARK,
    f"Patient/{MARK}",
    "Patient/p1",
    "\0",
    "%00",
    "'",
    "1,2",
    "a|b",
    "|",
    "9" * 5000,
    "-1",
    "1e9",
    "²",
    "ge9999-12-31T23:59:59.999999-14:00",
    "lt0001-01-01",
    "2026-02-30",
    "../..",
    "\u202e",
    "x" * 9000,
    "018f0000-0000-7000-8000-000000000000",
    "Observation/o1",
    "pdf",
    "true",
    "date",
)
_SERVICES = "/cds-services"
_ACTOR = {"name": "actor", "valueReference": {"reference": "Practitioner/1"}}
#: Bodies that are not FHIR resources of the EHR, or whose form the document does not tell.
_BODIES = {
    "/consent/$decide": (
        '{"patient":"Patient/p1","purpose":"TREAT","action":["use"],"actor":{"references":["A/1"]}}',
        json.dumps(
            {
                "resourceType": "Parameters",
                "parameter": [
                    {"name": "patient", "valueReference": {"reference": "Patient/p1"}},
                    {"name": "purpose", "valueCoding": {"code": "TREAT"}},
                    {"name": "action", "valueString": "use"},
                    _ACTOR,
                    {
                        "name": "actor",
                        "valueReference": {"identifier": {"system": "s", "value": "v"}},
                    },
                    {"name": "resource", "resource": {"resourceType": "Observation", "id": "o1"}},
                ],
            }
        ),
    ),
    "/break-glass": ('{"patient":"Patient/p1","route":"ckd","reason":"unconscious, bleeding"}',),
    f"{_SERVICES}/{{id}}": (
        json.dumps(request()),
        json.dumps(request(prefetch=None, fhirServer="http://ehr.test/fhir")),
    ),
    f"{_SERVICES}/{{id}}/feedback": (
        '{"feedback":[{"card":"c","outcome":"accepted","outcomeTimestamp":"2026-11-26T10:00:00Z"}]}',
    ),
    "/worklist/{id}/sign-off": ('{"reason":"noted"}',),
    "/break-glass/{id}/review": ('{"verdict":"justified","comment":"seen, and in order"}',),
}
LONG = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


@cache
def operations() -> tuple[Any, ...]:
    """Every route of the OpenAPI document."""
    schema = schemathesis.openapi.from_dict(document())
    return tuple(each.ok() for each in schema.get_all_operations())


@st.composite
def asked(draw: st.DrawFn, operation: Any) -> Any:
    """Give a call of a route, some of its parameters odder than the document lets them be."""
    case = draw(operation.as_strategy())
    odd = st.sampled_from(_ODD)
    bodies = _BODIES.get(operation.path)
    if bodies and draw(st.booleans()):
        case.body = draw(broken(bodies))[1]
    for name in [each.name for each in operation.query]:
        if draw(st.booleans()):
            case.query = {**(case.query or {}), name: draw(odd)}
    if case.path_parameters and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(case.path_parameters)))
        case.path_parameters[name] = draw(
            st.sampled_from(("Observation", SERVICE, "%00", MARK, "x.-1", "a b"))
        )
    return case


def insist_on_answers(case: Any) -> None:
    """Make a call in each role and without one; every answer is explained, and as documented."""
    for role in _ROLES:
        answer = _send(case, role)
        insist_on_explained(answer, may_repeat=answer.status_code == 200)
        case.validate_response(answer, checks=_CHECKS)


def _send(case: Any, role: str | None) -> httpx.Response:
    api = served()
    headers = {} if role is None else api.headers(role)
    if "X-Nadi-Patient" in (case.headers or {}):
        headers["X-Nadi-Patient"] = str(case.headers["X-Nadi-Patient"]).encode("utf-8", "replace")
    if not isinstance(case.body, NotSet):
        headers["Content-Type"] = case.media_type or "application/fhir+json"
    try:
        query = {name: str(value) for name, value in (case.query or {}).items()}
        return api.client.request(
            case.method,
            case.formatted_path,
            params=query,
            headers=headers,
            content=_bytes(case.body),
        )
    except (httpx.InvalidURL, UnicodeEncodeError):
        reject()  # nobody can send this


def _bytes(body: Any) -> bytes:
    if isinstance(body, NotSet):
        return b""
    return body if isinstance(body, bytes) else json.dumps(body).encode("utf-8", "surrogatepass")


@LONG
@given(st.data())
def whatever_is_asked(data: st.DataObject) -> None:
    """Ask any route anything."""
    operation = data.draw(st.sampled_from(operations()))
    insist_on_answers(data.draw(asked(operation)))


@LONG
@given(broken(), st.booleans())
def whatever_is_pushed(made: tuple[str, bytes], names_type: bool) -> None:
    """Push any resource that something is wrong with."""
    kind, body = made
    insist_on_explained(served().post(body, f"/fhir/{kind}" if names_type else "/fhir"))
