import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import InvalidTransition
from gateway.core.jobs import (
    TRANSITIONS,
    BusinessStatus,
    EventId,
    JobState,
    NewJob,
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
def test_no_path_leads_out_of_completed_rejected_or_cancelled(path: list[JobState]):
    state = JobState.REQUESTED
    for after in path:
        if after in TRANSITIONS[state]:
            assert state not in (JobState.COMPLETED, JobState.REJECTED, JobState.CANCELLED)
            state = after


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
