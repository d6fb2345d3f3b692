"""`nadi audit report`: a patient's own report as HTML and as PDF, and what is on record of it."""

import json
import re
from pathlib import Path

import pytest

from gateway.store.audit_log import AuditFilter
from tests.commands import Run
from tests.installation import Installation, consent, creatinine, installation

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
