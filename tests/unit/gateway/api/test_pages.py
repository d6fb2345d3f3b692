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
        "AuditEvent",
        "Observation",
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


def test_the_schema_of_the_site_file_is_published(api: Api):
    assert "properties" in api.client.get("/site.schema.json").json()


@pytest.mark.parametrize("path", ["/", "/fhirs", "/fhir/Patient/1/_history/2", "/../etc/passwd"])
def test_an_unknown_address_is_told_in_fhir(api: Api, path: str):
    response = api.client.get(path)

    assert response.status_code == 404
    parse_resource(response.content, expected_type="OperationOutcome")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/fhir/Patient/1"),
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
