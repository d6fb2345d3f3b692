"""Every address of the API against every role: who may call what, in one table.

An address that is added has to be given its line here: deny by default holds for the table too.
"""

import re

import pytest
from starlette.routing import Route

from gateway.app import build
from gateway.core.principal import Role
from gateway.settings import Settings
from tests.conftest import Api

PUBLIC = "everybody"

#: (method, path) -> the roles that may; everybody else gets 403, and who has no credential 401.
WHO_MAY: dict[tuple[str, str], str] = {
    ("GET", "/"): PUBLIC,
    ("GET", "/docs"): PUBLIC,
    ("GET", "/openapi.json"): PUBLIC,
    ("GET", "/site.schema.json"): PUBLIC,
    ("GET", "/health/live"): PUBLIC,
    ("GET", "/health/ready"): PUBLIC,
    ("GET", "/metrics"): PUBLIC,
    ("GET", "/fhir/metadata"): PUBLIC,
    ("POST", "/fhir"): "ehr",
    ("POST", "/fhir/"): "ehr",
    ("POST", "/fhir/{type}"): "ehr",
    ("PUT", "/fhir/{type}/{id}"): "ehr",
    ("DELETE", "/fhir/{type}/{id}"): "ehr",
    ("GET", "/fhir/Task"): "ehr integrator",
    ("GET", "/fhir/Task/{id}"): "ehr integrator",
    ("GET", "/fhir/Observation"): "clinician",
    ("GET", "/fhir/RiskAssessment"): "clinician",
    ("GET", "/fhir/AuditEvent"): "compliance",
    ("GET", "/audit/checkpoint"): "compliance",
    ("GET", "/audit/proof/{id}"): "compliance",
    ("GET", "/audit/questions/{name}"): "compliance",
    ("GET", "/audit/report"): "compliance",
    ("GET", "/fhir/Consent"): "compliance",
    ("GET", "/fhir/Consent/{id}"): "compliance",
    # It asks and changes nothing; the patient is named in its body.
    ("POST", "/consent/$decide"): "compliance",
    ("GET", "/worklist"): "clinician integrator",
    ("GET", "/worklist/{id}"): "clinician integrator",
    ("GET", "/worklist/{id}/result"): "clinician",
    ("POST", "/worklist/{id}/sign-off"): "clinician",
    ("POST", "/worklist/{id}/retry"): "integrator",
    ("POST", "/break-glass"): "clinician",
    ("GET", "/break-glass"): "compliance",
    ("POST", "/break-glass/{id}/review"): "compliance",
    # Other gateways prove themselves by the signature on the checkpoint that they bring.
    ("POST", "/witness/checkpoints"): PUBLIC,
    ("GET", "/witness/checkpoints"): PUBLIC,
    ("GET", "/cds-services"): "ehr",
    ("POST", "/cds-services/{id}"): "ehr",
    ("POST", "/cds-services/{id}/feedback"): "ehr",
    # What the model of a card is, for whoever reads the card; browsers ask before they call.
    ("GET", "/cds-services/{id}/about"): PUBLIC,
    ("OPTIONS", "/cds-services"): PUBLIC,
    ("OPTIONS", "/cds-services/{id}"): PUBLIC,
    ("OPTIONS", "/cds-services/{id}/feedback"): PUBLIC,
}


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """Every method and path that the application answers."""
    app = build(Settings(data_dir=tmp_path_factory.mktemp("roles")))
    return {
        (method, route.path)
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or ())
        if method != "HEAD"
    }


def test_the_table_has_every_address_and_no_other(addresses: set[tuple[str, str]]):
    assert set(WHO_MAY) == addresses


@pytest.mark.parametrize("role", [*Role, None], ids=str)
def test_a_role_may_call_what_the_table_says_and_nothing_else(api: Api, role: Role | None):
    for (method, path), who in WHO_MAY.items():
        headers = {"authorization": f"Bearer {api.tokens[role]}"} if role else {}
        filled = re.sub(r"\{type\}", "Observation", re.sub(r"\{id\}", "x1", path))

        status = api.client.request(method, filled, headers=headers).status_code

        may = who == PUBLIC or (role is not None and role.value in who.split())
        refused = status in (401, 403) and not (who == PUBLIC and "witness" in path)
        assert refused is not may, f"{role} {method} {path}: {status}"


def test_compliance_can_only_read_and_close_reviews():
    writing = {
        (method, path)
        for (method, path), who in WHO_MAY.items()
        if "compliance" in who and method != "GET"
    }

    assert writing == {("POST", "/break-glass/{id}/review"), ("POST", "/consent/$decide")}
