"""`GET /audit/questions/{name}`: what is asked, what is answered, and what is on record of it."""

from typing import Any

import pytest

from gateway.api.audit_asking import QUESTIONS
from gateway.core.fhir import parse_resource
from tests.conftest import Api
from tests.factories import consent, creatinine, raw


@pytest.fixture
def busy(api: Api) -> Api:
    """An API that received something of two patients, of which one permits nothing."""
    assert api.post(raw(consent(1, "Patient/p1"))).status_code == 202
    for number in (1, 2):
        assert api.post(raw(creatinine(number, f"Patient/p{number}"))).status_code == 202
    return api


def answer(api: Api, question: str, **headers: str) -> dict[str, Any]:
    response = api.get(f"/audit/questions/{question}", "compliance", **headers)
    assert response.status_code == 200, response.text
    return response.json()


def events(told: dict[str, Any]) -> list[str]:
    return [row["event"] for row in told["rows"]]


def test_a_patients_trail_is_told_by_parameter_and_by_header(busy: Api) -> None:
    told = answer(busy, "patient?patient=Patient/p1")
    same = answer(busy, "patient", **{"X-Nadi-Patient": "Patient/p1"})

    assert events(told)[:4] == ["receive", "receive", "consent", "admit"]
    assert events(same) == [*events(told), "query"]


def test_what_was_refused_is_told_with_the_patient_as_the_ehr_names_her(busy: Api) -> None:
    told = answer(busy, "refusals")

    assert told["groups"][0]["times"] == 1
    assert {row["patient"] for row in told["rows"]} == {"Patient/p2"}


def test_who_saw_one_resource_is_told(busy: Api) -> None:
    groups = answer(busy, "who?resource=Observation/o1")["groups"]

    assert [(line["who"], line["did"]) for line in groups] == [("ehr", ["sent it"])]


def test_a_question_is_on_record_once_for_each_patient_in_its_answer(busy: Api) -> None:
    answer(busy, "refusals")
    answer(busy, "patient?patient=p1")

    of_one = [row for row in answer(busy, "patient?patient=p1")["rows"] if row["event"] == "query"]
    of_other = answer(busy, "patient?patient=p2")["rows"]

    assert [row["what"] for row in of_one] == ["the audit log"]
    assert [row["event"] for row in of_other].count("query") == 1


def test_pages_of_an_answer_follow_each_other(busy: Api) -> None:
    whole = [row["seq"] for row in answer(busy, "patient?patient=p1")["rows"]]
    seen: list[int] = []
    address = "/audit/questions/patient?patient=p1&_count=2"
    while address and len(seen) < len(whole):
        page = busy.get(address, "compliance").json()
        seen += [row["seq"] for row in page["rows"]]
        address = page.get("next")

    assert seen[: len(whole)] == whole


@pytest.mark.parametrize(
    ("question", "status", "says"),
    [
        ("nonsense", 404, "known: patient, who"),
        ("patient", 400, "needs patient"),
        ("who", 400, "needs patient or resource"),
        ("who?patient=p1&resource=Observation/o1", 400, "needs patient or resource"),
        ("who?resource=o1", 400, "Type/id"),
        ("who?resource=Observation/nowhere", 404, "never received"),
        ("results", 400, "needs model"),
        ("refusals?since=soon", 400, "since has to be"),
        ("refusals?colour=red", 400, "not known here"),
        ("out-of-hours", 400, "'hours'"),
    ],
)
def test_a_question_that_can_not_be_answered_is_refused_with_its_reason(
    busy: Api, question: str, status: int, says: str
) -> None:
    response = busy.get(f"/audit/questions/{question}", "compliance")

    assert response.status_code == status
    parse_resource(response.content, expected_type="OperationOutcome")
    assert says in response.json()["issue"][0]["diagnostics"]


@pytest.mark.parametrize("role", ["ehr", "integrator", "clinician", "operator"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_only_compliance_may_ask(api: Api, role: str, question: str) -> None:
    assert api.get(f"/audit/questions/{question}", role).status_code == 403
