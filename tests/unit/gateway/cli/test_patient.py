"""What is held of a patient, erased and kept, on the command line."""

import json
import shutil
from pathlib import Path

import pytest

from gateway.cli.doctor_privacy import privacy_problems
from tests.commands import Run
from tests.installation import Installation, consent, creatinine, installation

GROUND = ("--reason", "She asked for it.", "--law", "DPDP Act 2023, s.12(3)")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("patients") / "nadi"
    with installation(folder) as nadi:
        nadi.receive(consent("p1"), creatinine("p1"), creatinine("p2"))
        nadi.receive_bundle(creatinine("p1", 2), creatinine("p2", 2))
        nadi.integrate()
    return folder


def test_what_is_held_is_counted_and_the_look_is_on_record(run: Run) -> None:
    told = json.loads(run("patient", "held", "Patient/p1", "--json").stdout)

    assert told["rows"] == {
        "events": 3,
        "deliveries": 0,
        "consents": 0,
        "jobs": 2,
        "submissions": 1,
    }
    assert told["types"] == {"Consent": 1, "Observation": 2}
    trail = json.loads(run("audit", "list", "--patient", "Patient/p1", "--json").stdout)
    assert trail[-1]["subtype"][-1]["code"] == "query"


def test_an_erasure_says_what_goes_and_what_stays_and_is_verified(run: Run) -> None:
    shown = run("patient", "erase", "Patient/p1", *GROUND, "--yes").stdout

    assert "2 Observation" in shown
    assert "audit log" in shown
    assert "3 events, 1 submissions" in shown
    assert "are in none" in shown
    assert "Backups from before today" in shown
    assert json.loads(run("audit", "verify", "--json").stdout)["findings"] == []


def test_of_whom_only_a_consent_was_recorded_it_is_held_named_and_erased(run: Run) -> None:
    who = ("--patient", "Patient/p9", "--how", "verbal")
    run("consent", "record", "deny", *who)
    run("consent", "record", "ai-opt-out", *who)

    told = json.loads(run("patient", "held", "Patient/p9", "--json").stdout)
    run("rights", "add", "Patient/p9", "--kind", "erasure")
    assert told["rows"]["consents"] == 2
    assert "Patient/p9" in run("rights", "list").stdout

    shown = run("patient", "erase", "Patient/p9", *GROUND, "--yes").stdout

    assert "recorded by staff, or imported" in shown
    assert "nobody opens again: 2." in shown
    after = json.loads(run("patient", "held", "Patient/p9", "--json").stdout)
    assert after["rows"]["consents"] == 0
    assert json.loads(run("audit", "verify", "--json").stdout)["findings"] == []


def test_who_asked_for_a_copy_is_to_get_it_before_an_erasure(run: Run) -> None:
    run("rights", "add", "Patient/p1", "--kind", "access")
    [asked] = json.loads(run("rights", "list", "--json").stdout)
    run("rights", "add", "Patient/p1", "--kind", "erasure")

    warned = run("patient", "erase", "Patient/p1", *GROUND, code=2).stderr
    done = run("patient", "erase", "Patient/p1", *GROUND, "--yes", "--json")
    other = run("patient", "erase", "Patient/p2", *GROUND, "--yes")

    assert asked["id"] in warned
    assert "nadi patient export Patient/p1" in warned
    assert asked["id"] in done.stderr
    assert json.loads(done.stdout)["erasure"]
    assert other.stderr == ""


def test_nobody_is_erased_unasked_or_twice(run: Run) -> None:
    assert "--yes" in run("patient", "erase", "Patient/p1", *GROUND, code=2).stderr
    run("patient", "erase", "Patient/p1", *GROUND, "--yes")

    again = run("patient", "erase", "Patient/p1", *GROUND, "--yes", code=1)

    assert "erased already" in again.stderr
    assert json.loads(run("patient", "held", "Patient/p1", "--json").stdout)["erased_at"]


def test_every_other_command_says_erased_and_none_breaks(run: Run) -> None:
    run("patient", "erase", "Patient/p1", *GROUND, "--yes")

    run("audit", "list", "--patient", "Patient/p1")
    run("audit", "patient", "Patient/p1")
    run("jobs", "list")
    explained = run("consent", "explain", "--patient", "Patient/p1", "--purpose", "TREAT")
    assert "not permitted" in explained.stdout


def test_a_hold_keeps_everything_until_it_is_lifted(run: Run) -> None:
    run("patient", "hold", "Patient/p1", "--reason", "Case pending.", "--law", "Order 12/2026")

    refused = run("patient", "erase", "Patient/p1", *GROUND, "--yes", code=1)
    assert "legal hold" in refused.stderr
    assert "Order 12/2026" in run("patient", "holds").stdout
    run("patient", "hold", "Patient/p1", "--reason", "x", "--law", "y", code=1)
    run("patient", "lift", "Patient/p1", "--reason", "Case closed.")
    run("patient", "lift", "Patient/p1", "--reason", "Case closed.", code=1)
    run("patient", "erase", "Patient/p1", *GROUND, "--yes")
    assert json.loads(run("audit", "verify", "--json").stdout)["findings"] == []
    assert json.loads(run("patient", "holds", "--json").stdout) == []


def test_the_plan_says_what_is_due_and_that_nothing_is_in_force(run: Run) -> None:
    shown = run("retention", "plan").stdout
    told = json.loads(run("retention", "plan", "--json").stdout)

    assert "never removed" in shown
    assert "no `retention`" in shown
    assert not told["in_force"]
    assert {each["class"]: each["due"] for each in told["classes"]} == {
        "payloads": 0,
        "consents": 0,
        "results": 0,
        "undelivered": 0,
    }
    assert "no `retention`" in run("retention", "run", "--yes", code=1).stderr


def test_a_run_says_what_it_removed(run: Run, nadi: Installation) -> None:
    with nadi.store.write() as uow:
        uow.sites.apply(uow.sites.current().yaml + "\nretention: {}\n", "test")

    assert "nothing was due" in run("retention", "run", "--yes").stdout


def test_what_wrong_data_led_to_is_shown_and_then_stopped(run: Run) -> None:
    wrong = ("rectify", "Patient/p1", "--resource", "Observation/p1-creatinine-1")
    ground = ("--reason", "The sample was mixed up.", "--law", "DPDP Act 2023, s.12(2)")

    shown = run("patient", *wrong, *ground, "--dry-run").stdout
    told = json.loads(run("patient", *wrong, *ground, "--json").stdout)

    assert "ckd-risk@1" in shown
    assert (told["stopped"], told["to_be_marked"], told["is_corrected"]) == (1, 0, False)
    assert "No corrected version" in run("patient", *wrong, *ground).stdout
    assert json.loads(run("audit", "verify", "--json").stdout)["findings"] == []


def test_a_resource_of_somebody_else_is_not_rectified(run: Run) -> None:
    wrong = ("rectify", "Patient/p2", "--resource", "Observation/p1-creatinine-1")

    refused = run("patient", *wrong, *GROUND, code=1)

    assert "another patient" in refused.stderr


def test_a_backup_that_is_put_back_brings_nobody_back_unseen(
    run: Run, nadi: Installation, tmp_path: Path
) -> None:
    nadi.store.close()
    shutil.copy(nadi.folder / "nadi.db", tmp_path / "backup.db")
    run("consent", "record", "ai-opt-out", "--patient", "Patient/p1", "--how", "verbal")
    run("patient", "erase", "Patient/p1", *GROUND, "--yes")
    for path in nadi.folder.glob("nadi.db*"):
        path.unlink()
    shutil.copy(tmp_path / "backup.db", nadi.folder / "nadi.db")
    assert json.loads(run("patient", "held", "Patient/p1", "--json").stdout)["rows"]["events"] == 3

    with nadi.store.read() as uow:
        [(check, says, is_fault)] = [
            each
            for each in privacy_problems(nadi.site(), nadi.store, nadi.folder)
            if "are back" in each[1]
        ]
        assert uow.erasures.mark()[0] == 0
    done = run("patient", "erase-restored", "--yes").stdout

    assert (check, says.partition(" ")[0], is_fault) == ("erased patients", "1", True)
    assert "1 patients were erased again" in done
    assert json.loads(run("patient", "held", "Patient/p1", "--json").stdout)["erased_at"]
    assert "0 patients" in run("patient", "erase-restored").stdout
    with nadi.store.read() as uow:
        [tombstone] = uow.erasures.find(
            [nadi.store.sealer.patient_key("ehr", "Patient/p1")]
        ).values()
    assert tombstone.refused_ai, "she refused after the backup was made"


def test_requests_are_due_and_closed(run: Run) -> None:
    added = run("rights", "add", "Patient/p1", "--kind", "erasure", "--received", "2026-11-01")
    assert "due on 2027-01-30" in added.stdout
    run("rights", "add", "Patient/p2", "--kind", "grievance", "--received", "2026-01-01")

    shown = run("rights", "list", code=1).stdout
    told = json.loads(run("rights", "list", "--json", code=1).stdout)

    assert "overdue" in shown
    assert [each["is_overdue"] for each in told] == [True, False]
    run("rights", "close", told[0]["id"], "--outcome", "Answered by letter.")
    run("rights", "close", told[0]["id"], "--outcome", "Again.", code=1)
    run("rights", "close", "no-such-id", "--outcome", "x", code=1)
    assert len(json.loads(run("rights", "list", "--json").stdout)) == 1
    assert "Answered by letter." in run("rights", "list", "--all").stdout
    assert json.loads(run("audit", "verify", "--json").stdout)["findings"] == []


EMPTY = {
    "erasure": ("patient", "erase", "Patient/p1", "--yes", "--reason", " ", "--law", "s.12"),
    "its law": ("patient", "erase", "Patient/p1", "--yes", "--reason", "She asked.", "--law", ""),
    "hold": ("patient", "hold", "Patient/p1", "--reason", "", "--law", "Order 1"),
    "lift": ("patient", "lift", "Patient/p1", "--reason", ""),
    "answer": ("rights", "close", "any", "--outcome", ""),
}


@pytest.mark.parametrize("words", EMPTY.values(), ids=EMPTY.keys())
def test_nothing_of_weight_is_done_for_an_empty_reason(run: Run, words: tuple[str, ...]) -> None:
    says = run(*words, code=2).stderr

    assert "it is empty" in says
    assert json.loads(run("patient", "held", "Patient/p1", "--json").stdout)["rows"]["events"] == 3
