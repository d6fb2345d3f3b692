"""What compliance sees of consents: as they were received, and what they say to a question."""

from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from gateway.core.consent.importing import documents_in
from gateway.core.consent.local import LocalConsent
from gateway.core.fhir import parse_bundle, parse_resource
from gateway.store.audit_log import AuditFilter
from gateway.store.consenting import Owner, Signed, record, revoke, take
from gateway.store.erasing import Order, erase
from tests import abdm
from tests.conftest import Api
from tests.factories import consent, creatinine, patient, raw
from tests.pcf import labels
from tests.registered import ACTOR

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
    assert found["total"] == 1
    assert len(queries(api)) == 1
    assert "Patient/p1" not in queries(api)[0]


def test_one_consent_is_read_by_the_id_that_decisions_name(api: Api):
    assert api.post(raw(consent(1))).status_code == 202
    (named,) = decide(api, purpose="TREAT").json()["consents"]

    response = api.get(f"/fhir/{named}", COMPLIANCE)

    assert response.content == raw(consent(1))
    assert api.get("/fhir/Consent/nothing", COMPLIANCE).status_code == 404


def test_each_consent_of_a_search_carries_the_id_that_decisions_name(api: Api):
    own = [{"system": "urn:ehr", "value": "form-7"}]
    assert api.post(raw(consent(1, identifier=own))).status_code == 202
    with api.store.write() as uow:
        record(uow, said("permit"), api.store.sealer.patient_key("ehr", "Patient/p1"), ACTOR)

    bundle = api.get("/fhir/Consent?patient=p1&system=ehr", COMPLIANCE).json()

    parse_bundle(orjson.dumps(bundle))
    named = set(decide(api, purpose="TREAT").json()["consents"])
    ids = [
        each["value"]
        for entry in bundle["entry"]
        for each in entry["resource"]["identifier"]
        if each["system"].endswith("/sid/consent")
    ]
    assert {f"Consent/{each}" for each in ids} == named
    assert [entry["fullUrl"] for entry in bundle["entry"]] == [f"urn:uuid:{each}" for each in ids]
    assert bundle["entry"][0]["resource"]["identifier"][0] == own[0]
    assert bundle["total"] == len(ids) == 2


def test_a_purpose_that_nobody_knows_is_refused_as_on_the_command_line(api: Api):
    response = decide(api, purpose="TREATMENT")

    assert response.status_code == 400
    issue = response.json()["issue"][0]
    assert "not a purpose of use" in issue["diagnostics"]


def said(decision: Any) -> LocalConsent:
    return LocalConsent(
        patient="Patient/p1",
        system="ehr",
        decision=decision,
        purposes=("TREAT",) if decision == "permit" else (),
        means="verbal",
        recorded_at="2026-11-20T08:00:00Z",
        recorded_by="os-user:clerk",
    )


def take_documents(api: Api, key: str, *raws: bytes) -> None:
    owner = Owner(system="ehr", reference="Patient/p1", key=key, identified="by the test")
    signed = Signed(signer="hie", key="ed25519:x", signature="e..s", sha256="0" * 64)
    with api.store.write() as uow:
        for each in raws:
            (document,) = documents_in(each)
            take(uow, document, owner, signed, ACTOR)


def test_what_staff_recorded_and_imported_is_found_as_valid_consents(api: Api):
    assert api.post(raw(consent(1))).status_code == 202
    key = api.store.sealer.patient_key("ehr", "Patient/p1")
    with api.store.write() as uow:
        permit, refusal = (record(uow, said(each), key, ACTOR) for each in ("permit", "ai-opt-out"))
        revoke(uow, permit, "She asked for it.", ACTOR)
    take_documents(api, key, raw(consent(7)), abdm.raw(abdm.notification()))

    bundle = api.get("/fhir/Consent?patient=p1&system=ehr", COMPLIANCE).json()
    found = [entry["resource"] for entry in bundle["entry"]]

    parse_bundle(orjson.dumps(bundle))
    told_source = {each["id"]: each.get("meta", {}).get("source", "#ehr") for each in found}
    sources = {name: told.rpartition("#")[2] for name, told in told_source.items()}
    assert sorted(sources.values()) == ["abdm", "ehr", "imported", "staff", "staff"]
    assert {each["id"]: each["status"] for each in found if each["id"] in (permit, refusal)} == {
        permit: "inactive",
        refusal: "active",
    }
    for each in found:
        if sources[each["id"]] != "ehr":
            answer = api.get(f"/fhir/Consent/{each['id']}", COMPLIANCE)
            parse_resource(answer.content, expected_type="Consent")
            assert answer.json() == each
    told = queries(api)
    assert len(told) == 5
    assert all(key in each and "Patient/p1" not in each for each in told)
    assert api.get(f"/fhir/Consent/{refusal}", "clinician").status_code == 403


def test_of_an_erased_patient_only_that_she_refused_ai_is_found(api: Api):
    assert api.post(raw(consent(1))).status_code == 202
    key = api.store.sealer.patient_key("ehr", "Patient/p1")
    with api.store.write() as uow:
        refusal = record(uow, said("ai-opt-out"), key, ACTOR)
    with api.store.write() as uow:
        order = Order(patient_key=key, reason="She asked.", law="s.12")
        erasure = erase(uow, order, set(), ACTOR).tombstone.id
    address = "/fhir/Consent?patient=p1&system=ehr"
    gone = [api.get(each, COMPLIANCE) for each in (address, f"/fhir/Consent/{erasure}")]
    assert [each.status_code for each in gone] == [410, 410]

    with api.store.write() as uow:
        uow.erasures.reopen([key])
        uow.patient_keys.load([key], create=True)
    (entry,) = api.get(address, COMPLIANCE).json()["entry"]

    assert entry["resource"]["id"] == erasure
    assert entry["resource"]["meta"]["tag"][0]["code"] == "kept-at-erasure"
    assert api.get(f"/fhir/Consent/{erasure}", COMPLIANCE).json() == entry["resource"]
    assert api.get(f"/fhir/Consent/{refusal}", COMPLIANCE).status_code == 410


def test_a_consent_that_was_changed_in_the_database_is_told_as_a_denial(api: Api):
    key = api.store.sealer.patient_key("ehr", "Patient/p1")
    with api.store.write() as uow:
        permit = record(uow, said("permit"), key, ACTOR)
    with api.store.write() as uow:
        names = uow.connection.scalars(
            sa.text("select name from sqlite_master where type = 'trigger'")
        ).all()
        for name in names:
            uow.connection.execute(sa.text(f"drop trigger {name}"))
        uow.connection.execute(sa.text("update consent_acts set signature = 'e..s'"))

    found = api.get(f"/fhir/Consent/{permit}", COMPLIANCE).json()

    assert found["provision"] == {"type": "deny"}
    assert found["meta"]["tag"][0]["code"] == "unreadable"


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
        {"purpose": "TREAT", "Asha Rao, 1970": 1},
        {"resourceType": "Parameters", "parameter": 5},
        {"resourceType": "Parameters", "parameter": [{"name": "route", "valueReference": "x"}]},
        {"resourceType": "Parameters", "parameter": [{"name": "actor", "valueReference": "x"}]},
    ],
)
def test_what_can_not_be_read_is_refused_with_its_place(api: Api, asked: dict[str, object]):
    response = decide(api, **asked)

    assert response.status_code in (400, 422)
    assert response.json()["resourceType"] == "OperationOutcome"
    assert "Asha" not in response.text
