"""The bundle of an incident: complete, signed, verifiable offline, and without a patient's name."""

import base64
import hashlib
import json
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from gateway.core.consent.local import LocalConsent
from gateway.core.ledger import read_verifier_key
from gateway.store.consenting import record
from tests.commands import Run
from tests.installation import Installation, consent, creatinine, installation
from tests.registered import ACTOR

COMMAND = ("audit", "incident")
SINCE = ("--since", "2026-01-01", "--detected-at", "2026-01-02")
STATED = """
incident: 2026-004
nature: A tablet was lost.
measures: [It was blocked.]
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("incident") / "nadi"
    with installation(folder) as nadi:
        nadi.receive(consent("p1"), creatinine("p1"), creatinine("p2"))
        nadi.integrate()
    return folder


def test_every_file_is_there_and_the_manifest_is_signed(
    run: Run, nadi: Installation, tmp_path: Path
) -> None:
    run(*SINCE, "--out", str(tmp_path / "i"))

    folder = tmp_path / "i"
    manifest = (folder / "MANIFEST").read_text()
    for line in manifest.splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert len(manifest.splitlines()) == len(list(folder.iterdir())) - 2
    name, key = read_verifier_key(nadi.keys.verifier)
    text, _, signature = (folder / "MANIFEST.note").read_text().partition("\n\n")
    _, signer, encoded = signature.split()
    key.verify(base64.b64decode(encoded)[4:], f"{text}\n".encode())
    assert signer == name
    assert hashlib.sha256(manifest.encode()).hexdigest() in text


def test_the_evidence_verifies_with_nothing_but_what_is_in_the_bundle(
    run: Run, tmp_path: Path
) -> None:
    run(*SINCE, "--out", str(tmp_path / "i"))

    done = subprocess.run(
        [sys.executable, "verify_receipt.py", "evidence.ndjson", "--key", "audit.pub"],
        cwd=tmp_path / "i",
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, "HOLDS" in done.stdout) == (0, True), done.stdout + done.stderr


def test_the_bundle_names_no_patient_and_the_list_beside_it_does(run: Run, tmp_path: Path) -> None:
    run(*SINCE, "--out", str(tmp_path / "i"))

    for path in (tmp_path / "i").iterdir():
        assert b"Patient/p1" not in path.read_bytes(), path.name
    names = tmp_path / "i.patients.csv"
    assert "Patient/p1" in names.read_text()
    assert stat.S_IMODE(names.stat().st_mode) == 0o600


def test_the_gateways_own_registrations_are_no_part_of_it_and_an_early_detection_is_asked_about(
    run: Run, tmp_path: Path
) -> None:
    told = run(*SINCE, "--out", str(tmp_path / "i")).stdout

    made = json.loads((tmp_path / "i" / "incident.json").read_text())
    assert {"keys", "model"}.isdisjoint(row["event"] for row in made["timeline"])
    assert "receive" in [row["event"] for row in made["timeline"]]
    assert "before the first step on record" in made["doubt"]
    assert "Somebody became aware before the first step on record" in told


def test_a_zip_holds_the_same(run: Run, tmp_path: Path) -> None:
    run(*SINCE, "--out", str(tmp_path / "i.zip"))

    with zipfile.ZipFile(tmp_path / "i.zip") as archive:
        names = set(archive.namelist())
        told = json.loads(archive.read("i/incident.json"))
    assert {"i/incident.html", "i/report-to-board.html", "i/evidence.ndjson"} <= names
    assert len(told["patients"]) == 2
    assert [each["left"].endswith("over") for each in told["deadlines"]] == [True, True]


def test_it_is_narrowed_to_a_patient_a_credential_or_a_model(run: Run, tmp_path: Path) -> None:
    def told(name: str, *more: str) -> dict[str, object]:
        done = run(*SINCE, *more, "--out", str(tmp_path / name), "--json")
        return json.loads(done.stdout)

    everything = told("a")
    one = told("b", "--patient", "Patient/p1")
    nobody = told("c", "--credential", "nobody")
    model = told("d", "--model", "ckd-risk@9.9.9")

    assert len(everything["patients"]) == 2
    assert len(one["patients"]) == 1
    assert one["about"] == "1 patients"
    assert (nobody["patients"], model["patients"]) == ({}, {})


def test_who_is_known_by_a_recorded_consent_alone_is_named_in_the_list(
    run: Run, nadi: Installation, tmp_path: Path
) -> None:
    said = LocalConsent(
        patient="Patient/p9",
        system="ehr",
        decision="deny",
        means="paper",
        recorded_at="2026-11-26T10:00:00Z",
        recorded_by="dr-rao",
    )
    with nadi.store.write() as uow:
        record(uow, said, nadi.store.sealer.patient_key("ehr", "Patient/p9"), ACTOR)

    run(*SINCE, "--patient", "Patient/p9", "--out", str(tmp_path / "i"))

    [line] = (tmp_path / "i.patients.csv").read_text().splitlines()[1:]
    assert line.startswith("Patient/p9,")


def test_what_people_state_is_taken_from_the_file_and_kept_in_the_bundle(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "s.yaml").write_text(STATED)

    told = run(*SINCE, "--statements", str(tmp_path / "s.yaml"), "--out", str(tmp_path / "i"))

    assert "Still to be stated: reasons, impact, safety" in told.stdout
    assert "A tablet was lost." in (tmp_path / "i" / "report-to-board.html").read_text()
    assert (tmp_path / "i" / "statements.yaml").read_text() == STATED


def test_the_form_in_a_bundle_can_be_filled_in_and_given_back(run: Run, tmp_path: Path) -> None:
    run(*SINCE, "--out", str(tmp_path / "i"))
    form = tmp_path / "i" / "statements.yaml"
    form.write_text(form.read_text().replace('nature: ""', "nature: Found out."))

    run(*SINCE, "--statements", str(form), "--out", str(tmp_path / "j"))

    assert "Found out." in (tmp_path / "j" / "incident.html").read_text()


def test_each_paper_is_a_pdf_too(run: Run, tmp_path: Path) -> None:
    run(*SINCE, "--out", str(tmp_path / "i"))

    pages = {path.stem for path in (tmp_path / "i").glob("*.html")}
    printed = {path.stem: path.read_bytes()[:5] for path in (tmp_path / "i").glob("*.pdf")}
    assert len(pages) == 4
    assert printed == dict.fromkeys(pages, b"%PDF-")


def test_what_the_officer_looks_at_meanwhile_is_no_part_of_it(run: Run, tmp_path: Path) -> None:
    def told(name: str, *more: str) -> dict[str, Any]:
        run(*SINCE, *more, "--out", str(tmp_path / name))
        return json.loads((tmp_path / name / "incident.json").read_text())

    before = told("a")
    again = told("b")
    about_them = told("c", "--credential", "first-compliance")

    assert before["looks"] == []
    assert {each["event"] for each in again["looks"]} == {"export"}
    assert (again["steps"], again["patients"]) == (before["steps"], before["patients"])
    assert "Looked at while this was handled" in (tmp_path / "b" / "incident.html").read_text()
    assert {each["event"] for each in about_them["timeline"]} >= {"export"}


@pytest.mark.parametrize("text", ["incident: [", "nature: x", "incident: i\nmotive: x"])
def test_a_form_that_is_not_as_it_was_is_refused(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "s.yaml").write_text(text)

    refused = run(
        *SINCE, "--statements", str(tmp_path / "s.yaml"), "--out", str(tmp_path / "i"), code=1
    )

    assert "s.yaml" in refused.stderr
    assert not (tmp_path / "i").exists()


def test_an_existing_file_is_never_overwritten(run: Run, tmp_path: Path) -> None:
    (tmp_path / "i").mkdir()

    assert "there already" in run(*SINCE, "--out", str(tmp_path / "i"), code=2).stderr


def test_drawing_it_up_is_on_record_for_each_patient(
    run: Run, nadi: Installation, tmp_path: Path
) -> None:
    run(*SINCE, "--out", str(tmp_path / "i"))

    from gateway.store.audit_log import AuditFilter

    with nadi.store.read() as uow:
        found = uow.audit_log.search(AuditFilter(event="export"))
    assert {row.patient_key for row in found if row.patient_key} == {
        nadi.store.sealer.patient_key("ehr", f"Patient/{name}") for name in ("p1", "p2")
    }
