"""What is readable without a credential: CapabilityStatement, OpenAPI, the docs page, schemas."""

import re

import pytest

from gateway.api.capability import capability_statement
from gateway.api.docs_page import CONTENT_SECURITY_POLICY, docs_page
from gateway.core.fhir import parse_resource
from tests.conftest import Api
from tests.factories import raw


def test_the_capability_statement_is_valid_r4_and_open(api: Api):
    response = api.client.get("/fhir/metadata")

    assert response.status_code == 200
    parse_resource(response.content, expected_type="CapabilityStatement")


def test_every_resource_type_can_be_pushed_and_searches_are_told():
    rest = capability_statement()["rest"][0]
    codes = {r["type"]: {i["code"] for i in r["interaction"]} for r in rest["resource"]}

    assert all({"create", "update"} <= found for found in codes.values())
    assert {name for name, found in codes.items() if "search-type" in found} == {
        "Task",
        "Consent",
        "AuditEvent",
        "Observation",
        "RiskAssessment",
    }
    assert parse_resource(raw(capability_statement()))


def test_the_openapi_document_tells_the_routes_there_are(api: Api):
    document = api.client.get("/openapi.json").json()

    for path, verbs in document["paths"].items():
        for verb, call in verbs.items():
            real = path.replace("{type}", "Patient").replace("{id}", "p1")
            response = api.client.request(verb.upper(), real)
            assert response.status_code != 405, path
            assert (response.status_code == 401) == bool(call["security"]), path


def test_the_docs_page_loads_nothing_from_anywhere(api: Api):
    response = api.client.get("/docs")

    assert response.status_code == 200
    assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert "<script" not in response.text
    assert re.findall(r'(?:src|href)="(?!/)', response.text) == []
    assert "curl -X POST" in response.text
    assert "Authorization: Bearer $NADI_TOKEN" in response.text


def test_the_docs_page_escapes_what_it_shows():
    document = {
        "info": {"description": "<b>about</b>"},
        "paths": {
            "/x": {
                "get": {
                    "summary": "<script>",
                    "security": [],
                    "responses": {"200": {"description": "<i>"}},
                }
            }
        },
    }

    page = docs_page(document, "http://nadi.test")

    assert "<script" not in page
    assert "&lt;b&gt;about" in page


def test_the_docs_page_says_who_may_call_and_its_examples_name_the_patient(api: Api):
    page = api.client.get("/docs").text

    assert "/fhir/Observation?patient=Patient/example-1" in page
    assert "role <b>clinician</b>" in page
    assert "role <b>ehr or integrator</b>" in page
    assert "Needs no token." in page


def test_the_root_leads_to_the_docs_page(api: Api):
    response = api.client.get("/", follow_redirects=False)

    assert response.status_code == 307
    assert response.headers["location"] == "/docs"


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("/fhir/Task", "ehr"),
        ("/fhir/Observation", "clinician"),
        ("/fhir/RiskAssessment", "clinician"),
        ("/fhir/AuditEvent", "compliance"),
    ],
)
@pytest.mark.parametrize(
    "query",
    [
        "patient=Patient/p1&colour=red",
        "patient=",
        "patient=Patient/p1&patient=Patient/p2",
        "patient=Patient/p1&_count=1&_count=2",
        "patient=Patient/p1&_count=0",
        "_count=",
    ],
)
def test_a_search_that_would_mislead_is_refused(api: Api, path: str, role: str, query: str):
    response = api.get(f"{path}?{query}", role)

    assert response.status_code == 400
    parse_resource(response.content, expected_type="OperationOutcome")


def test_how_the_answer_looks_may_be_asked_of_every_search(api: Api):
    for path, role in (("Task?", "ehr"), ("AuditEvent?", "compliance")):
        assert api.get(f"/fhir/{path}_format=json&_pretty=true", role).status_code == 200


def test_the_schema_of_the_site_file_is_published(api: Api):
    assert "properties" in api.client.get("/site.schema.json").json()


@pytest.mark.parametrize("path", ["/fhirs", "/fhir/Patient/1/_history/2", "/../etc/passwd"])
def test_an_unknown_address_is_told_in_fhir(api: Api, path: str):
    response = api.client.get(path)

    assert response.status_code == 404
    parse_resource(response.content, expected_type="OperationOutcome")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/fhir/Patient/1"),
        ("GET", "/fhir"),
        ("PUT", "/fhir"),
    ],
)
def test_a_method_that_is_not_offered_is_told_in_fhir(api: Api, method: str, path: str):
    response = api.client.request(method, path)

    assert response.status_code == 405
    assert response.headers["allow"]
    parse_resource(response.content, expected_type="OperationOutcome")
