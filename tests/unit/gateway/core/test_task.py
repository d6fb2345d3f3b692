import pytest

from gateway.core.fhir import parse_resource
from gateway.core.jobs import BusinessStatus, EventId, Job, JobId, JobState
from gateway.core.task import JobLine, ReceivedEvent, describe_decision, event_task, job_task
from tests.factories import raw

EVENT = ReceivedEvent("event-1", "Observation", True, 1_700_000_000_000)
DECISION = {
    "stage": "admit",
    "at": "2026-11-23T12:00:00.000+00:00",
    "decision": "deny",
    "purpose": "TREAT",
    "reasons": ["Consent/1: has expired.", "Nothing else."],
    "consents": [],
}
JOB = Job(
    id=JobId("job-1"),
    event_id=EventId("event-1"),
    route="ckd-risk",
    model="ckd-risk@1",
    model_digest="d" * 64,
    state=JobState.REJECTED,
    business_status=BusinessStatus.CONSENT_DENIED,
    reason="Consent/1: has expired.",
    patient_key="p",
    attempt=0,
    created_ms=1_700_000_000_000,
    updated_ms=1_700_000_000_001,
    decisions=(DECISION,),
)


def line(state: JobState, status: str = "queued", number: int = 1) -> JobLine:
    return JobLine(f"job-{number}", "ckd-risk", state, status)


def test_the_task_of_an_event_names_its_jobs_and_is_valid_r4():
    task = event_task(EVENT, [line(JobState.READY)])

    assert (task["status"], task["businessStatus"]["text"]) == ("ready", "queued")
    assert task["output"][0]["valueReference"]["reference"] == "Task/job-1"
    assert task["authoredOn"] == "2023-11-14T22:13:20.000+00:00"
    parse_resource(raw(task), expected_type="Task")


@pytest.mark.parametrize(
    ("is_current", "expected"),
    [(True, ("completed", "no-route")), (False, ("rejected", "superseded"))],
)
def test_an_event_without_jobs_is_done_or_superseded(is_current: bool, expected: tuple[str, str]):
    event = ReceivedEvent("event-1", "Observation", is_current, 0)

    task = event_task(event, [])

    assert (task["status"], task["businessStatus"]["text"]) == expected
    assert "output" not in task
    parse_resource(raw(task), expected_type="Task")


def test_a_consent_that_no_route_looks_at_is_recorded():
    task = event_task(ReceivedEvent("event-1", "Consent", True, 0), [])

    assert (task["status"], task["businessStatus"]["text"]) == ("completed", "recorded")


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([JobState.COMPLETED, JobState.IN_PROGRESS, JobState.READY], "in-progress"),
        ([JobState.COMPLETED, JobState.READY], "ready"),
        ([JobState.FAILED, JobState.COMPLETED], "completed"),
        ([JobState.REJECTED, JobState.FAILED], "failed"),
        ([JobState.CANCELLED, JobState.REJECTED], "rejected"),
    ],
)
def test_the_state_of_the_whole_is_that_of_the_job_that_counts_most(
    states: list[JobState], expected: str
):
    assert event_task(EVENT, [line(state) for state in states])["status"] == expected


def test_jobs_that_disagree_on_the_reason_are_mixed():
    jobs = [
        line(JobState.REJECTED, "consent-denied"),
        line(JobState.REJECTED, "model-unavailable"),
    ]

    assert event_task(EVENT, jobs)["businessStatus"]["text"] == "mixed"


def test_the_task_of_a_job_tells_reason_and_decisions_and_is_valid_r4():
    task = job_task(JOB)

    assert task["statusReason"] == {"text": "Consent/1: has expired."}
    assert task["note"] == [{"text": describe_decision(DECISION)}]
    assert task["partOf"] == [{"reference": "Task/event-1"}]
    parse_resource(raw(task), expected_type="Task")


def test_a_job_without_reason_model_or_decisions_is_valid_r4_too():
    bare = Job(**{**vars(JOB), "reason": "", "decisions": (), "model_digest": ""})

    task = job_task(bare)

    assert "statusReason" not in task
    assert "note" not in task
    parse_resource(raw(task), expected_type="Task")


def test_a_decision_is_told_in_a_sentence():
    assert describe_decision(DECISION) == (
        "Consent asked at admit (2026-11-23T12:00:00.000+00:00) for TREAT: deny. "
        "Consent/1: has expired. Nothing else."
    )


def test_a_decision_whose_reasons_are_no_list_is_told_without_them():
    assert describe_decision({**DECISION, "reasons": None}).endswith("for TREAT: deny. ")
