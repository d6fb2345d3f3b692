import base64
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.cli import verify_receipt
from gateway.core.fhir import parse_resource
from gateway.store.keys import load_or_create
from tests.conftest import Api
from tests.factories import SITE, creatinine, patient, raw

OTHER_SYSTEM = """\
  lab:
    kind: fhir-rest
    base_url: http://lab.test/fhir
    auth: {kind: none}
    receive: [push]
"""


@pytest.fixture
def busy(api: Api) -> Api:
    """An API that received something of two patients."""
    for number in (1, 2):
        assert api.post(raw(creatinine(number, f"Patient/p{number}"))).status_code == 202
    return api


def found(api: Api, query: str) -> list[dict]:
    response = api.get(f"/fhir/AuditEvent?{query}", "compliance")
    assert response.status_code == 200, response.text
    parse_resource(response.content, expected_type="Bundle")
    return [entry["resource"] for entry in response.json().get("entry", [])]


def subtypes(events: list[dict]) -> set[str]:
    return {coding["code"] for event in events for coding in event["subtype"]}


def test_the_trail_of_a_patient_is_found_by_reference_or_id(busy: Api):
    by_reference = found(busy, "patient=Patient/p1&_count=100")
    by_id = found(busy, "patient=p1&_count=100")

    assert {"create", "refuse"} <= subtypes(by_reference)
    assert {event["id"] for event in by_reference} <= {event["id"] for event in by_id}
    assert found(busy, "patient=Patient/nobody") == []
    assert found(busy, "patient=p1&system=other") == []


def test_where_there_are_several_systems_the_patients_has_to_be_named(busy: Api):
    other = SITE.replace("routes:", OTHER_SYSTEM + "routes:")
    with busy.store.write() as uow:
        uow.sites.apply(other, "test")
    time.sleep(1.1)

    refused = busy.get("/fhir/AuditEvent?patient=p1", "compliance")

    assert refused.status_code == 400
    assert "ehr, lab" in refused.json()["issue"][0]["diagnostics"]
    assert found(busy, "patient=p1&system=ehr") != []


def test_a_search_is_itself_on_record_without_the_patients_id(busy: Api):
    found(busy, "patient=Patient/p1")

    events = found(busy, "_count=5")

    assert "query" in subtypes(events)
    assert "Patient/p1" not in str(events)


def test_an_outcome_narrows_the_search(busy: Api):
    assert {event["outcome"] for event in found(busy, "outcome=0")} == {"0"}
    assert {event["outcome"] for event in found(busy, "outcome=4")} == {"4"}


@pytest.mark.parametrize(
    ("query", "is_empty"),
    [
        ("date=ge2000-01-01", False),
        ("date=gt2000", False),
        ("date=lt2000-01-01", True),
        ("date=le2000", True),
        ("date=2000-01-01", True),
        ("date=eq2000-01-01T00:00:00Z", True),
        ("date=ge2000&date=lt2001", True),
        ("date=ge2000&date=lt2900", False),
        ("date=lt2900-01-01T00:00:00+05:30", False),
    ],
)
def test_dates_narrow_the_search(busy: Api, query: str, is_empty: bool):
    assert (found(busy, query) == []) == is_empty


@pytest.mark.parametrize(
    "query",
    [
        "date=soon",
        "date=sa2026",
        "date=2026-02-30",
        "outcome=5",
        "_count=x",
        "before=x",
        "before=" + "9" * 40,
        "_sort=id",
        "action=X",
        "colour=red",
        "type=rest,110113",
        "type=|rest",
        "agent=a&agent=b",
        "agent=a&agent.identifier=b",
        "agent.identifier=https://nadi.health/fhir/sid/model|a",
        "patient.identifier=https://ehr.test/mrn|1",
        "entity=1",
        "entity.identifier=1",
        "source=api",
    ],
)
def test_a_search_that_is_not_understood_is_refused(busy: Api, query: str):
    response = busy.get(f"/fhir/AuditEvent?{query}", "compliance")

    assert response.status_code == 400
    parse_resource(response.content, expected_type="OperationOutcome")


def test_pages_keep_every_parameter_and_follow_each_other(busy: Api):
    busy.post(raw(patient(9)))
    until = "date=ge2000&date=lt2900&subtype=receive&_count=1"
    total = len(found(busy, "date=ge2000&date=lt2900&subtype=receive&_count=100"))
    seen, address = [], f"/fhir/AuditEvent?{until}"
    while address:
        page = busy.get(address, "compliance").json()
        assert page["total"] == total
        seen += [entry["resource"]["id"] for entry in page.get("entry", [])]
        links = {link["relation"]: link["url"] for link in page["link"]}
        assert links["self"].count("date=") == 2
        address = links.get("next")

    assert len(seen) == len(set(seen)) == total == 3


SID = "https://nadi.health/fhir/sid"
DCM = "http://dicom.nema.org/resources/ontology/DCM"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("action=C&type=rest", {"create", "receive"}),
        ("agent=ehr&action=C", {"create", "receive"}),
        ("agent=nobody", set()),
        ("type=110113&patient=p1", {"AuthZ-Consent"}),
        (f"type={DCM}|110113&patient=p1", {"AuthZ-Consent"}),
        ("type=110114", {"110122", "sign-in-failure"}),
        ("subtype=create", {"create", "receive"}),
        ("subtype=receive", {"create", "receive"}),
        (f"subtype={DCM}|110122", {"110122", "sign-in-failure"}),
        ("subtype=AuthZ-Consent", {"AuthZ-Consent"}),
        ("purpose=TREAT", {"AuthZ-Consent"}),
        ("purpose=BTG", set()),
        ("entity=Observation/o1&type=rest", {"create", "receive"}),
        ("entity=Observation/nowhere", set()),
        ("entity=Observation/o1&patient=p2", set()),
        ("entity=Device/ckd-risk@9", set()),
        (f"entity.identifier={SID}/model|ckd-risk@9", set()),
        (f"entity.identifier={SID}/job|none", set()),
    ],
)
def test_each_parameter_narrows_the_search(busy: Api, query: str, expected: set[str]):
    busy.client.get("/fhir/AuditEvent", headers={"authorization": "Bearer nobody"})

    assert subtypes(found(busy, query)) == expected


def test_an_event_is_found_by_its_id_its_patients_key_its_sender_and_its_job(busy: Api):
    [event] = [each for each in found(busy, "patient=p1") if "refuse" in subtypes([each])]
    named = {
        entity["what"]["identifier"].get("system"): entity["what"]["identifier"]["value"]
        for entity in event["entity"]
    }
    key, job = named[f"{SID}/patient-key"], named[f"{SID}/job"]
    [received] = found(busy, "subtype=receive&patient=p1")
    sender = received["agent"][0]["who"]["identifier"]["value"]

    assert [each["id"] for each in found(busy, f"_id={event['id']}")] == [event["id"]]
    assert event in found(busy, f"patient.identifier={SID}/patient-key|{key}&_count=100")
    assert event in found(busy, f"entity.identifier={SID}/patient-key|{key}&_count=100")
    assert event in found(busy, f"entity=Task/{job}")
    assert event in found(busy, f"entity.identifier={SID}/job|{job}")
    assert received in found(busy, f"agent.identifier={SID}/agent|{sender}&_count=100")


def test_events_come_oldest_first_when_asked_so_and_in_pages(busy: Api):
    newest_first = [each["id"] for each in found(busy, "_sort=-date&subtype=receive")]
    seen: list[str] = []
    address = "/fhir/AuditEvent?_sort=date&subtype=receive&_count=1"
    while address:
        page = busy.get(address, "compliance").json()
        seen += [entry["resource"]["id"] for entry in page.get("entry", [])]
        address = {link["relation"]: link["url"] for link in page["link"]}.get("next")

    assert seen == newest_first[::-1]
    assert len(seen) == 2


def test_the_capability_statement_lists_every_parameter_of_the_search(api: Api):
    [rest] = api.get("/fhir/metadata").json()["rest"]
    [described] = [each for each in rest["resource"] if each["type"] == "AuditEvent"]

    for parameter in described["searchParam"]:
        query = f"{parameter['name']}={_ANY.get(parameter['name'], 'x')}"
        assert api.get(f"/fhir/AuditEvent?{query}", "compliance").status_code == 200, query


_ANY = {
    "date": "2026-01-01",
    "entity": "Task/1",
    "entity.identifier": "a|b",
    "action": "C",
    "outcome": "0",
}


@pytest.mark.parametrize("role", ["ehr", "integrator", "clinician", "operator"])
@pytest.mark.parametrize("path", ["/fhir/AuditEvent", "/audit/checkpoint", "/audit/proof/x"])
def test_only_compliance_reads_the_log(api: Api, role: str, path: str):
    assert api.get(path, role).status_code == 403


def test_the_checkpoint_is_given_once_there_is_one(busy: Api):
    assert busy.get("/audit/checkpoint", "compliance").status_code == 404
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    with busy.store.write() as uow:
        uow.audit_log.integrate(key, "nadi.test/log")

    response = busy.get("/audit/checkpoint", "compliance")

    assert response.status_code == 200
    assert response.text.startswith("nadi.test/log\n")


def test_a_receipt_is_given_that_the_program_of_auditors_accepts(busy: Api, tmp_path: Path):
    name = found(busy, "subtype=receive")[0]["id"]
    assert busy.get(f"/audit/proof/{name}", "compliance").status_code == 404
    keys = load_or_create(tmp_path / "data")
    with busy.store.write() as uow:
        uow.audit_log.integrate(keys.signing, keys.origin)

    response = busy.get(f"/audit/proof/{name}", "compliance")

    assert response.status_code == 200
    _, events = verify_receipt.verify(response.json(), keys.verifier, [])
    assert [event["id"] for event in events] == [name]
    queries = found(busy, "subtype=query&patient=p1&_count=100")
    queries += found(busy, "subtype=query&patient=p2&_count=100")
    decoded = [
        base64.b64decode(entity["query"]).decode()
        for event in queries
        for entity in event["entity"]
        if "query" in entity
    ]
    assert f"AuditEvent/$prove?id={name}" in decoded
    assert busy.get("/audit/proof/nothing", "compliance").status_code == 404
