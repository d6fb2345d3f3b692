"""The questions of a compliance officer on the command line."""

import json
import re
from pathlib import Path

import pytest
from click.testing import Result

from gateway.store.audit_log import AuditFilter
from tests.commands import Run
from tests.installation import Installation, consent, creatinine, installation

HOURS = """
hours:
  timezone: Asia/Kolkata
  days: [mon]
  start: "03:00"
  end: "03:01"
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked") / "nadi"
    with installation(folder) as nadi:
        nadi.receive(consent("p1"), creatinine("p1"), creatinine("p2"))
    return folder


def rows(done: Result) -> list[dict[str, object]]:
    return json.loads(done.stdout)["rows"]


def test_a_patients_trail_is_shown_in_order(run: Run) -> None:
    shown = run("audit", "patient", "Patient/p1").stdout
    told = rows(run("audit", "patient", "Patient/p1", "--json"))

    assert [row["event"] for row in told][:4] == ["receive", "receive", "consent", "admit"]
    assert shown.index("TREAT permitted on arrival") < shown.index("queued, route ckd-risk")


def test_who_saw_a_record_or_one_resource_is_shown(run: Run) -> None:
    assert "sent it" in run("audit", "who", "Patient/p1").stdout
    assert "the EHR" in run("audit", "who", "Observation/p1-creatinine-1").stdout
    gone = run("audit", "who", "Observation/nowhere", code=1)
    assert "never received" in gone.stderr


def test_a_consent_taken_back_is_told_with_what_it_was_and_hashes_are_short(run: Run) -> None:
    opt_out = ("consent", "record", "ai-opt-out", "--patient", "Patient/p1", "--how", "paper")
    made = json.loads(run(*opt_out, "--json").stdout)
    run("consent", "revoke", made["id"], "--reason", "The ward said so.")

    shown = run("audit", "patient", "Patient/p1").stdout

    assert "refusal of AI recorded, paper" in shown
    assert "refusal of AI taken back" in shown
    assert not re.search("[0-9a-f]{64}", shown)
    told = rows(run("audit", "patient", "Patient/p1", "--json"))
    [recorded] = [row for row in told if row["event"] == "consent-record"]
    assert re.fullmatch("[0-9a-f]{64}", recorded["facts"]["sha256"])


def test_refusals_are_counted_and_the_newest_are_shown(run: Run) -> None:
    shown = run("audit", "refusals").stdout

    assert "No consent on record applies" in shown
    assert "Patient/p2" in shown


def test_a_long_answer_says_that_there_is_more(run: Run) -> None:
    assert "1 lines; there are more" in run("audit", "refusals", "--limit", "1").stdout


def test_a_model_without_its_version_is_wrong_usage(run: Run) -> None:
    assert "MODEL@VERSION" in run("audit", "results", "ckd-risk", code=2).stderr
    assert "nothing is on record" in run("audit", "results", "ckd-risk@1.0.0").stdout


def test_what_a_site_file_changed_is_shown(nadi: Installation, run: Run, tmp_path: Path) -> None:
    with nadi.store.read() as uow:
        text = uow.sites.get(1).yaml
    changed = tmp_path / "site.yaml"
    changed.write_text(text.replace("default: deny", "default: permit"))
    run("site", "apply", str(changed))

    newest, *_ = rows(run("audit", "configuration", "--json"))

    assert [(each["before"], each["after"]) for each in newest["changes"]] == [("deny", "permit")]
    assert "deny → permit" in run("audit", "configuration").stdout


def test_a_credential_is_told_by_its_name(run: Run) -> None:
    run("access", "add", "dr-rao", "--role", "clinician")

    newest, *_ = rows(run("audit", "configuration", "--json"))

    assert newest["what"] == "credential added, role clinician: dr-rao"


def test_out_of_hours_needs_the_hours_of_the_site(
    nadi: Installation, run: Run, tmp_path: Path
) -> None:
    with nadi.store.read() as uow:
        text, _, _ = uow.sites.get(1).yaml.partition("# For `nadi audit out-of-hours`.")
    changed = tmp_path / "site.yaml"
    changed.write_text(text)
    run("site", "apply", str(changed))
    assert "'hours'" in run("audit", "out-of-hours", code=1).stderr
    changed.write_text(text + HOURS)
    run("site", "apply", str(changed))

    run("audit", "disclosures", "Patient/p1")

    told = rows(run("audit", "out-of-hours", "--json"))
    assert "query" in [row["event"] for row in told]
    assert "the audit log" in run("audit", "out-of-hours").stdout


def test_a_disclosure_names_who_got_what_and_why(run: Run) -> None:
    run("audit", "patient", "Patient/p1")

    [row] = rows(run("audit", "disclosures", "Patient/p1", "--json"))

    assert row["what"] == "the audit log"
    assert row["why"] == "asked for it as compliance"


def test_asking_is_on_record_for_each_patient_in_the_answer(nadi: Installation, run: Run) -> None:
    run("audit", "refusals")
    run("audit", "break-glass")

    with nadi.store.read() as uow:
        asked = uow.audit_log.search(AuditFilter(event="query"))
    assert [row.patient_key is None for row in asked] == [True, False]
