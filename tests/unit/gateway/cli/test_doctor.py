"""`nadi doctor` names what is wrong and what to do."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gateway.cli import doctor
from gateway.cli.context import EXIT_NOT_SO, explained
from gateway.cli.doctor import Verdict, examine
from gateway.cli.doctor_machine import disk_speed, modes
from gateway.cli.main import app
from gateway.cli.models_installed import installed
from gateway.cli.prepare import prepare_data
from gateway.settings import Settings
from models.registry import REFERENCE_MODELS
from tests.sandbox import SandboxEhr


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    settings = Settings(data_dir=tmp_path_factory.mktemp("doctor") / "nadi", port=1)
    prepare_data(settings, sandbox=False)
    return settings


def findings(settings: Settings) -> dict[str, tuple[Verdict, str]]:
    return {finding.check: (finding.verdict, finding.says) for finding in examine(settings)}


def test_a_prepared_installation_that_does_not_run_has_warnings_but_no_failure(prepared):
    found = findings(prepared)

    assert [check for check, (verdict, _) in found.items() if verdict is Verdict.FAILED] == []
    assert found["broker"][0] is Verdict.WARNING
    assert found["api"][0] is Verdict.WARNING
    assert found["site"][0] is Verdict.WARNING
    assert found["database"] == (Verdict.OK, "sqlite, schema current")
    assert "fsync takes" in found["disk speed"][1]
    assert found["model ckd-risk@1.0.0"][0] is Verdict.OK


def test_events_put_into_the_log_without_the_key_are_a_failure_with_their_numbers(tmp_path):
    settings = Settings(data_dir=tmp_path / "nadi", port=1)
    prepare_data(settings, sandbox=False)
    assert findings(settings)["audit tags"][0] is Verdict.OK
    with sqlite3.connect(settings.data_dir / "nadi.db") as database:
        (last,) = database.execute("select max(seq) from audit_events").fetchone()
        database.executemany(
            "insert into audit_events (id, recorded_ms, event, action, outcome, body, tag) "
            "select ?, recorded_ms, event, action, outcome, body, ? from audit_events limit 1",
            [("invented", None), ("borrowed", bytes(16))],
        )
    database.close()

    verdict, says = findings(settings)["audit tags"]

    assert verdict is Verdict.FAILED
    assert says.startswith("2 AuditEvents were not written with this installation's key")
    assert f"(numbers {last + 1}, {last + 2})" in says
    assert "nadi audit verify" in says


def test_a_trigger_that_was_dropped_is_a_failure_with_its_name(tmp_path):
    settings = Settings(data_dir=tmp_path / "nadi", port=1)
    prepare_data(settings, sandbox=False)
    assert findings(settings)["append-only"][0] is Verdict.OK
    with sqlite3.connect(settings.data_dir / "nadi.db") as database:
        database.execute("drop trigger audit_events_refuses_update")
    database.close()

    verdict, says = findings(settings)["append-only"]

    assert verdict is Verdict.FAILED
    assert "(audit_events_refuses_update)" in says


def test_a_missing_data_folder_is_named_and_not_made(tmp_path):
    found = findings(Settings(data_dir=tmp_path / "nowhere"))

    assert found["data folder"][0] is Verdict.FAILED
    assert not (tmp_path / "nowhere").exists()


def test_a_key_that_others_can_read_is_a_failure(tmp_path):
    folder = tmp_path / "nadi"
    (folder / "keys").mkdir(parents=True)
    folder.chmod(0o700)
    (folder / "keys").chmod(0o700)
    key = folder / "keys" / "master.key"
    key.touch()
    key.chmod(0o644)

    finding = modes(folder)

    assert finding.verdict is Verdict.FAILED
    assert str(key) in finding.says


def test_an_altered_model_is_a_failure(tmp_path):
    shutil.copytree(REFERENCE_MODELS / "ckd-risk", tmp_path / "ckd-risk")
    weights = tmp_path / "ckd-risk" / "model.onnx"
    weights.write_bytes(weights.read_bytes() + b"x")

    settings = Settings(data_dir=tmp_path / "nadi", models_dir=tmp_path)

    (finding,) = doctor.models_found(installed(settings))

    assert finding.verdict is Verdict.FAILED
    assert "is not the file its manifest was written for" in finding.says


def test_a_folder_without_models_is_warned_of(tmp_path):
    settings = Settings(data_dir=tmp_path / "nadi", models_dir=tmp_path)

    (finding,) = doctor.models_found(installed(settings))

    assert finding.verdict is Verdict.WARNING
    assert "None is in service" in finding.says


def test_a_broker_that_is_named_and_away_is_a_failure(prepared, tmp_path):
    url = f"redis+socket://{tmp_path}/nobody.sock"

    found = findings(prepared.model_copy(update={"broker_url": url}))

    assert found["broker"][0] is Verdict.FAILED


def test_an_ehr_that_does_not_let_us_in_is_a_failure_that_ends_with_one(tmp_path, monkeypatch):
    ehr = SandboxEhr()
    ehr.start()
    monkeypatch.setenv("NADI_SANDBOX_PORT", ehr.origin.rpartition(":")[2])
    settings = Settings(data_dir=tmp_path / "nadi", port=1)
    prepare_data(settings, sandbox=True)

    done = CliRunner().invoke(app, ["doctor", "--json", "--data-dir", str(settings.data_dir)])
    ehr.stop()

    told = {each["check"]: (each["verdict"], each["says"]) for each in json.loads(done.stdout)}
    assert done.exit_code == 1
    assert told["site"] == ("ok", "'sandbox' version 1; routes: ckd-risk")
    assert [check for check, (verdict, _) in told.items() if verdict == "failed"] == ["login ehr"]
    assert "The site file names none: write one as `auth`." in told["login ehr"][1]


def test_what_stands_in_brackets_is_shown(tmp_path):
    nowhere = str(tmp_path / "[worklist]")

    shown = CliRunner().invoke(app, ["doctor", "--data-dir", nowhere])

    assert f"{nowhere} is missing" in shown.stdout


def test_scripts_get_json_and_an_exit_code(tmp_path):
    shown = CliRunner().invoke(app, ["doctor", "--json", "--data-dir", str(tmp_path / "nowhere")])

    assert shown.exit_code == 1
    assert json.loads(shown.stdout)[0]["verdict"] == "failed"


def test_a_disk_that_takes_nothing_is_a_failure_and_not_the_end_of_the_examination(tmp_path):
    found = disk_speed(tmp_path / "gone")

    assert found.verdict is Verdict.FAILED
    assert found.says.startswith("Nothing can be written there: No such file or directory. Make")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a disk that is always full")
def test_a_command_that_finds_the_disk_full_says_so_and_shows_no_traceback(capsys):
    @explained
    def command() -> None:
        Path("/dev/full").write_text("x", encoding="utf-8")

    with pytest.raises(typer.Exit) as ended:
        command()

    assert ended.value.exit_code == EXIT_NOT_SO
    assert "The disk is full. Make room, then try again." in capsys.readouterr().err
