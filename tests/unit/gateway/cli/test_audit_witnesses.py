"""`nadi audit witnesses`, `publish` and `verify --witness`; without a witness it is said loudly."""

import json
from pathlib import Path

import pytest

from gateway.cli.doctor import Verdict, examine
from tests.commands import Run
from tests.installation import Installation, creatinine, installation
from tests.unit.gateway.store.test_log_tampering import a_note, invent, own_key, rewrite
from tests.witnessing import newest, put_site

COMMAND = ("audit",)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("witnesses") / "nadi"
    with installation(folder) as nadi:
        nadi.receive(*(creatinine("p1", number) for number in range(20)))
        with nadi.store.write() as uow:
            uow.audit(a_note(uow.now_ms))
        nadi.integrate()
    return folder


@pytest.fixture
def mount(nadi: Installation, tmp_path: Path) -> Path:
    put_site(nadi, f"witnesses:\n  mount: {{kind: file, path: {tmp_path / 'mount.log'}}}\n")
    return tmp_path / "mount.log"


def test_without_a_witness_it_is_said_loudly_everywhere(nadi: Installation, run: Run) -> None:
    listed = run("witnesses").stderr
    as_json = run("witnesses", "--json")
    verified = run("verify").stdout
    checked = {finding.check: finding for finding in examine(nadi.settings)}

    for text in (listed, verified, checked["witness"].says):
        assert "The audit log has no witness" in text
    assert (json.loads(as_json.stdout), "no witness" in as_json.stderr) == ([], True)
    assert checked["witness"].verdict is Verdict.WARNING
    assert "it has: none" in run("publish", code=2).stderr


@pytest.mark.usefixtures("mount")
def test_a_witness_that_has_everything_is_shown(nadi: Installation, run: Run) -> None:
    before = json.loads(run("witnesses", "--json").stdout)
    assert before[0]["standing"] == "waiting"

    assert "✓ mount" in run("publish").stdout

    [after] = json.loads(run("witnesses", "--json").stdout)
    assert (after["standing"], after["size"]) == ("ok", newest(nadi)[0])
    assert "mount" in run("witnesses").stdout
    checked = {finding.check: finding for finding in examine(nadi.settings)}
    assert checked["witness mount"].verdict is Verdict.OK


def test_a_witness_that_takes_nothing_is_told(nadi: Installation, run: Run) -> None:
    put_site(nadi, "witnesses:\n  mount: {kind: file, path: /nowhere/at/all.log}\n")

    assert "can't be written" in run("publish", "mount", code=1).stdout
    assert "it has: mount" in run("publish", "other", code=2).stderr
    assert "tries failed" in run("witnesses").stdout


@pytest.mark.usefixtures("mount")
def test_verification_against_a_witness_finds_a_history_written_anew(
    nadi: Installation, run: Run
) -> None:
    size, _ = newest(nadi)
    run("publish", "mount")
    assert "No checkpoint from outside" not in run("verify", "--witness", "mount").stdout
    rewrite(nadi.folder, own_key(nadi.folder), invent(nadi.folder, size))

    report = json.loads(run("verify", "--json", "--witness", "mount", code=1).stdout)

    assert report["first_bad"]["kind"] == "forked"
    assert {each["table"] for each in report["findings"] if each["kind"] == "forked"} == {
        "witness mount"
    }
    shown = run("verify", "--witness", "mount", code=1).stdout
    assert "First bad entry of the log: among leaves 0 to" in shown


@pytest.mark.usefixtures("mount")
def test_verify_asks_the_witnesses_of_the_site_by_itself_unless_told_otherwise(
    nadi: Installation, run: Run
) -> None:
    size, _ = newest(nadi)
    assert "Not compared with the witness 'mount'" in run("verify").stdout, "it has nothing yet"
    run("publish", "mount")
    assert "no checkpoint from outside" not in run("verify").stdout
    rewrite(nadi.folder, own_key(nadi.folder), invent(nadi.folder, size))

    report = json.loads(run("verify", "--json", code=1).stdout)

    assert report["first_bad"]["kind"] == "forked"
    alone = run("verify", "--no-witnesses").stdout
    assert "The log holds" in alone
    assert "no checkpoint from outside" in alone


def test_a_witness_that_is_away_is_told_and_no_finding(nadi: Installation, run: Run) -> None:
    address = "http://127.0.0.1:9/witness/checkpoints"
    put_site(nadi, f"witnesses:\n  sister: {{kind: http, url: '{address}'}}\n")

    shown = run("verify").stdout

    assert "The log holds" in shown
    assert "Not compared with the witness 'sister'" in shown


def test_a_checkpoint_that_was_saved_as_a_file_does_as_well(
    nadi: Installation, run: Run, tmp_path: Path
) -> None:
    size, _ = newest(nadi)
    saved = tmp_path / "saved.txt"
    saved.write_text(f"From the mail of Monday:\r\n\r\n{newest(nadi)[1]}")
    assert "The log holds" in run("verify", "--from", str(saved)).stdout
    rewrite(nadi.folder, own_key(nadi.folder), invent(nadi.folder, size))

    report = json.loads(run("verify", "--json", "--from", str(saved), code=1).stdout)

    assert str(saved) in {each["table"] for each in report["findings"]}


def test_a_witness_that_can_not_be_asked_says_what_to_do(
    nadi: Installation, run: Run, tmp_path: Path
) -> None:
    put_site(nadi, f"witnesses:\n  paper: {{kind: qr, folder: {tmp_path}}}\n")

    assert "--from" in run("verify", "--witness", "paper", code=1).stderr


def test_doctor_fails_where_the_log_is_not_what_was_signed(nadi: Installation) -> None:
    kept = (nadi.folder / "audit" / "checkpoints.log").read_text()
    size, _ = newest(nadi)
    rewrite(nadi.folder, own_key(nadi.folder), invent(nadi.folder, size))
    (nadi.folder / "audit").mkdir()
    (nadi.folder / "audit" / "checkpoints.log").write_text(kept)

    checked = {finding.check: finding for finding in examine(nadi.settings)}

    assert checked["audit log"].verdict is Verdict.FAILED
    assert "are not those that were signed" in checked["audit log"].says
