"""`GET /audit/report`: a patient's own report by the API."""

import pytest

from tests.conftest import Api
from tests.factories import consent, creatinine, raw


@pytest.fixture
def busy(api: Api) -> Api:
    """An API that received something of a patient who denies."""
    denied = consent(1, "Patient/p1", provision={"type": "deny"})
    for resource in (denied, creatinine(1, "Patient/p1")):
        assert api.post(raw(resource)).status_code == 202
    return api


def test_the_report_is_given_without_the_patient_in_the_address(busy: Api) -> None:
    answer = busy.get("/audit/report", "compliance", **{"X-Nadi-Patient": "Patient/p1"})

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "script-src" in answer.headers["content-security-policy"] or (
        "default-src" in answer.headers["content-security-policy"]
    )
    assert "What was refused, and why" in answer.text
    assert "Patient/p1" in answer.text


def test_the_report_is_given_as_pdf(busy: Api) -> None:
    answer = busy.get("/audit/report?patient=p1&format=pdf", "compliance")

    assert answer.headers["content-type"] == "application/pdf"
    assert answer.content.startswith(b"%PDF-")


def test_the_making_of_a_report_is_itself_in_the_log(busy: Api) -> None:
    busy.get("/audit/report?patient=p1", "compliance")

    rows = busy.get("/audit/questions/patient?patient=p1", "compliance").json()["rows"]

    assert rows[-1]["event"] == "query"
    assert rows[-1]["what"] == "the audit log"


def test_who_was_only_asked_for_stays_unknown_and_each_look_is_on_record(busy: Api) -> None:
    answers = [busy.get("/audit/report?patient=typo", "compliance") for _ in range(2)]

    assert [each.status_code for each in answers] == [404, 404]
    assert answers[0].json()["resourceType"] == "OperationOutcome"
    rows = busy.get("/audit/questions/patient?patient=typo", "compliance").json()["rows"]
    assert [row["event"] for row in rows] == ["query", "query"]


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 400), ("patient=p1&format=doc", 400), ("patient=nobody", 404), ("colour=red", 400)],
)
def test_a_report_that_can_not_be_made_is_refused(busy: Api, query: str, status: int) -> None:
    assert busy.get(f"/audit/report?{query}", "compliance").status_code == status
