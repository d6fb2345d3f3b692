from typing import Any

import pytest

from adapters.sandbox.faults import Faults
from adapters.sandbox.server import SandboxOptions


def entry(method: str, url: str, resource: dict[str, Any] | None = None, **more: Any) -> Any:
    request = {"method": method, "url": url, **more.pop("request", {})}
    return {"request": request, **({"resource": resource} if resource else {}), **more}


def transaction(*entries: Any, kind: str = "transaction") -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def patient(identifier: str = "1") -> dict[str, Any]:
    return {"resourceType": "Patient", "identifier": [{"system": "s", "value": identifier}]}


def about(reference: str) -> dict[str, Any]:
    return {"resourceType": "Observation", "subject": {"reference": reference}}


def statuses(answer: Any) -> list[str]:
    return [each["response"]["status"] for each in answer.json()["entry"]]


def test_references_among_the_entries_are_rewritten(ehr) -> None:
    bundle = transaction(
        entry("POST", "Observation", about("urn:uuid:p")),
        entry("POST", "Patient", patient(), fullUrl="urn:uuid:p"),
    )

    answer = ehr.ask("POST", "/fhir", json=bundle)

    written = answer.json()["entry"][1]["response"]["location"]
    patient_id = written.split("/")[-3]
    assert answer.json()["type"] == "transaction-response"
    assert statuses(answer) == ["201", "201"]
    assert len(ehr.ids(f"/fhir/Observation?patient={patient_id}")) == 1


def test_a_condition_finds_what_is_there_and_references_follow(ehr) -> None:
    ehr.put(patient() | {"id": "known"})
    device = {"resourceType": "Device", "identifier": [{"system": "d", "value": "1"}]}
    once = {"ifNoneExist": "identifier=d|1"}
    bundle = transaction(
        entry(
            "POST",
            "Patient",
            patient(),
            fullUrl="urn:uuid:p",
            request={"ifNoneExist": "identifier=s|1"},
        ),
        entry("POST", "Device", device, fullUrl="urn:uuid:d1", request=once),
        entry("POST", "Device", device, fullUrl="urn:uuid:d2", request=once),
        entry(
            "POST", "Observation", about("urn:uuid:p") | {"device": {"reference": "urn:uuid:d2"}}
        ),
    )

    answer = ehr.ask("POST", "/fhir", json=bundle)

    (device_id,) = ehr.ids("/fhir/Device")
    assert statuses(answer) == ["200", "201", "200", "201"]
    assert len(ehr.ids(f"/fhir/Observation?patient=known&device={device_id}")) == 1


def test_a_transaction_works_in_the_order_that_fhir_says(ehr) -> None:
    ehr.put(patient() | {"id": "old"})
    bundle = transaction(
        entry("GET", "Patient?identifier=s|1"),
        entry("GET", "Patient/new"),
        entry("PUT", "Patient/new", patient() | {"id": "new"}),
        entry("DELETE", "Patient/old"),
    )

    answer = ehr.ask("POST", "/fhir", json=bundle)

    assert statuses(answer) == ["200", "200", "201", "204"]
    assert answer.json()["entry"][0]["resource"]["entry"][0]["resource"]["id"] == "new"
    assert answer.json()["entry"][1]["resource"]["id"] == "new"


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (entry("POST", "Observation", about("urn:uuid:nobody")), 400),
        (entry("POST", "Observation", about("Patient?identifier=s|nobody")), 412),
        (entry("POST", "Observation", patient()), 400),
        (entry("POST", "Patient", patient(), request={"ifNoneExist": "identifier=s|twice"}), 412),
        (entry("POST", "Patient", patient(), request={"ifNoneExist": "_count=1"}), 400),
        (entry("PUT", "Patient/a", patient(), request={"ifMatch": 'W/"7"'}), 412),
        (entry("GET", "Patient/nobody"), 404),
        (entry("PATCH", "Patient/a", None), 501),
        ({"resource": patient()}, 400),
    ],
    ids=[
        "unknown urn",
        "conditional reference without match",
        "type differs",
        "several matches",
        "empty condition",
        "other version",
        "read of nothing",
        "patch",
        "no request",
    ],
)
def test_one_bad_entry_undoes_the_whole(ehr, bad: Any, status: int) -> None:
    for name in ("t1", "t2"):
        ehr.put(patient("twice") | {"id": name})
    good = entry("POST", "Patient", patient("good"))

    answer = ehr.ask("POST", "/fhir", json=transaction(good, bad))

    assert answer.status_code == status
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert ehr.ids("/fhir/Patient?identifier=s|good") == []


def test_in_a_batch_every_entry_stands_for_itself(ehr) -> None:
    bundle = transaction(
        entry("POST", "Patient", patient()), entry("GET", "Patient/nobody"), kind="batch"
    )

    answer = ehr.ask("POST", "/fhir", json=bundle)

    assert statuses(answer) == ["201", "404"]
    outcome = answer.json()["entry"][1]["response"]["outcome"]
    assert outcome["issue"][0]["code"] == "not-found"


def test_conditional_references_are_resolved(ehr) -> None:
    ehr.put(patient() | {"id": "known"})

    ehr.ask(
        "POST",
        "/fhir",
        json=transaction(entry("POST", "Observation", about("Patient?identifier=s|1"))),
    )

    assert len(ehr.ids("/fhir/Observation?patient=known")) == 1


def test_a_conditional_update_writes_the_one_that_matches(ehr) -> None:
    ehr.put(patient() | {"id": "known"})
    changed = patient() | {"gender": "female"}
    bundle = transaction(
        entry("PUT", "Patient?identifier=s|1", changed),
        entry("PUT", "Patient?identifier=s|2", patient("2")),
    )

    answer = ehr.ask("POST", "/fhir", json=bundle)

    assert statuses(answer) == ["200", "201"]
    assert ehr.ids("/fhir/Patient?gender=female") == ["known"]


def test_an_ehr_without_transactions_says_so(make_ehr) -> None:
    ehr = make_ehr(SandboxOptions(faults=Faults(no_transaction=True)))

    answer = ehr.ask("POST", "/fhir", json=transaction(entry("POST", "Patient", patient())))

    assert answer.status_code == 501


def test_other_bundles_are_refused(ehr) -> None:
    assert ehr.ask("POST", "/fhir", json=transaction(kind="history")).status_code == 400
