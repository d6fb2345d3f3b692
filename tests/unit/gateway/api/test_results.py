"""What a clinician finds of a patient: each result under the type that the EHR has it under."""

import pytest

from gateway.core.delivery import DeliveryState
from gateway.core.jobs import JobId
from gateway.core.write_back import AS_OBSERVATION
from gateway.store.audit_log import AuditFilter
from gateway.store.deliveries import Settlement
from tests.conftest import Api
from tests.factories import consent, raw
from tests.listed import keep_here, with_result
from tests.result_models import RISK, RISK_ASSESSMENT, context_of, made

OF = "patient=Patient/p1&system=ehr"


def settle(api: Api, job_id: JobId, answer: str) -> None:
    with api.store.write() as uow:
        delivery = uow.deliveries.of_jobs([job_id])[job_id]
        uow.deliveries.settle(
            [Settlement(delivery=delivery, state=DeliveryState.DELIVERED, answer=answer)]
        )


def found(api: Api, resource_type: str) -> list[str]:
    response = api.get(f"/fhir/{resource_type}?{OF}", "clinician")
    assert response.status_code == 200, response.text
    entries = response.json().get("entry", [])
    return [entry["resource"]["resourceType"] for entry in entries]


def test_each_result_is_found_under_its_own_type(api: Api):
    assert api.post(raw(consent(1))).status_code == 202
    with_result(api, 1, made(RISK, 0.7))
    with_result(api, 2, made(RISK_ASSESSMENT, 0.7, context=context_of("risk")))

    assert found(api, "Observation") == ["Observation"]
    assert found(api, "RiskAssessment") == ["RiskAssessment"]


def test_a_result_that_the_ehr_has_as_an_observation_is_found_as_one(api: Api):
    assert api.post(raw(consent(1))).status_code == 202
    job_id = with_result(api, 1, made(RISK_ASSESSMENT, 0.7))

    settle(api, job_id, f"201 {AS_OBSERVATION}")

    assert found(api, "Observation") == ["Observation"]
    assert found(api, "RiskAssessment") == []


def test_only_a_clinician_finds_results(api: Api):
    assert api.get(f"/fhir/RiskAssessment?{OF}", "compliance").status_code == 403


def on_worklist(api: Api, number: int, route: str) -> str:
    """Leave a result on the worklist; give its identifier."""
    report = made(RISK, 0.7, context=context_of(route))
    keep_here(api.store, with_result(api, number, report))
    return report.identifier


def test_what_no_ehr_takes_is_found_without_naming_a_patient_the_newest_first(api: Api):
    assert api.post(raw(consent(1))).status_code == 202
    with_result(api, 1, made(RISK, 0.7))
    first, second = on_worklist(api, 2, "one"), on_worklist(api, 3, "two")

    page = api.get("/fhir/Observation?worklist=true&_count=1", "clinician").json()
    following = next(each["url"] for each in page["link"] if each["relation"] == "next")
    rest = api.get(f"/fhir/Observation?{following.partition('?')[2]}", "clinician").json()

    shown = [each["resource"]["identifier"][0]["value"] for each in page["entry"] + rest["entry"]]
    assert shown == [second, first]
    assert api.get("/fhir/RiskAssessment?worklist=true", "clinician").json().get("entry") is None


@pytest.mark.parametrize("query", ["worklist=false", "worklist=true&patient=Patient/p1"])
def test_a_worklist_is_asked_for_plainly(api: Api, query: str):
    answer = api.get(f"/fhir/Observation?{query}", "clinician")

    assert answer.status_code == 400
    assert answer.json()["issue"][0]["expression"] == ["worklist"]


def test_the_worklist_is_for_clinicians_and_its_reading_is_recorded(api: Api):
    assert api.post(raw(consent(1))).status_code == 202
    on_worklist(api, 1, "one")

    assert api.get("/fhir/Observation?worklist=true", "operator").status_code == 403
    api.get("/fhir/Observation?worklist=true", "clinician")

    with api.store.read() as uow:
        (row,) = [r for r in uow.audit_log.search(AuditFilter(limit=50)) if r.event == "query"]
    assert row.patient_key is not None
