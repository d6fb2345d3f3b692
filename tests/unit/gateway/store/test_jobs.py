from collections.abc import Iterator
from dataclasses import replace

import pytest

from gateway.core.errors import InvalidTransition
from gateway.core.jobs import Advance, BusinessStatus, EventId, Job, JobState, NewJob
from gateway.core.lanes import Lane
from gateway.store.jobs import JobFilter, Jobs, advanced, rescue
from gateway.store.unit_of_work import Store
from gateway.store.unit_of_work import UnitOfWork as Work
from tests.waiting import ready

LEASE_MS = 60_000
DAY_S = 86_400


@pytest.fixture
def work(store: Store) -> Iterator[Work]:
    with store.write() as unit:
        unit.now_ms = 1_000_000
        yield unit


def make(number: int = 1, **changes: object) -> NewJob:
    job = NewJob(
        event_id=EventId(f"event-{number}"),
        route="ckd-risk",
        model="ckd-risk@1.0.0",
        model_digest="d" * 64,
        patient_key="p" * 64,
        state=JobState.READY,
        business_status=BusinessStatus.QUEUED,
    )
    return replace(job, **changes)


def claimed(work: Work, *new: NewJob, owner: str = "infer@one") -> list[Job]:
    jobs = Jobs(work)
    jobs.add(new)
    return jobs.claim([job.id for job in new], owner, lease_ms=LEASE_MS)


def finish(job: Job, state: JobState = JobState.REJECTED) -> Advance:
    return Advance(job=job, state=state, business_status=BusinessStatus.INPUT_MISSING, reason="No.")


def test_a_job_that_was_added_is_read_back_as_it_was(work: Work) -> None:
    decision = {"stage": "admit", "decision": "permit", "reasons": ["Consent/1: permits TREAT."]}
    new = make(decisions=(decision,), reason="Because.")

    Jobs(work).add([new])

    job = Jobs(work).get(new.id)
    assert job is not None
    assert (job.event_id, job.route, job.model) == (new.event_id, new.route, new.model)
    assert (job.state, job.business_status) == (JobState.READY, BusinessStatus.QUEUED)
    assert (job.decisions, job.reason, job.attempt) == ((decision,), "Because.", 0)
    assert (job.created_ms, job.updated_ms) == (work.now_ms, work.now_ms)


def test_the_same_event_route_and_digest_makes_one_job_only(work: Work) -> None:
    first, again = make(), make()

    Jobs(work).add([first])
    Jobs(work).add([again, make(2)])

    assert Jobs(work).get(again.id) is None
    assert len(Jobs(work).find(JobFilter())) == 2


def test_adding_nothing_is_allowed(work: Work) -> None:
    Jobs(work).add([])

    assert Jobs(work).find(JobFilter()) == []


def test_a_job_that_does_not_exist_is_none(work: Work) -> None:
    assert Jobs(work).get("nowhere") is None


def test_a_claim_takes_ready_jobs_and_counts_the_attempt(work: Work) -> None:
    (job,) = claimed(work, make())

    assert (job.state, job.business_status) == (JobState.IN_PROGRESS, BusinessStatus.RUNNING)
    assert job.attempt == 1
    assert ready(Jobs(work), 10) == []


def test_a_second_claim_of_the_same_job_gets_nothing(work: Work) -> None:
    (job,) = claimed(work, make())

    assert Jobs(work).claim([job.id], "infer@two", lease_ms=LEASE_MS) == []


def test_a_rejected_job_cannot_be_claimed(work: Work) -> None:
    rejected = make(state=JobState.REJECTED, business_status=BusinessStatus.CONSENT_DENIED)

    assert claimed(work, rejected) == []


def test_ready_jobs_come_by_line_and_no_more_than_asked(work: Work) -> None:
    new = [make(number) for number in range(5)]
    Jobs(work).add(list(reversed(new)))

    (line,) = Jobs(work).lines()
    found = Jobs(work).head(line, 3)

    assert line == (Lane.ROUTINE, new[0].route)
    assert len(found) == 3
    assert {each.since_ms for each in found} == {work.now_ms}
    assert (Jobs(work).waiting(100), Jobs(work).waiting(4)) == (5, 4)


def test_a_job_released_with_a_delay_waits_for_its_time(work: Work) -> None:
    (job,) = claimed(work, make())
    later = work.now_ms + 5_000
    Jobs(work).advance(
        [
            Advance(
                job=job,
                state=JobState.READY,
                business_status=BusinessStatus.QUEUED,
                not_before_ms=later,
            )
        ]
    )

    assert ready(Jobs(work)) == []
    assert Jobs(work).claim([job.id], "infer@two", lease_ms=LEASE_MS) == []
    work.now_ms = later
    assert [found for found, _ in ready(Jobs(work))] == [job.id]


def test_advance_moves_the_job_and_keeps_all_decisions(work: Work) -> None:
    (job,) = claimed(work, make(decisions=({"stage": "admit"},)))
    change = replace(finish(job), decisions=({"stage": "infer"},))

    moved = Jobs(work).advance([change])

    assert moved == 1
    after = Jobs(work).get(job.id)
    assert after is not None
    assert replace(after, updated_ms=job.updated_ms) == advanced(change)
    assert [each["stage"] for each in after.decisions] == ["admit", "infer"]


def test_advancing_nothing_moves_nothing(work: Work) -> None:
    assert Jobs(work).advance([]) == 0


def test_a_worker_that_woke_late_changes_nothing(work: Work) -> None:
    jobs = Jobs(work)
    (late,) = claimed(work, make())
    work.now_ms += LEASE_MS + 1
    jobs.advance(rescue(jobs.expired(), now_ms=work.now_ms, budget_s=DAY_S))
    (successor,) = jobs.claim([late.id], "infer@two", lease_ms=LEASE_MS)

    moved = jobs.advance([finish(late)])

    assert moved == 0
    assert jobs.still_held([late]) == []
    assert jobs.still_held([successor]) == [successor]
    assert jobs.get(late.id) == successor


def test_an_arrow_that_is_not_in_the_state_machine_is_refused(work: Work) -> None:
    Jobs(work).add([make()])
    (job,) = Jobs(work).find(JobFilter())

    with pytest.raises(InvalidTransition):
        Jobs(work).advance([finish(job, JobState.COMPLETED)])


def test_only_leases_that_ran_out_are_rescued(work: Work) -> None:
    jobs = Jobs(work)
    claimed(work, make(1), owner="infer@one")
    work.now_ms += LEASE_MS
    (alive,) = claimed(work, make(2), owner="infer@two")
    work.now_ms += 1

    expired = jobs.expired()

    assert [job.event_id for job in expired] == ["event-1"]
    assert jobs.advance(rescue(expired, now_ms=work.now_ms, budget_s=DAY_S)) == 1
    assert [job.event_id for job in jobs.held_by("infer@two")] == [alive.event_id]
    assert jobs.held_by("infer@one") == []


def test_a_job_that_is_too_old_is_given_up_instead_of_rescued(work: Work) -> None:
    (job,) = claimed(work, make())

    (change,) = rescue([job], now_ms=work.now_ms + DAY_S * 1000, budget_s=DAY_S)

    assert (change.state, change.business_status) == (
        JobState.FAILED,
        BusinessStatus.INFERENCE_FAILED,
    )


def test_a_job_that_waits_for_its_delivery_has_no_lease_to_run_out(work: Work) -> None:
    jobs = Jobs(work)
    (job,) = claimed(work, make())

    jobs.advance(
        [
            Advance(
                job=job,
                state=JobState.IN_PROGRESS,
                business_status=BusinessStatus.DELIVERY_PENDING,
            )
        ]
    )

    work.now_ms += 10 * LEASE_MS
    assert jobs.expired() == []
    assert jobs.held_by("infer@one") == []


def test_a_finished_job_is_not_explained_anew(work: Work) -> None:
    (job,) = claimed(work, make())
    Jobs(work).advance([finish(job)])
    rejected = Jobs(work).get(job.id)
    assert rejected is not None

    with pytest.raises(InvalidTransition):
        Jobs(work).advance([finish(rejected)])


def test_jobs_are_listed_by_filter_newest_first_and_paged(work: Work) -> None:
    new = [make(number) for number in range(4)]
    other = make(9, route="other", patient_key=None)
    Jobs(work).add([*new, other])
    ids = sorted((job.id for job in new), reverse=True)

    first = Jobs(work).find(JobFilter(route="ckd-risk", limit=2))
    second = Jobs(work).find(JobFilter(route="ckd-risk", limit=2, before_id=first[-1].id))

    assert [job.id for job in (*first, *second)] == ids
    assert [job.route for job in Jobs(work).find(JobFilter(event_id="event-9"))] == ["other"]
    assert len(Jobs(work).find(JobFilter(patient_key="p" * 64))) == 4
    assert Jobs(work).find(JobFilter(state=JobState.FAILED)) == []
    assert Jobs(work).find(JobFilter(business_status=BusinessStatus.SUPERSEDED)) == []


def test_jobs_are_found_by_event_and_by_patient(work: Work) -> None:
    Jobs(work).add([make(1), make(1, route="other"), make(2)])
    finished = make(3, state=JobState.REJECTED, business_status=BusinessStatus.CONSENT_DENIED)
    Jobs(work).add([finished])

    of_events = Jobs(work).of_events(["event-1", "event-7"])

    assert {job.route for job in of_events[EventId("event-1")]} == {"ckd-risk", "other"}
    assert set(of_events) == {"event-1"}
    assert len(Jobs(work).open_of_patient("p" * 64)) == 3


def test_counts_tell_state_and_business_status(work: Work) -> None:
    Jobs(work).add([make(1), make(2)])

    assert Jobs(work).counts() == {(JobState.READY, BusinessStatus.QUEUED): 2}


@pytest.mark.parametrize(
    "sql",
    [
        "select id from jobs where jobs.state in ('ready', 'in-progress') and state = ?",
    ],
    ids=["ready"],
)
def test_open_jobs_are_found_by_their_partial_index(work: Work, sql: str) -> None:
    if work.connection.dialect.name != "sqlite":
        pytest.skip("PostgreSQL plans by the number of rows")

    plan = work.connection.exec_driver_sql(f"explain query plan {sql}", ("ready",)).all()

    assert "ix_jobs_open" in str(plan)
