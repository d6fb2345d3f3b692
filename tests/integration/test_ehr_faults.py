"""An EHR that is away, slow or forgetful: everything arrives, and arrives once."""

import json

import pytest

from tests.people import Person, person, versioned
from tests.running import RunningNadi, push_chart, running_nadi, wait_until

pytestmark = pytest.mark.integration

PATIENTS = 5
#: What an EHR can have wrong with it.
FAULTS: dict[str, dict[str, object]] = {
    "refuses-with-503": {"down": "503", "retry_after_s": 1},
    "hangs-up": {"down": "close"},
    "slow": {"slow_ms": 900},
    "errors-and-retry-after": {"error_rate": 0.25, "retry_after_s": 1, "seed": 7},
    "too-many-requests": {"error_rate": 0.3, "error_statuses": [429], "retry_after_s": 1},
    "answers-get-lost": {"drop_after_commit_rate": 0.5, "seed": 11},
    "no-conditional-create": {"no_conditional_create": True},
    "no-conditional-create-and-lost-answers": {
        "no_conditional_create": True,
        "drop_after_commit_rate": 0.5,
        "seed": 3,
    },
    "ignores-unknown-parameters": {"ignore_unknown_params": True, "drop_after_commit_rate": 0.3},
    "no-transactions": {"no_transaction": True},
    "no-bundles-and-lost-answers": {
        "no_transaction": True,
        "no_batch": True,
        "drop_after_commit_rate": 0.4,
    },
}
#: While these last nothing can be delivered.
AWAY = {"refuses-with-503", "hangs-up"}


@pytest.fixture(scope="module")
def nadi(shared_nadi: RunningNadi) -> RunningNadi:
    return shared_nadi


def serve(nadi: RunningNadi, number: int = PATIENTS) -> dict[str, Person]:
    """Push so many consenting patients, creatinine last; give them by the Task of it."""
    people = [person("fault") for _ in range(number)]
    return {push_chart(nadi, *each.chart(each.consent()), each.creatinine())[-1]: each
            for each in people}  # fmt: skip


def counted(nadi: RunningNadi, people: dict[str, Person]) -> list[int]:
    """Count the results of each patient, by what the EHR holds about them."""
    found = nadi.results()
    return [
        sum(each["subject"]["reference"] == someone.reference for each in found)
        for someone in people.values()
    ]


def statuses(nadi: RunningNadi, people: dict[str, Person]) -> set[str]:
    return {job["business_status"] for task in people for job in nadi.jobs_of(task)}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_result_is_in_the_ehr_once_whatever_was_wrong_with_it(
    nadi: RunningNadi, fault: str
) -> None:
    with nadi.faulty_ehr(**FAULTS[fault]):
        people = serve(nadi)
        if fault in AWAY:
            for task in people:
                nadi.wait_for_status(task, "delivery-pending")
            listed = json.loads(nadi.nadi("jobs", "list", "--json").stdout)
            waiting = {
                job["event_id"] for job in listed if job["business_status"] == "delivery-pending"
            }
            assert waiting == set(people)
        else:
            nadi.settle()
    nadi.settle()

    assert counted(nadi, people) == [1] * PATIENTS
    assert statuses(nadi, people) == {"delivered"}
    assert nadi.duplicates() == 0


def test_an_ehr_that_refuses_a_condition_gets_nothing_twice_and_everything_on_a_retry(
    nadi: RunningNadi,
) -> None:
    with nadi.faulty_ehr(ignore_unknown_params=True, ignored_params=["identifier"]):
        people = serve(nadi, 2)
        nadi.settle()
    jobs = [job for task in people for job in nadi.jobs_of(task)]
    assert {(job["state"], job["reason"]) for job in jobs} == {
        ("failed", "The EHR refused the result: HTTP 400.")
    }

    nadi.nadi("jobs", "retry", *(job["id"] for job in jobs))
    nadi.settle()

    assert counted(nadi, people) == [1, 1]


def test_an_ehr_that_loses_identifiers_gets_each_result_and_none_twice(nadi: RunningNadi) -> None:
    with nadi.faulty_ehr(drop_elements=["Observation.identifier"]):
        people = serve(nadi)
        nadi.settle()

    tasks = {task: nadi.jobs_of(task)[0] for task in people}

    assert {job["business_status"] for job in tasks.values()} == {"delivered"}
    assert [_without_identifier(nadi, someone) for someone in people.values()] == [1] * PATIENTS


def _without_identifier(nadi: RunningNadi, someone: Person) -> int:
    """Count what a machine asserted about a patient."""
    return sum(
        "security" in each.get("meta", {})
        for each in nadi.ehr_search(f"Observation?patient={someone.id}&_count=100")
    )


def test_a_result_waits_while_the_ehr_wants_to_be_left_in_peace(nadi: RunningNadi) -> None:
    with nadi.faulty_ehr(down="503", retry_after_s=3):
        people = serve(nadi, 1)
        (task,) = people
        nadi.wait_for_status(task, "delivery-pending")
        wait_until(lambda: _attempts(nadi, task) >= 1, within_s=60, what="it was tried")
    nadi.settle()

    assert _attempts(nadi, task) <= 3, "Retry-After was honoured, not hammered against"
    assert counted(nadi, people) == [1]


def _attempts(nadi: RunningNadi, task_id: str) -> int:
    (row,) = nadi.rows(
        "select d.attempt from deliveries d join jobs j on j.id = d.job_id where j.event_id = :id",
        id=task_id,
    )
    return int(row["attempt"])


def test_an_operator_can_cancel_what_waits(nadi: RunningNadi) -> None:
    with nadi.faulty_ehr(down="close"):
        people = serve(nadi, 1)
        (task,) = people
        nadi.wait_for_status(task, "delivery-pending")
        (job,) = nadi.jobs_of(task)
        wait_until(
            lambda: nadi.nadi("jobs", "cancel", job["id"], check=False).returncode == 0,
            within_s=60,
            what="the job was cancelled",
        )
    nadi.settle()

    (job,) = nadi.jobs_of(task)
    assert (job["state"], job["business_status"]) == ("cancelled", "stopped-by-operator")
    assert counted(nadi, people) == [0]
    assert nadi.nadi("jobs", "cancel", job["id"], check=False).returncode == 1


def test_what_a_newer_version_replaced_is_not_delivered(nadi: RunningNadi) -> None:
    someone = person("fault")
    push_chart(nadi, *someone.chart(someone.consent()))
    with nadi.faulty_ehr(down="503", retry_after_s=0):
        (old,) = push_chart(nadi, versioned(someone.creatinine(9.9), 1))
        nadi.wait_for_status(old, "delivery-pending")
        (new,) = push_chart(nadi, versioned(someone.creatinine(0.9), 2))
        nadi.wait_for_status(new, "delivery-pending")
    nadi.settle()

    assert {job["business_status"] for job in nadi.jobs_of(old)} == {"superseded"}
    assert {job["business_status"] for job in nadi.jobs_of(new)} == {"delivered"}
    assert len(nadi.results_of(someone.id)) == 1


def test_the_log_holds_after_all_these_faults(nadi: RunningNadi) -> None:
    verified = nadi.nadi("audit", "verify", check=False)

    assert verified.returncode == 0, verified.stdout


def test_a_given_up_result_comes_home_once_when_an_operator_retries(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    settings = {"NADI_RETRY_BUDGET_S": "2", "NADI_RETRY_BASE_S": "0.2", "NADI_RETRY_MAX_S": "0.5"}
    folder = tmp_path_factory.mktemp("dead-letter") / "nadi"
    with running_nadi(folder, environment=settings) as nadi:
        with nadi.faulty_ehr(down="close"):
            people = serve(nadi, 2)
            nadi.settle()
            jobs = [job for task in people for job in nadi.jobs_of(task)]
            assert {(j["state"], j["business_status"]) for j in jobs} == {
                ("failed", "delivery-failed")
            }
        assert counted(nadi, people) == [0, 0]

        nadi.nadi("jobs", "retry", *(job["id"] for job in jobs))
        nadi.settle()

        assert statuses(nadi, people) == {"delivered"}
        assert counted(nadi, people) == [1, 1]
        assert nadi.duplicates() == 0
        again = nadi.nadi("jobs", "retry", jobs[0]["id"], check=False)
        assert again.returncode == 1, "what is delivered can't be retried"
        assert nadi.nadi("audit", "verify", check=False).returncode == 0
