"""What an EHR deletes is received as the last version of each resource."""

import orjson
import pytest

from gateway.core.deletion import deleted_version, is_deleted
from gateway.core.event import is_unsettled
from gateway.core.fhir import parse_resource
from tests.conftest import Api
from tests.factories import Json, bundle, consent, creatinine, meta, patient, raw
from tests.unit.gateway.api.test_receive import current, rows, task

MEDPLUM = "X-Medplum-Deleted-Resource"
JSON = {"Content-Type": "application/fhir+json"}
AT_ONCE = "2026-01-15T04:30:00.000+00:00"


def delete(api: Api, reference: str):
    return api.client.request("DELETE", f"/fhir/{reference}", headers=api.headers())


def now(api: Api, kind: str) -> list[Json]:
    return [orjson.loads(content) for name, content in current(api) if name == kind]


def test_a_deleted_resource_is_in_force_no_more(api: Api):
    task(api.put(raw(creatinine(1)), "/fhir/Observation/o1"))

    answer = task(delete(api, "Observation/o1"))

    (left,) = now(api, "Observation")
    assert is_deleted(left)
    assert (left["status"], left["subject"]) == ("entered-in-error", {"reference": "Patient/p1"})
    parse_resource(raw(left), expected_type="Observation")
    assert answer["businessStatus"]["text"] == "not-final"


def test_its_jobs_are_superseded(api: Api):
    api.post(raw(consent(1)))
    first = task(api.put(raw(creatinine(1)), "/fhir/Observation/o1"))
    assert first["status"] == "ready"

    delete(api, "Observation/o1")

    told = api.get(f"/fhir/Task/{first['id']}").json()
    assert told["businessStatus"]["text"] in ("queued", "superseded")
    with api.store.read() as uow:
        event = uow.events.get(first["id"])
    assert event is not None
    assert not event.is_current


def test_a_deleted_consent_permits_nothing_and_stops_what_waits(api: Api):
    task(api.put(raw(consent(1)), "/fhir/Consent/c1"))
    waits = task(api.post(raw(creatinine(1))))

    task(delete(api, "Consent/c1"))

    told = api.get(f"/fhir/Task/{waits['id']}").json()
    assert (told["status"], told["businessStatus"]["text"]) == ("cancelled", "consent-withdrawn")
    after = task(api.post(raw(creatinine(2))))
    assert after["businessStatus"]["text"] == "consent-denied"


def test_a_second_deletion_is_the_first(api: Api):
    task(api.put(raw(creatinine(1)), "/fhir/Observation/o1"))

    ids = {task(delete(api, "Observation/o1"))["id"] for _ in range(19)}

    assert (len(ids), rows(api, "events")) == (1, 2)


def test_what_was_written_before_and_arrives_later_changes_nothing(api: Api):
    task(delete(api, "Observation/o1"))

    task(api.put(raw(creatinine(1, **meta(1, AT_ONCE))), "/fhir/Observation/o1"))

    assert [is_deleted(each) for each in now(api, "Observation")] == [True]


def test_what_is_made_again_after_it_was_deleted_is_in_force(api: Api):
    task(api.put(raw(creatinine(1, **meta(1, AT_ONCE))), "/fhir/Observation/o1"))
    task(delete(api, "Observation/o1"))

    task(api.put(raw(creatinine(1, **meta(3, "2099-01-01T00:00:00Z"))), "/fhir/Observation/o1"))

    assert [is_deleted(each) for each in now(api, "Observation")] == [False]


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("history", "Consent/c1/_history/2"),
        ("batch", "Consent/c1"),
        ("transaction", "http://ehr.test/fhir/Consent/c1"),
    ],
)
def test_an_entry_that_deletes_is_done_with_the_others(api: Api, kind: str, url: str):
    task(api.put(raw(consent(1)), "/fhir/Consent/c1"))
    sent = bundle(patient(1), kind=kind)
    gone: Json = {"fullUrl": "http://ehr.test/fhir/Consent/c1"}
    gone["request"] = {"method": "DELETE", "url": url}
    if kind == "history":
        gone["response"] = {"status": "204"}
    sent["entry"].append(gone)

    answer = api.post(raw(sent))

    assert [each["response"]["status"] for each in answer.json()["entry"]] == ["202", "202"]
    assert [is_deleted(each) for each in now(api, "Consent")] == [True]


def test_a_permit_that_was_overtaken_by_its_deletion_permits_nothing(api: Api):
    task(delete(api, "Consent/c1"))

    task(api.put(raw(consent(1, **meta(1, AT_ONCE))), "/fhir/Consent/c1"))

    assert task(api.post(raw(creatinine(1))))["businessStatus"]["text"] == "consent-denied"


@pytest.mark.parametrize("body", [b"", b"{}", b" {} "], ids=["empty", "object", "spaced"])
def test_what_medplum_posts_of_a_deletion_is_one(api: Api, body: bytes):
    task(api.put(raw(consent(1)), "/fhir/Consent/c1"))
    waits = task(api.post(raw(creatinine(1))))
    headers = api.headers() | JSON | {MEDPLUM: "Consent/c1"}

    answer = task(api.client.post("/fhir", content=body, headers=headers))

    told = api.get(f"/fhir/Task/{waits['id']}").json()
    assert told["businessStatus"]["text"] == "consent-withdrawn"
    assert answer["status"] != "failed"
    assert [is_deleted(each) for each in now(api, "Consent")] == [True]


@pytest.mark.parametrize(
    ("named", "body"),
    [
        ("", b""),
        ("Consent", b"{}"),
        ("Nothing/c1", b"{}"),
        ("Consent/c 1", b"{}"),
        ("Consent/c1", raw(consent(1))),
    ],
    ids=["nothing", "no-id", "no-type", "no-id-of-fhir", "a-resource"],
)
def test_a_deletion_of_which_nobody_knows_what_is_refused(api: Api, named: str, body: bytes):
    headers = api.headers() | JSON | {MEDPLUM: named}

    answer = api.client.post("/fhir", content=body, headers=headers)

    assert answer.status_code in (400, 422)
    assert "X-Medplum-Deleted-Resource has to be Type/id" in answer.text
    assert rows(api, "events") == 0


def test_only_a_system_may_delete(api: Api):
    assert api.client.request("DELETE", "/fhir/Observation/o1").status_code == 401
    for role in ("clinician", "operator", "compliance", "integrator", "nobody"):
        answer = api.client.request("DELETE", "/fhir/Observation/o1", headers=api.headers(role))
        assert answer.status_code == 403


def test_a_type_without_such_a_status_is_only_tagged(api: Api):
    task(api.put(raw(patient(1)), "/fhir/Patient/p1"))

    task(delete(api, "Patient/p1"))

    (left,) = now(api, "Patient")
    assert is_deleted(left)
    assert is_unsettled(left)


def test_a_status_that_the_type_does_not_have_is_not_written(api: Api):
    with api.store.read() as uow:
        made = deleted_version(
            ("Device", "d"), {"resourceType": "Device", "status": "active"}, uow.now
        )
        other = deleted_version(
            ("Subscription", "s"), {"resourceType": "Subscription", "status": "off"}, uow.now
        )

    assert made.content["status"] == "entered-in-error"
    assert other.content["status"] == "off"
