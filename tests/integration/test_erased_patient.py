"""A patient is erased while everything runs: no process gives anything of hers afterwards."""

import json

import pytest

from tests.people import Person, person
from tests.running import RunningNadi, push_chart, wait_until

pytestmark = pytest.mark.integration

GROUND = ("--reason", "She asked for it.", "--law", "DPDP Act 2023, s.12(3)", "--yes", "--json")
NOTICED_WITHIN_S = 60


@pytest.fixture(scope="module")
def nadi(shared_nadi: RunningNadi) -> RunningNadi:
    return shared_nadi


def served(nadi: RunningNadi) -> tuple[Person, str]:
    """Push a patient with consent and creatinine; give her and the Task of her event."""
    her = person("erased")
    return her, push_chart(nadi, *her.chart(her.consent()), her.creatinine())[-1]


def erase(nadi: RunningNadi, her: Person) -> dict[str, object]:
    return json.loads(nadi.nadi("patient", "erase", her.reference, *GROUND).stdout)


@pytest.mark.sqlite
def test_no_process_gives_anything_of_hers_afterwards(nadi: RunningNadi) -> None:
    her, task = served(nadi)
    other, _ = served(nadi)
    nadi.settle()
    with nadi.client("clinician") as clinician, nadi.client() as ehr:
        found = clinician.get("/fhir/Observation", params={"patient": her.reference})
        assert found.json()["entry"], "the API has opened her key"
        [wrapped] = nadi.rows(
            "select wrapped_key from patient_keys where patient_key = "
            "(select patient_key from jobs where event_id = :id)",
            id=task,
        )

        told = erase(nadi, her)

        gone = clinician.get("/fhir/Observation", params={"patient": her.reference})
        assert (gone.status_code, gone.json()["issue"][0]["code"]) == (410, "deleted")
        there = clinician.get("/fhir/Observation", params={"patient": other.reference})
        assert there.json()["entry"]
        shown = ehr.get(f"/fhir/Task/{task}")
        assert shown.status_code == 200
        assert "erased" in shown.json()["statusReason"]["text"]
        again = ehr.put(
            f"/fhir/Observation/{her.creatinine()['id']}",
            json=her.creatinine(),
            headers={"Content-Type": "application/fhir+json"},
        )
        assert (again.status_code, again.json()["issue"][0]["code"]) == (422, "business-rule")

    assert told["key_trace"] == "none"
    files = [path for path in nadi.folder.iterdir() if path.name.startswith("nadi.db")]
    assert not any(wrapped["wrapped_key"] in path.read_bytes() for path in files)
    verified = nadi.nadi("audit", "verify", "--json")
    assert json.loads(verified.stdout)["findings"] == []


def test_every_process_lets_go_of_opened_keys(nadi: RunningNadi) -> None:
    her, _ = served(nadi)
    nadi.settle()
    before = forgotten(nadi)

    erase(nadi, her)

    def each_has() -> bool:
        after = forgotten(nadi)
        return all(after[name] > count for name, count in before.items())

    wait_until(each_has, within_s=NOTICED_WITHIN_S, what="api and workers forget opened keys")


def forgotten(nadi: RunningNadi) -> dict[str, int]:
    """Count how often each process said that it let go of opened keys."""
    return {
        name: (nadi.folder / "logs" / f"{name}.log").read_text("utf-8").count("keys-forgotten")
        for name in ("api", "infer", "deliver")
    }


def test_a_result_that_waits_for_the_ehr_is_never_written(nadi: RunningNadi) -> None:
    with nadi.faulty_ehr(down="close"):
        her, task = served(nadi)
        nadi.wait_for_status(task, "delivery-pending")
        told = erase(nadi, her)

    nadi.settle()

    assert told["jobs_stopped"] == 1
    [job] = nadi.jobs_of(task)
    assert (job["state"], job["business_status"]) == ("cancelled", "erased")
    assert nadi.results_of(her.reference.partition("/")[2]) == []


def test_a_result_that_is_being_written_arrives_before_she_is_erased(nadi: RunningNadi) -> None:
    with nadi.faulty_ehr(slow_ms=1500):
        her, task = served(nadi)
        wait_until(
            lambda: bool(nadi.rows(_FLYING, id=task)), within_s=60, what="the result is on its way"
        )
        told = erase(nadi, her)

    [job] = nadi.jobs_of(task)
    assert (told["jobs_stopped"], job["business_status"]) == (0, "delivered")
    assert len(nadi.results_of(her.reference.partition("/")[2])) == 1
    verified = nadi.nadi("audit", "verify", "--json")
    assert json.loads(verified.stdout)["findings"] == []


_FLYING = (
    "select 1 from deliveries where state = 'in-flight' "
    "and job_id in (select id from jobs where event_id = :id)"
)
