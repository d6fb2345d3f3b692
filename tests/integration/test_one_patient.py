"""One patient through the whole of Nadi: with consent one result, without it none, and why."""

from typing import Any

import pytest

from gateway.core.fhir import parse_resource
from tests.factories import raw
from tests.people import Person, person, versioned
from tests.running import RESULT_SYSTEM, RunningNadi, push, push_chart, wait_until

pytestmark = pytest.mark.integration

DIGEST_SYSTEM = "https://nadi.health/fhir/sid/model-digest"


@pytest.fixture(scope="module")
def nadi(shared_nadi: RunningNadi) -> RunningNadi:
    return shared_nadi


def ask(nadi: RunningNadi, task_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read the Task of an event, and those of its jobs, as the EHR can."""
    with nadi.client() as client:
        task = client.get(f"/fhir/Task/{task_id}").json()
        outputs = [each["valueReference"]["reference"] for each in task.get("output", ())]
        return task, [client.get(f"/fhir/{reference}").json() for reference in outputs]


@pytest.fixture(scope="module")
def served(nadi: RunningNadi) -> tuple[Person, str]:
    """A consenting patient whose creatinine came twice, and its Task."""
    someone = person()
    push_chart(nadi, *someone.chart(someone.consent()))
    with nadi.client() as client:
        task = push(client, someone.creatinine())
        again = push(client, someone.creatinine())
    assert task == again
    nadi.settle()
    return someone, task


# --- one result, whole ----------------------------------------------------------------------


def test_a_consenting_patient_has_exactly_one_result(
    nadi: RunningNadi, served: tuple[Person, str]
) -> None:
    someone, task_id = served

    task, jobs = ask(nadi, task_id)

    assert len(nadi.results_of(someone.id)) == 1
    assert task["status"] == "completed"
    assert [job["businessStatus"]["text"] for job in jobs] == ["delivered"]


def test_the_result_is_valid_preliminary_and_says_that_a_machine_made_it(
    nadi: RunningNadi, served: tuple[Person, str]
) -> None:
    someone, _ = served

    (result,) = nadi.results_of(someone.id)

    assert parse_resource(raw(result)).content == result
    assert result["status"] == "preliminary"
    assert [each["code"] for each in result["meta"]["security"]] == ["AIAST"]
    (identifier,) = result["identifier"]
    assert identifier["system"] == RESULT_SYSTEM
    quantity = result["valueQuantity"]
    assert (quantity["system"], quantity["code"]) == ("http://unitsofmeasure.org", "{probability}")
    assert 0 <= quantity["value"] <= 1
    assert result["effectiveDateTime"] == someone.at.isoformat()
    assert "dataAbsentReason" not in result


def test_the_result_names_every_input_it_was_derived_from(
    nadi: RunningNadi, served: tuple[Person, str]
) -> None:
    someone, _ = served
    inputs = {f"Observation/{each['id']}" for each in [*someone.labs, someone.creatinine()]}

    (result,) = nadi.results_of(someone.id)

    assert {each["reference"] for each in result["derivedFrom"]} == inputs


def test_the_provenance_names_model_runtime_and_kernels(
    nadi: RunningNadi, served: tuple[Person, str]
) -> None:
    someone, _ = served
    digest = _digest(nadi)
    (result,) = nadi.results_of(someone.id)

    (provenance,) = nadi.ehr_search(f"Provenance?target=Observation/{result['id']}")

    assert parse_resource(raw(provenance))
    agents = {agent["type"]["coding"][0]["code"]: agent["who"] for agent in provenance["agent"]}
    assert agents["author"]["reference"] == result["device"]["reference"]
    runtime = agents["assembler"]["identifier"]["value"]
    assert runtime.startswith("onnxruntime/")
    assert len(runtime.split("/")) >= 3, "name, version and class of kernels"
    named = [entity["what"].get("identifier", {}) for entity in provenance["entity"]]
    assert {"system": DIGEST_SYSTEM, "value": digest} in named


def _digest(nadi: RunningNadi) -> str:
    (row,) = nadi.rows("select distinct model_digest from jobs where model_digest <> ''")
    return str(row["model_digest"])


def test_one_device_stands_for_one_model_over_many_results(
    nadi: RunningNadi, served: tuple[Person, str]
) -> None:
    people = [person() for _ in range(12)]
    for each in people:
        push_chart(nadi, *each.chart(each.consent()), each.creatinine())
    nadi.settle()

    devices = nadi.ehr_search(f"Device?identifier={DIGEST_SYSTEM}|")

    assert [each["identifier"][0]["value"] for each in devices] == [_digest(nadi)]
    assert parse_resource(raw(devices[0]))
    used = {
        result["device"]["reference"]
        for each in [served[0], *people]
        for result in nadi.results_of(each.id)
    }
    assert used == {f"Device/{devices[0]['id']}"}


# --- no consent, no result ------------------------------------------------------------------

REFUSALS = {
    "denied": "denies TREAT",
    "silent": "No consent on record applies",
    "expired": "has expired",
    "entered-in-error": "status entered-in-error",
    "of-somebody-else": "No consent on record applies",
    "for-research-only": "does not speak of purpose TREAT",
}


def _consents(case: str, someone: Person) -> list[dict[str, Any]]:
    provision = someone.consent()["provision"]
    ended = {**provision, "period": {"start": "2020-01-01", "end": "2021-01-01"}}
    research = {**provision, "purpose": [{**provision["purpose"][0], "code": "HRESCH"}]}
    return {
        "denied": [someone.consent("deny")],
        "silent": [],
        "expired": [someone.consent(provision=ended)],
        "entered-in-error": [someone.consent(status="entered-in-error")],
        "of-somebody-else": [someone.consent(patient={"reference": person().reference})],
        "for-research-only": [someone.consent(provision=research)],
    }[case]


@pytest.mark.parametrize("case", REFUSALS)
def test_without_a_consent_that_holds_nothing_is_written_and_the_task_says_why(
    nadi: RunningNadi, case: str
) -> None:
    someone = person(case)
    push_chart(nadi, *someone.chart(None), *_consents(case, someone))

    (task_id,) = push_chart(nadi, someone.creatinine())
    nadi.settle()

    task, (job,) = ask(nadi, task_id)
    explained = nadi.nadi("consent", "explain", task_id).stdout
    assert nadi.results_of(someone.id) == []
    assert (task["status"], task["businessStatus"]["text"]) == ("rejected", "consent-denied")
    assert REFUSALS[case] in job["statusReason"]["text"]
    assert REFUSALS[case] in explained
    assert "deny" in explained
    assert someone.id not in explained


# --- revocation -----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["inactive", "deny"])
def test_a_revocation_stops_what_is_queued(nadi: RunningNadi, way: str) -> None:
    someone = person("revokes")
    push_chart(nadi, *someone.chart(versioned(someone.consent(), 1)))
    revoked = {
        "inactive": someone.consent(status="inactive"),
        "deny": someone.consent("deny"),
    }[way]

    with nadi.frozen("infer"):
        (task_id,) = push_chart(nadi, someone.creatinine())
        assert {job["state"] for job in nadi.jobs_of(task_id)} == {"ready"}
        push_chart(nadi, versioned(revoked, 2))
        task, (job,) = ask(nadi, task_id)
    nadi.settle()

    assert (task["status"], task["businessStatus"]["text"]) == ("cancelled", "consent-withdrawn")
    assert job["statusReason"]["text"]
    assert nadi.results_of(someone.id) == []
    assert "cancel" in _steps(nadi, someone, task_id)


def test_a_revocation_stops_a_result_that_waits_for_the_ehr(nadi: RunningNadi) -> None:
    someone = person("revokes")
    push_chart(nadi, *someone.chart(versioned(someone.consent(), 1)))
    with nadi.faulty_ehr(down="503", retry_after_s=0):
        (task_id,) = push_chart(nadi, someone.creatinine())
        nadi.wait_for_status(task_id, "delivery-pending")
        push_chart(nadi, versioned(someone.consent(status="inactive"), 2))
    nadi.settle()

    task, _ = ask(nadi, task_id)

    assert (task["status"], task["businessStatus"]["text"]) == ("cancelled", "consent-withdrawn")
    assert nadi.results_of(someone.id) == []
    (delivery,) = nadi.rows(
        "select d.state from deliveries d join jobs j on j.id = d.job_id where j.event_id = :id",
        id=task_id,
    )
    assert delivery["state"] == "cancelled"
    steps = _steps(nadi, someone, task_id)
    assert steps[:3] == ["receive", "consent", "admit"]
    assert {"infer", "deliver", "cancel"} <= set(steps)


def _steps(nadi: RunningNadi, someone: Person, task_id: str) -> list[str]:
    """Read the steps of an event and its jobs out of the audit log."""
    assert someone.reference in nadi.nadi("audit", "list", "--patient", someone.reference).stdout
    rows = nadi.rows(
        "select event from audit_events where event_id = :id"
        " or job_id in (select id from jobs where event_id = :id) order by seq",
        id=task_id,
    )
    return [row["event"] for row in rows]


# --- what the EHR knows and was never pushed ------------------------------------------------


def test_what_was_not_pushed_is_fetched_from_the_ehr_and_used(nadi: RunningNadi) -> None:
    someone = person("fetched")
    nadi.store_in_ehr(someone.patient, *someone.labs)
    push_chart(nadi, someone.consent())

    (task_id,) = push_chart(nadi, someone.creatinine())
    nadi.settle()

    (result,) = nadi.results_of(someone.id)
    used = {each["reference"].partition("/_history/")[0] for each in result["derivedFrom"]}
    assert {f"Observation/{each['id']}" for each in someone.labs} <= used
    assert "fetch" in _steps(nadi, someone, task_id)


def test_a_job_waits_for_an_ehr_that_is_away_while_it_wants_to_ask_it(nadi: RunningNadi) -> None:
    someone = person("fetched")
    nadi.store_in_ehr(someone.patient, *someone.labs)
    push_chart(nadi, someone.consent())

    with nadi.faulty_ehr(down="close"):
        (task_id,) = push_chart(nadi, someone.creatinine())
        wait_until(
            lambda: any("tried again" in job["reason"] for job in nadi.jobs_of(task_id)),
            within_s=60,
            what="the job was put back",
        )
        assert {job["state"] for job in nadi.jobs_of(task_id)} <= {"ready", "in-progress"}
    nadi.settle()

    assert len(nadi.results_of(someone.id)) == 1


# --- versions -------------------------------------------------------------------------------


def test_a_corrected_value_takes_the_place_of_the_queued_one(nadi: RunningNadi) -> None:
    someone = person("corrected")
    push_chart(nadi, *someone.chart(someone.consent()))

    with nadi.frozen("infer"):
        (first,) = push_chart(nadi, versioned(someone.creatinine(9.9), 1))
        (second,) = push_chart(nadi, versioned(someone.creatinine(0.8), 2))
    nadi.settle()

    (result,) = nadi.results_of(someone.id)
    sources = {each["reference"] for each in result["derivedFrom"]}
    assert f"Observation/{someone.id}-creatinine/_history/2" in sources
    assert ask(nadi, first)[0]["businessStatus"]["text"] == "superseded"
    assert ask(nadi, second)[0]["businessStatus"]["text"] == "delivered"


def test_an_older_version_that_comes_late_changes_nothing(nadi: RunningNadi) -> None:
    someone = person("late")
    push_chart(nadi, *someone.chart(someone.consent()))
    push_chart(nadi, versioned(someone.creatinine(1.1), 3))
    nadi.settle()

    (late,) = push_chart(nadi, versioned(someone.creatinine(9.9), 2))
    nadi.settle()

    task, jobs = ask(nadi, late)
    assert (task["status"], task["businessStatus"]["text"]) == ("rejected", "superseded")
    assert jobs == []
    assert len(nadi.results_of(someone.id)) == 1


# --- at the end -----------------------------------------------------------------------------


def test_the_log_holds_after_all_this_and_nothing_is_there_twice(nadi: RunningNadi) -> None:
    nadi.settle()

    verified = nadi.nadi("audit", "verify", check=False)

    assert verified.returncode == 0, verified.stdout
    assert nadi.duplicates() == 0
