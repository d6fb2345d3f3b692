"""`nadi audit report`: a patient's own report as HTML and as PDF, and what is on record of it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.core.principal import Role
from gateway.store.audit_log import AuditFilter
from gateway.store.erasing import Order, erase
from tests.commands import Run
from tests.installation import Installation, consent, creatinine, installation
from tests.registered import ACTOR
from tests.unit.gateway.api.test_page_pdf import on_paper

COMMAND = ("audit", "report")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reported") / "nadi"
    with installation(folder) as nadi:
        nadi.receive(consent("p1", rule="deny"), creatinine("p1"), creatinine("p2"))
    return folder


def test_the_page_says_what_came_what_was_refused_and_why(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "report.html"

    run("Patient/p1", "--html", str(page))

    told = page.read_text()
    assert "Patient/p1" in told
    assert "1 Consent, 1 Observation" in told
    assert "your consent: denies" in told
    assert "p2" not in told
    assert page.stat().st_mode & 0o077 == 0


def test_the_pdf_is_a_pdf_of_its_own(run: Run, tmp_path: Path) -> None:
    paper = tmp_path / "report.pdf"

    run("p1", "--pdf", str(paper))

    assert paper.read_bytes().startswith(b"%PDF-")
    assert paper.read_bytes().rstrip().endswith(b"%%EOF")


def test_the_making_of_a_report_is_on_record(nadi: Installation, run: Run, tmp_path: Path) -> None:
    run("Patient/p1", "--html", str(tmp_path / "r.html"))

    with nadi.store.read() as uow:
        [row] = uow.audit_log.search(AuditFilter(event="query"))
    assert row.patient_key == nadi.store.sealer.patient_key("ehr", "Patient/p1")


def test_the_report_for_machines_says_what_came_and_what_was_refused(run: Run) -> None:
    told = json.loads(run("Patient/p1", "--json").stdout)

    assert told["patient"] == "Patient/p1"
    assert told["sent"][0]["what"] == "1 Consent, 1 Observation"
    assert [run["says"] for run in told["runs"]] == [""]
    assert "denies" in told["runs"][0]["why_not"]


def test_a_report_has_no_word_of_a_machine_and_every_time_its_zone(
    run: Run, tmp_path: Path
) -> None:
    run("Patient/p1", "--json")

    run("Patient/p1", "--html", str(tmp_path / "r.html"))

    told = (tmp_path / "r.html").read_text()
    assert "a compliance officer" in told
    assert "Chronic kidney disease" in told
    for word in ("first-", "os-user", "ckd-risk@", "TREAT", "route"):
        assert word not in told
    assert re.search(r"\d\d:\d\d IST", told)
    assert not re.search(r"\d\d:\d\d(?! IST)", told.partition("</style>")[2])


def test_a_report_about_nobody_or_to_nowhere_is_refused(run: Run, tmp_path: Path) -> None:
    assert "--html FILE" in run("Patient/p1", code=2).stderr
    unknown = run("Patient/nobody", "--html", str(tmp_path / "r.html"), code=1)
    assert "Nothing was ever received" in unknown.stderr
    nowhere = run("Patient/p1", "--html", str(tmp_path / "none" / "r.html"), code=1)
    assert "can't be written" in nowhere.stderr


def nadi_says(folder: Path, *words: str, **env: str) -> str:
    """Run another command of `nadi` on the installation; give what it prints."""
    done = CliRunner().invoke(app, words, env={"NADI_DATA_DIR": str(folder), **env})
    assert not done.exception or isinstance(done.exception, SystemExit), done.output
    return done.output


def said(run: Run) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("Patient/p1", "--json").stdout)["said"]
    return found


def test_she_reads_what_she_said_and_who_took_her_refusal_back(
    nadi: Installation, run: Run, tmp_path: Path
) -> None:
    refused = ("record", "ai-opt-out", "--patient", "Patient/p1", "--how", "verbal", "--json")
    made = json.loads(nadi_says(nadi.folder, "consent", *refused))
    nadi_says(nadi.folder, "consent", "revoke", made["id"], "--reason", "The ward said so.")
    nadi.receive(consent("p1", rule="permit", version="2"))

    first, refusal, second = said(run)

    assert (first["what"], first["ended"]) == ("You refused: any use", "replaced")
    assert (second["what"], second["ended"]) == ("You permitted: any use", "")
    assert first["ended_at"] == second["at"], "the version that replaced it"
    assert refusal["what"] == "You refused that AI uses your data"
    assert (refusal["ended"], refusal["why"]) == ("taken back", "The ward said so.")
    assert refusal["ended_by"] == "a compliance officer"
    run("Patient/p1", "--html", str(tmp_path / "r.html"), "--pdf", str(tmp_path / "r.pdf"))
    told = (tmp_path / "r.html").read_text()
    assert "What you permitted and refused" in told
    assert "said aloud" in told
    assert re.search(r"taken back on .* by a compliance officer: The ward said so\.", told)
    for word in ("ai-opt-out", "os-user", "consent-revoke", made["id"]):
        assert word not in told


def test_the_report_of_a_minor_names_the_guardian_who_consented(
    nadi: Installation, run: Run, tmp_path: Path
) -> None:
    permit = ("record", "permit", "--patient", "Patient/p1", "--how", "paper", "--purpose", "TREAT")
    guardian = ("--guardian", "Mira Rao", "--verified-by", "passport seen")
    notice = ("--notice", "2026-1", "--language", "hi")
    nadi_says(nadi.folder, "consent", *permit, *notice, *guardian)
    pushed = consent("p1", rule="permit", version="2")
    nadi.receive(pushed | {"performer": [{"display": "Jon Rao, father"}]})

    run("Patient/p1", "--html", str(tmp_path / "r.html"), "--pdf", str(tmp_path / "r.pdf"))

    told = [each["giver"] for each in said(run)]
    assert told == [
        "",
        "Said for you by your guardian Mira Rao (verified by: passport seen).",
        "Said for you by Jon Rao, father.",
    ]
    page = (tmp_path / "r.html").read_text()
    for sentence in filter(None, told):
        assert sentence in page
    assert "Mira" in on_paper((tmp_path / "r.pdf").read_bytes())


def test_what_is_yet_to_begin_and_what_can_not_be_relied_on_are_told_as_that(
    nadi: Installation, run: Run, tmp_path: Path
) -> None:
    later = ("--from", "2099-01-01", "--until", "2099-02-01")
    deny = ("record", "deny", "--patient", "Patient/p1", "--purpose", "HRESCH", "--how", "verbal")
    nadi_says(nadi.folder, "consent", *deny, *later)
    unclear = {"type": "permit", "provision": [{"period": {"end": "2098"}}]}
    nadi.receive(consent("p1", rule="permit", version="2") | {"provision": unclear})

    run("Patient/p1", "--html", str(tmp_path / "r.html"))

    page = (tmp_path / "r.html").read_text()
    assert "begins on 1 Jan 2099" in page
    assert "it counts as a refusal of any use" in page
    assert "You permitted" not in page


def test_after_an_erasure_she_reads_that_her_refusal_was_kept_and_then_lifted(
    nadi: Installation, run: Run
) -> None:
    opt_out = ("record", "ai-opt-out", "--patient", "Patient/p1", "--how", "paper")
    nadi_says(nadi.folder, "consent", *opt_out)
    with nadi.store.write() as uow:
        key = uow.sealer.patient_key("ehr", "Patient/p1")
        erase(uow, Order(patient_key=key, reason="She asked.", law="s.12"), set(), ACTOR)
        (left,) = uow.erasures.find([key]).values()

    pushed, recorded, kept = said(run)

    assert pushed["what"] == "What it said is no longer kept"
    assert recorded["what"] == "You refused that AI uses your data"
    assert {pushed["ended"], recorded["ended"]} == {"erased with your data"}
    assert "kept when your data was erased" in kept["what"]
    assert kept["ended"] == ""
    assert [each["is_known"] for each in (pushed, recorded, kept)] == [False, False, True]
    assert left.refused_ai


def test_an_emergency_use_that_was_refused_stands_in_every_section(
    nadi: Installation, run: Run, tmp_path: Path
) -> None:
    token = emergency_of(nadi, tmp_path)
    opt_out = ("record", "ai-opt-out", "--patient", "Patient/p1", "--how", "paper")
    nadi_says(nadi.folder, "consent", *opt_out)
    asked = ("run", "Patient/p1", "--route", "ckd-risk", "--reason", "Unconscious")
    nadi_says(nadi.folder, "break-glass", *asked, NADI_CREDENTIAL_FILE=str(token))

    told = json.loads(run("Patient/p1", "--json").stdout)

    assert [each["who"] for each in told["attempts"]] == ["dr-rao, a clinician"]
    assert "refuse" in told["attempts"][0]["why_not"]
    run("Patient/p1", "--html", str(tmp_path / "r.html"))
    page = (tmp_path / "r.html").read_text()
    assert "emergency use, asked for by dr-rao, a clinician" in page
    assert "tried to use it in an emergency without your consent, in vain" in page
    assert "Nothing was refused" not in page


def emergency_of(nadi: Installation, tmp_path: Path) -> Path:
    """Let dr-rao break the glass; give the file with her token."""
    with nadi.store.write() as uow:
        _, token = uow.credentials.add("dr-rao", Role.CLINICIAN)
        current = uow.sites.current()
    assert current is not None
    site = tmp_path / "site.yaml"
    site.write_text(current.yaml.replace("[first-clinician]", "[dr-rao]"))
    nadi_says(nadi.folder, "site", "apply", str(site), "--force")
    (tmp_path / "dr-rao.token").write_text(token)
    return tmp_path / "dr-rao.token"
