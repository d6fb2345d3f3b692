"""A running Nadi takes up an imported model at once, and stops a retired one from queue to EHR."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import IMPATIENT
from tests.packages import PUBLIC_KEY, files, sealed
from tests.people import Person, person
from tests.running import RunningNadi, push_chart, running_nadi

pytestmark = pytest.mark.integration

#: Processes look once a second; this machine may be busy.
LIVE_WITHIN_S = 4.0
WAITING = 12


@pytest.fixture(scope="module")
def nadi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNadi]:
    folder = tmp_path_factory.mktemp("retired") / "nadi"
    with running_nadi(folder, environment=IMPATIENT) as running:
        site = folder.parent / "site.yaml"
        rules = f'models:\n  signers:\n    - {{name: the-makers, key: "{PUBLIC_KEY}"}}\n'
        site.write_text(running.nadi("site", "show").stdout + rules)
        running.nadi("site", "apply", str(site))
        yield running


def served(nadi: RunningNadi, count: int = 1) -> dict[str, Person]:
    """Push so many patients with consent and creatinine; give them by their Task."""
    people = [person("retired") for _ in range(count)]
    return {push_chart(nadi, *each.chart(each.consent()), each.creatinine())[-1]: each
            for each in people}  # fmt: skip


def jobs_of(nadi: RunningNadi, people: dict[str, Person]) -> list[dict[str, object]]:
    return [job for task in people for job in nadi.jobs_of(task)]


def results_about(nadi: RunningNadi, people: dict[str, Person]) -> int:
    wanted = {each.reference for each in people.values()}
    return sum(each["subject"]["reference"] in wanted for each in nadi.results())


def digests(nadi: RunningNadi) -> dict[str, str]:
    rows = nadi.rows("select version, digest from models where name = 'ckd-risk'")
    return {row["version"]: row["digest"] for row in rows}


def model_of(nadi: RunningNadi) -> str:
    """Give the digest that a patient is served by who comes now."""
    people = served(nadi)
    (job,) = jobs_of(nadi, people)
    return str(job["model_digest"])


def cancelled(nadi: RunningNadi, people: dict[str, Person]) -> bool:
    """Say whether all their jobs were stopped, and nothing of them reached the EHR."""
    nadi.settle()
    ended = {(job["state"], job["business_status"]) for job in jobs_of(nadi, people)}
    return ended == {("cancelled", "model-retired")} and results_about(nadi, people) == 0


def inferred(nadi: RunningNadi, people: dict[str, Person]) -> bool:
    """Say whether a model read data of theirs."""
    asked = {
        row["job_id"] for row in nadi.rows("select job_id from audit_events where event = 'infer'")
    }
    return any(job["id"] in asked for job in jobs_of(nadi, people))


def test_an_imported_model_is_live_without_a_restart(nadi: RunningNadi, tmp_path: Path) -> None:
    assert model_of(nadi) == digests(nadi)["1.0.0"]

    nadi.nadi("models", "import", str(sealed(files(version="1.1.0"), tmp_path / "a.nadi.zip")))
    time.sleep(LIVE_WITHIN_S)
    newcomers = served(nadi, 3)
    nadi.settle()

    new = digests(nadi)["1.1.0"]
    assert {job["model_digest"] for job in jobs_of(nadi, newcomers)} == {new}
    assert results_about(nadi, newcomers) == 3
    assert any(new in str(device["identifier"]) for device in nadi.ehr_search("Device"))


def test_a_model_that_is_retired_stops_what_is_queued(nadi: RunningNadi) -> None:
    with nadi.frozen("infer"):
        queued = served(nadi, WAITING)
        told = nadi.nadi("models", "retire", "ckd-risk@1.1.0", "--reason", "Recalled.").stdout

    assert f"{WAITING} waiting jobs were stopped." in told
    assert "Route ckd-risk runs ckd-risk@1.0.0 from now on." in told
    assert cancelled(nadi, queued)
    assert not inferred(nadi, queued)
    time.sleep(LIVE_WITHIN_S)
    assert model_of(nadi) == digests(nadi)["1.0.0"]


def test_a_model_that_is_retired_stops_what_waits_for_the_ehr(nadi: RunningNadi) -> None:
    nadi.settle()
    with nadi.faulty_ehr(down="close"):
        computed = served(nadi, WAITING)
        for task in computed:
            nadi.wait_for_status(task, "delivery-pending")
        told = nadi.nadi("models", "retire", "ckd-risk@1.0.0", "--reason", "Recalled too.").stdout

    assert "Route ckd-risk has no model: its events are refused." in told
    assert inferred(nadi, computed)
    assert cancelled(nadi, computed)
    time.sleep(LIVE_WITHIN_S)
    assert results_about(nadi, computed) == 0


def test_nothing_is_admitted_for_a_retired_model_and_the_log_holds(nadi: RunningNadi) -> None:
    late = served(nadi)

    assert {job["business_status"] for job in jobs_of(nadi, late)} == {"model-unavailable"}
    assert "ckd-risk" not in nadi.nadi("models", "list").stdout
    nadi.wait_until_integrated()
    verified = nadi.nadi("audit", "verify", check=False)
    assert verified.returncode == 0, verified.stdout
