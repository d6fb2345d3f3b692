"""Everything held of a patient is given: byte for byte, signed, her trail too, nobody else's."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import orjson
import pytest

from gateway.core.cds.feedback import Feedback
from gateway.core.consent.local import LocalConsent
from gateway.core.delivery import NewDelivery
from gateway.store.audit_log import AuditFilter
from gateway.store.consenting import record
from gateway.store.erasing import Order, erase
from gateway.store.jobs import JobFilter
from tests.commands import Run
from tests.hospital import Hospital, observation
from tests.installation import Installation, consent, creatinine, installation
from tests.registered import ACTOR

COMMAND = ("patient",)


def report_of_a_model(folder: Path) -> tuple[str, bytes]:
    """Let a toy model answer; give the identifier of its report and the report."""
    folder.mkdir()
    hospital = Hospital(folder)
    hospital.admit_patient()
    hospital.push(observation())
    hospital.infer()
    with hospital.store.read() as uow:
        [delivery] = uow.deliveries.of_jobs([hospital.job().id]).values()
        made = delivery.identifier, uow.deliveries.body(delivery)
    hospital.close()
    return made


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copies")
    identifier, body = report_of_a_model(folder / "toy")
    with installation(folder / "nadi") as nadi:
        nadi.receive(consent("p1"), creatinine("p1"), creatinine("p2"))
        with nadi.store.write() as uow:
            key = nadi.store.sealer.patient_key("ehr", "Patient/p1")
            [job] = uow.jobs.find(JobFilter(patient_key=key))
            new = NewDelivery(
                job_id=job.id, system="ehr", patient_key=key, identifier=identifier, body=body
            )
            uow.deliveries.add([new])
            said = Feedback(job.id, "overridden", uow.now, "disagree", b'{"note": "dialysis"}')
            uow.cds.add("ehr/cds-hooks", [(said, job)])
        nadi.integrate()
    return folder / "nadi"


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Path:
    run("export", "Patient/p1", "--out", str(tmp_path / "copy"))
    return tmp_path / "copy"


def test_each_resource_is_there_byte_for_byte(copy: Path) -> None:
    told = json.loads((copy / "received.json").read_bytes())

    assert sorted(each["type"] for each in told) == ["Consent", "Observation"]
    for each in told:
        raw = (copy / each["file"]).read_bytes()
        assert hashlib.sha256(raw).hexdigest() == each["sha256"]
    observed = next(each for each in told if each["type"] == "Observation")
    assert (copy / observed["file"]).read_bytes() == orjson.dumps(creatinine("p1"))


def test_what_clinicians_said_of_her_results_is_there(copy: Path) -> None:
    [card] = json.loads((copy / "cards.json").read_bytes())

    assert (card["outcome"], card["reason"]) == ("overridden", "disagree")
    assert card["said"] == {"note": "dialysis"}
    assert "cards.json" in (copy / "index.html").read_text("utf-8")


def test_results_jobs_and_the_trail_are_there(copy: Path) -> None:
    [result] = json.loads((copy / "results.json").read_bytes())
    [job] = json.loads((copy / "jobs.json").read_bytes())

    assert result["result"]["resourceType"] == "Observation"
    assert job["id"] == result["job"]
    assert "Consent asked at admit" in job["note"][0]["text"]
    lines = (copy / "audit.ndjson").read_text().splitlines()
    assert len(lines) > 4


def test_the_trail_verifies_with_what_is_in_the_copy(copy: Path) -> None:
    command = [sys.executable, "verify_receipt.py", "audit.ndjson", "--key", "audit.pub"]

    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_of_another_patient_is_in_it(copy: Path, nadi: Installation) -> None:
    other = nadi.store.sealer.patient_key("ehr", "Patient/p2").encode()
    for path in copy.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"Patient/p2" not in content, path
            assert other not in content, path


def test_the_first_page_is_for_her_to_read(copy: Path) -> None:
    text = (copy / "index.html").read_text()

    assert "Patient/p1" in text
    assert "What we hold of you" in text
    assert "Toy risk" in text
    assert "<td>1</td>" in text


def test_who_did_what_is_told_in_no_word_of_a_machine(copy: Path) -> None:
    page = (copy / "index.html").read_text()

    trail = page.partition("Who did what with your data")[2].partition("Files of this copy")[0]
    assert "data was received: Observation" in trail
    assert "consent was asked for your treatment: permitted" in trail
    assert "this system" in trail
    for word in ("TREAT", "ckd-risk@", "infer", "admit", ">api<", "cli@", "queued"):
        assert word not in trail


def test_a_zip_holds_the_same_and_is_for_its_owner_alone(run: Run, tmp_path: Path) -> None:
    run("export", "Patient/p1", "--out", str(tmp_path / "copy.zip"))

    with zipfile.ZipFile(tmp_path / "copy.zip") as archive:
        names = archive.namelist()
    assert "copy/index.html" in names
    assert sum(name.startswith("copy/received/") for name in names) == 2
    assert (tmp_path / "copy.zip").stat().st_mode & 0o077 == 0


def test_the_copy_is_on_record_with_its_digest(copy: Path, nadi: Installation) -> None:
    digest = hashlib.sha256((copy / "MANIFEST").read_bytes()).hexdigest()

    with nadi.store.read() as uow:
        found = uow.audit_log.search(AuditFilter(event="export"))
    assert any(digest.encode() in row.body for row in found)


def test_of_an_erased_or_unknown_patient_nothing_is_given(run: Run, tmp_path: Path) -> None:
    assert (
        "Nothing is held"
        in run("export", "Patient/no", "--out", str(tmp_path / "x"), code=1).stderr
    )
    run("erase", "Patient/p1", "--reason", "x", "--law", "y", "--yes")

    refused = run("export", "Patient/p1", "--out", str(tmp_path / "x"), code=1)

    assert "erased" in refused.stderr
    assert not (tmp_path / "x").exists()


def test_a_consent_that_staff_recorded_is_held_although_nothing_was_received(
    run: Run, nadi: Installation, tmp_path: Path
) -> None:
    key = nadi.store.sealer.patient_key("ehr", "Patient/p9")
    said = LocalConsent(
        patient="Patient/p9",
        system="ehr",
        decision="ai-opt-out",
        means="verbal",
        recorded_at="2026-11-26T10:00:00Z",
        recorded_by="dr-rao",
    )
    with nadi.store.write() as uow:
        consent_id = record(uow, said, key, ACTOR)

    run("export", "Patient/p9", "--out", str(tmp_path / "copy"))

    [told] = json.loads((tmp_path / "copy" / "consents.json").read_bytes())
    assert told["id"] == consent_id
    assert told["acts"][0]["statement"]["local"]["decision"] == "ai-opt-out"
    assert json.loads((tmp_path / "copy" / "received.json").read_bytes()) == []


def test_what_an_erasure_kept_of_her_is_hers_to_know(
    run: Run, nadi: Installation, tmp_path: Path
) -> None:
    key = nadi.store.sealer.patient_key("ehr", "Patient/p1")
    order = Order(patient_key=key, reason="x", law="y", refused_ai=True)
    with nadi.store.write() as uow:
        erase(uow, order, set(), ACTOR)
    with nadi.store.write() as uow:
        uow.erasures.reopen([key])
    nadi.receive(creatinine("p1", 9))

    run("export", "Patient/p1", "--out", str(tmp_path / "copy"))

    (told,) = json.loads((tmp_path / "copy" / "consents.json").read_bytes())
    assert (told["form"], told["says"], told["status"]) == (
        *("kept-at-erasure", "refuses AI", "active"),
    )


def test_it_takes_a_compliance_officer(run: Run, nadi: Installation, tmp_path: Path) -> None:
    (nadi.folder / "credentials" / "compliance.token").unlink()

    refused = run("export", "Patient/p1", "--out", str(tmp_path / "x"), code=1)

    assert "compliance" in refused.stderr
