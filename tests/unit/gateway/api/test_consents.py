"""What compliance sees of consents: as they were received, and what they say to a question."""

import orjson
import pytest

from gateway.store.audit_log import AuditFilter
from tests.conftest import Api
from tests.factories import consent, creatinine, patient, raw
from tests.pcf import labels

LIMITED = {"provision": {**consent()["provision"], "securityLabel": labels("N")}}
COMPLIANCE = "compliance"


def decide(api: Api, **asked: object):
    headers = {"Content-Type": "application/json", **api.headers(COMPLIANCE)}
    body = orjson.dumps({"patient": "p1", "system": "ehr", **asked})
    return api.client.post("/consent/$decide", content=body, headers=headers)


def queries(api: Api) -> list[str]:
    with api.store.read() as uow:
        rows = uow.audit_log.search(AuditFilter(limit=100))
    return [row.body.decode() for row in rows if row.event in ("query", "read")]


def test_consents_are_found_as_they_were_received_and_the_look_is_on_record(api: Api):
    assert api.post(raw(consent(1))).status_code == 202
    assert api.post(raw(consent(2, subject="Patient/p2"))).status_code == 202

    found = api.get("/fhir/Consent?patient=p1&system=ehr", COMPLIANCE).json()

    assert [entry["resource"]["id"] for entry in found["entry"]] == ["c1"]
    assert len(queries(api)) == 1
    assert "Patient/p1" not in queries(api)[0]


def test_one_consent_is_read_by_the_id_that_decisions_name(api: Api):
    assert api.post(raw(consent(1))).status_code == 202
    (named,) = decide(api, purpose="TREAT").json()["consents"]

    response = api.get(f"/fhir/{named}", COMPLIANCE)

    assert response.content == raw(consent(1))
    assert api.get("/fhir/Consent/nothing", COMPLIANCE).status_code == 404


def test_what_is_no_consent_is_not_read_as_one(api: Api):
    task = api.post(raw(creatinine(1))).json()

    assert api.get(f"/fhir/Consent/{task['id']}", COMPLIANCE).status_code == 404


def test_a_patient_has_to_be_named(api: Api):
    assert api.get("/fhir/Consent", COMPLIANCE).status_code == 400


def test_a_decision_tells_its_basis_rules_and_what_would_change_it(api: Api):
    assert api.post(raw(consent(1))).status_code == 202

    told = decide(api, purpose="TREAT").json()
    assert (told["decision"], told["basis"]) == ("permit", "consent")
    assert [each["verdict"] for each in told["rules"]] == ["permit"]
    assert any("withdrawn" in each for each in told["changes"])

    other = decide(api, purpose="HRESCH").json()
    assert (other["decision"], other["basis"]) == ("deny", "")


def test_it_is_asked_as_a_route_asks(api: Api):
    assert api.post(raw(consent(1))).status_code == 202

    told = decide(api, route="ckd-risk").json()

    assert (told["decision"], told["purpose"], told["default"]) == ("permit", "TREAT", "deny")
    refused = decide(api, route="nothing")
    assert refused.status_code in (400, 422)
    assert "no such route" in refused.text


def test_of_limited_data_each_resource_is_asked_for(api: Api):
    assert api.post(raw(consent(1, **LIMITED))).status_code == 202
    data = creatinine(1)

    def of(*codes: str) -> dict[str, object]:
        return decide(
            api, purpose="TREAT", resource={**data, "meta": {"security": labels(*codes)}}
        ).json()

    unknown = decide(api, purpose="TREAT").json()
    assert (unknown["decision"], unknown["foreseen"]) == ("deny", "permit")
    normal = of("N")
    assert normal["decision"] == "permit"
    assert [each["code"] for each in normal["obligations"]] == ["REDACT"]
    assert of("R")["decision"] == "deny"


def test_parameters_are_answered_with_parameters(api: Api):
    assert api.post(raw(consent(1))).status_code == 202
    parts = [
        {"name": "patient", "valueReference": {"reference": "Patient/p1"}},
        {"name": "system", "valueString": "ehr"},
        {"name": "purpose", "valueCode": "TREAT"},
        {"name": "action", "valueCode": "disclose"},
        {"name": "actor", "valueReference": {"reference": "Organization/ours"}},
        {"name": "resource", "resource": creatinine(1)},
    ]
    body = orjson.dumps({"resourceType": "Parameters", "parameter": parts})
    headers = {"Content-Type": "application/fhir+json", **api.headers(COMPLIANCE)}

    told = api.client.post("/consent/$decide", content=body, headers=headers).json()

    assert told["resourceType"] == "Parameters"
    words = {each["name"]: each.get("valueString") for each in told["parameter"]}
    assert (words["decision"], words["basis"]) == ("permit", "consent")


def test_the_patient_asked_about_stands_in_no_record_but_by_her_key(api: Api):
    assert api.post(raw(patient())).status_code == 202

    assert decide(api, purpose="TREAT").status_code == 200

    (query,) = queries(api)
    assert "$decide" in orjson.dumps(orjson.loads(query)).decode() or "query" in query
    assert "Patient/p1" not in query


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"purpose": "TREAT", "unknown": 1},
        {"purpose": "TREAT", "action": ["steal"]},
        {"purpose": "TREAT", "resource": {"meta": 1}},
        {"purpose": "TREAT", "resource": {"resourceType": "Observation", "meta": {"security": 5}}},
        {"purpose": 5},
    ],
)
def test_what_can_not_be_read_is_refused_with_its_place(api: Api, asked: dict[str, object]):
    response = decide(api, **asked)

    assert response.status_code in (400, 422)
    assert response.json()["resourceType"] == "OperationOutcome"
