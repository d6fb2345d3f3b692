import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import InvalidTransition
from gateway.core.jobs import (
    KEPT_HERE,
    TRANSITIONS,
    Advance,
    BusinessStatus,
    EventId,
    Job,
    JobId,
    JobState,
    NewJob,
    check_advance,
    check_transition,
)


def test_every_state_has_its_line_in_the_table():
    assert TRANSITIONS.keys() == set(JobState)


@pytest.mark.parametrize("before", JobState)
@pytest.mark.parametrize("after", JobState)
def test_only_the_arrows_of_the_table_can_be_taken(before: JobState, after: JobState):
    if after in TRANSITIONS[before]:
        check_transition(before, after)
    else:
        with pytest.raises(InvalidTransition, match=f"from '{before}' to '{after}'"):
            check_transition(before, after)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (JobState.REQUESTED, False),
        (JobState.READY, False),
        (JobState.IN_PROGRESS, False),
        (JobState.COMPLETED, True),
        (JobState.REJECTED, True),
        (JobState.CANCELLED, True),
        (JobState.FAILED, True),
    ],
)
def test_a_final_state_is_left_only_by_a_retry(state: JobState, expected: bool):
    assert state.is_final == expected


@given(st.lists(st.sampled_from(JobState), max_size=8))
def test_no_path_leads_out_of_rejected_or_cancelled(path: list[JobState]):
    state = JobState.REQUESTED
    for after in path:
        if after in TRANSITIONS[state]:
            assert state not in (JobState.REJECTED, JobState.CANCELLED)
            state = after


ELSEWHERE = sorted(set(BusinessStatus) - KEPT_HERE)


def completed(status: BusinessStatus, after: JobState) -> Advance:
    job = Job(
        id=JobId("j"),
        event_id=EventId("e"),
        route="r",
        model="m@1",
        model_digest="d",
        state=JobState.COMPLETED,
        business_status=status,
        reason="",
        patient_key=None,
        attempt=1,
        created_ms=0,
        updated_ms=0,
    )
    return Advance(job=job, state=after, business_status=BusinessStatus.QUEUED)


@pytest.mark.parametrize("after", [JobState.READY, JobState.CANCELLED, JobState.COMPLETED])
def test_of_what_is_completed_only_what_is_kept_here_moves(after: JobState):
    for status in KEPT_HERE:
        check_advance(completed(status, after))

    for status in ELSEWHERE:
        with pytest.raises(InvalidTransition, match="only while its result is kept here"):
            check_advance(completed(status, after))


def test_new_jobs_have_ids_of_their_own():
    made = [
        NewJob(
            event_id=EventId("e"),
            route="r",
            model="m@1",
            model_digest="d",
            patient_key=None,
            state=JobState.READY,
            business_status=BusinessStatus.QUEUED,
        )
        for _ in range(2)
    ]

    assert made[0].id != made[1].id
