"""The record of processing says what runs, and what the site file leaves open."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli.doctor_privacy import privacy_problems
from gateway.cli.main import app
from tests.commands import Run
from tests.installation import Installation, consent, creatinine, installation

COMMAND = ("privacy", "record")
PRIVACY = """
privacy:
  fiduciary: District Hospital, Nashik
  address: Trimbak Road
  officer: {name: Dr. K, email: dpo@h.example}
  outside_india: {ehr: "Rule 15, order of 1 March"}
  measures: ["Disks are encrypted"]
retention: {}
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("record") / "nadi"
    with installation(folder) as nadi:
        nadi.receive(consent("p1"), creatinine("p1"), creatinine("p2"))
    return folder


def apply(nadi: Installation, more: str) -> None:
    with nadi.store.write() as uow:
        uow.sites.apply(uow.sites.current().yaml + more, "test")


def test_what_the_site_file_leaves_open_is_listed(run: Run) -> None:
    told = json.loads(run("--json").stdout)

    assert [each.partition(":")[0] for each in told["missing"]] == [
        "`privacy`",
        "`retention`",
        "`witnesses`",
    ]


def test_each_route_is_an_activity_with_purpose_basis_and_categories(run: Run) -> None:
    told = json.loads(run("--json").stdout)

    activity = told["activities"][0]
    assert activity["route"] == "ckd-risk"
    assert activity["purpose"] == "TREAT"
    assert activity["purpose_in_words"] == "treatment of the patient"
    assert activity["source"] == (
        "each Observation of Creatinine in blood (2160-0 or 14682-9), sent by the stand-in EHR of "
        "the sandbox"
    )
    assert "s.6" in activity["basis"]
    assert "Creatinine in blood" in activity["categories"]
    assert (activity["done"], activity["refused"]) == (0, 1), "p2 never consented"
    assert told["patients_last_year"] == 2
    assert told["models"][0]["is_demonstration"]


def test_contacts_measures_and_transfers_come_from_the_site_file(
    run: Run, nadi: Installation
) -> None:
    apply(nadi, PRIVACY)

    told, page = json.loads(run("--json").stdout), run().stdout

    assert [each.partition(":")[0] for each in told["missing"]] == ["`witnesses`"]
    assert told["transfers_outside_india"] == (
        "the stand-in EHR of the sandbox (Rule 15, order of 1 March)"
    )
    assert "Disks are encrypted" in told["measures"]
    assert "Dr. K, dpo@h.example" in page
    assert "1095 days" in page


def test_what_holds_without_a_consent_is_told_with_its_ground_and_evidence(
    run: Run, nadi: Installation
) -> None:
    stated = """
consent:
  implicit:
    TREAT: {decision: permit, basis: legal-obligation, evidence: Order 7/2026 of the State}
"""
    with nadi.store.read() as uow:
        yaml = uow.sites.current().yaml
    with nadi.store.write() as uow:
        uow.sites.apply(re.sub(r",? *default: *deny", "", yaml) + stated, "test")

    [activity, *_] = json.loads(run("--json").stdout)["activities"]

    assert "a legal obligation; written in: Order 7/2026 of the State" in activity["basis"]


def test_emergencies_are_an_activity_of_their_own_with_basis_and_reviews(run: Run) -> None:
    told = json.loads(run("--json").stdout)

    *routes, emergencies = told["activities"]
    assert all("but in an emergency" in each["basis"] for each in routes)
    assert "s.7(f)" in emergencies["basis"]
    assert "within 72 hours" in emergencies["reviews"]
    assert "in the last year 0 uses" in emergencies["reviews"]
    assert "first-clinician" in emergencies["source"]
    assert "Activity: break-glass (emergencies)" in run().stdout


def test_a_retention_below_the_law_is_told_in_the_record(
    run: Run, nadi: Installation, tmp_path: Path
) -> None:
    apply(nadi, 'retention: {payloads: {days: 1, law: "because I say so"}}\n')

    [says] = json.loads(run("--json").stdout)["warnings"]

    assert "kept 1 days, less than the 365" in says
    assert "“because I say so”" in says
    run("--out", str(tmp_path / "r.html"))
    for text in (run().stdout, (tmp_path / "r.html").read_text()):
        assert "because I say so”" in text


@pytest.mark.parametrize("verb", ["validate", "plan", "apply"])
def test_a_retention_below_the_law_is_warned_of_before_it_is_in_force_and_by_doctor(
    nadi: Installation, tmp_path: Path, verb: str
) -> None:
    with nadi.store.read() as uow:
        yaml = uow.sites.current().yaml
    site = tmp_path / "site.yaml"
    site.write_text(yaml + 'retention: {payloads: {days: 1, law: "because I say so"}}\n')
    data = {"NADI_DATA_DIR": str(nadi.folder)}

    shown = CliRunner().invoke(app, ["site", verb, str(site)], env=data)

    assert "! retention: payloads are kept 1 days" in shown.output
    if verb == "apply":
        found = list(privacy_problems(nadi.site(), nadi.store, nadi.folder))
        [says] = [says for check, says, _ in found if check == "retention"]
        assert "“because I say so”" in says


@pytest.mark.parametrize("name", ["r.html", "r.md", "r.json"])
def test_every_form_names_the_same_activities(
    run: Run, nadi: Installation, tmp_path: Path, name: str
) -> None:
    apply(nadi, PRIVACY)

    run("--out", str(tmp_path / name))

    text = (tmp_path / name).read_text()
    for words in ("ckd-risk", "TREAT", "Creatinine in blood", "District Hospital, Nashik", "365"):
        assert words in text
    assert "Patient/p1" not in text


def test_another_ending_is_refused(run: Run, tmp_path: Path) -> None:
    assert ".html, .md or .json" in run("--out", str(tmp_path / "r.docx"), code=2).stderr
