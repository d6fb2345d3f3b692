"""`nadi audit search` and `export`: what is found, what an outsider verifies, what is on record."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.cli import verify_receipt
from gateway.core.fhir import parse_resource
from gateway.store.audit_log import AuditFilter
from tests.commands import Run
from tests.installation import Installation, consent, creatinine, installation

COMMAND = ("audit",)
Words = tuple[str, ...]
FORMATS = ("ndjson", "csv", "fhir-bundle")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched") / "nadi"
    with installation(folder) as nadi:
        nadi.receive(consent("p1"), creatinine("p1"), creatinine("p2"))
        nadi.integrate()
    return folder


def count(nadi: Installation, **wanted: str) -> int:
    with nadi.store.read() as uow:
        return uow.audit_log.count(AuditFilter(**wanted))  # type: ignore[arg-type]


@pytest.mark.parametrize("verb", ["search", "list"])
def test_a_search_is_narrowed_by_what_an_officer_asks_for(run: Run, verb: str) -> None:
    def kinds(*arguments: str) -> list[str]:
        found = json.loads(run(verb, "--json", *arguments).stdout)
        return [event["subtype"][-1]["code"] for event in found]

    assert set(kinds("--kind", "receive")) == {"receive"}
    assert len(kinds("--kind", "receive")) == 3
    assert len(kinds("--kind", "receive", "--patient", "Patient/p1")) == 2
    assert set(kinds("--agent", "the EHR")) == {"receive"}
    assert kinds("--agent", "the EH") == []
    assert kinds("--until", "2000-01-01") == []
    assert kinds("--since", "2999-01-01") == []
    refused = json.loads(run(verb, "--json", "--outcome", "8").stdout)
    assert {event["outcome"] for event in refused} == {"8"}


def test_every_search_is_on_record_once_for_each_patient_found(
    nadi: Installation, run: Run
) -> None:
    run("search", "--kind", "receive")

    with nadi.store.read() as uow:
        queries = uow.audit_log.search(AuditFilter(event="query"))
    assert len(queries) == len({row.patient_key for row in queries}) == 2
    assert None not in {row.patient_key for row in queries}


def test_what_can_not_be_searched_for_is_wrong_usage(run: Run) -> None:
    assert "--outcome is one of" in run("search", "--outcome", "done", code=2).stderr
    assert "--until wants" in run("search", "--until", "tomorrow", code=2).stderr
    assert "no step 'denail'; known:" in run("search", "--kind", "denail", code=2).stderr
    backwards = ("--since", "2026-12-01", "--until", "2026-11-01")
    assert "--since has to be before" in run("search", *backwards, code=2).stderr
    nowhere = ("--out", "x.csv", *backwards)
    assert "--since has to be before" in run("export", *nowhere, code=2).stderr
    assert "by the id that the EHR uses" in run("search", "--patient", "a b", code=2).stderr


def verified(path: Path, nadi: Installation) -> subprocess.CompletedProcess[str]:
    key = str(nadi.folder / "keys" / "audit.pub")
    return subprocess.run(
        [sys.executable, "-I", verify_receipt.__file__, path.name, "--key", key],
        cwd=path.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_is_verified_by_an_outsider(
    nadi: Installation, run: Run, tmp_path: Path, form: str
) -> None:
    wanted, path = count(nadi), tmp_path / "log.out"

    run("export", "--format", form, "--out", str(path))

    told = verified(path, nadi)
    assert told.returncode == 0, told.stdout + told.stderr
    assert f"an export of {wanted} event(s)" in told.stdout
    assert count(nadi, event="export") == 3, "two patients, and what is about nobody"


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_that_was_changed_does_not_hold(
    nadi: Installation, run: Run, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "log.out"
    run("export", "--format", form, "--out", str(path))
    content = path.read_bytes()

    for changed in (content.replace(b"receive", b"recieve"), content[: len(content) // 2], b""):
        path.write_bytes(changed)
        told = verified(path, nadi)
        assert told.returncode == 1, told.stdout + told.stderr
        assert "DOES NOT HOLD" in told.stdout


def test_the_note_of_another_export_does_not_fit(
    nadi: Installation, run: Run, tmp_path: Path
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    run("export", "--out", str(one))
    run("export", "--out", str(other), "--kind", "receive")
    shutil.copy(tmp_path / "one.note", tmp_path / "other.note")

    assert verified(other, nadi).returncode == 1


def test_the_lines_of_an_export_hold_the_events_as_they_are_in_the_log(
    nadi: Installation, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "receptions.ndjson"
    run("export", "--out", str(path), "--kind", "receive", "--patient", "Patient/p1")

    head, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    with nadi.store.read() as uow:
        bodies = {row.body.decode() for row in uow.audit_log.search(AuditFilter(event="receive"))}
    assert head["format"] == "nadi-audit-export-1"
    assert len(lines) == 2
    assert {line["event"] for line in lines} < bodies


def test_the_bundle_is_fhir_with_or_without_entries(run: Run, tmp_path: Path) -> None:
    for arguments, wanted in ((("--kind", "receive"), 3), (("--kind", "break-glass"), 0)):
        path = tmp_path / f"{wanted}.json"
        run("export", "--format", "fhir-bundle", "--out", str(path), *arguments)

        bundle = json.loads(path.read_bytes())
        parse_resource(path.read_bytes(), expected_type="Bundle")
        assert len(bundle.get("entry", ())) == wanted


def test_the_table_has_a_row_for_each_event_and_no_formula(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    run("export", "--format", "csv", "--out", str(path))

    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert [row["leaf_index"] for row in rows] == [str(n) for n in range(len(rows))]
    assert {"receive", "consent", "refuse"} <= {row["event"] for row in rows}
    assert not any(value.startswith(("=", "+", "@")) for row in rows for value in row.values())


def test_a_folder_that_is_not_there_is_told_and_nothing_is_left_behind(
    run: Run, tmp_path: Path
) -> None:
    refused = run("export", "--out", str(tmp_path / "no" / "log.csv"), code=1)

    assert "can't be written" in refused.stderr
    assert not list(tmp_path.glob(".*.draft"))


def test_without_the_key_an_export_is_not_verified(run: Run, tmp_path: Path) -> None:
    run("export", "--out", str(tmp_path / "log"))

    done = subprocess.run(
        [sys.executable, "-I", verify_receipt.__file__, "log"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert "--key" in done.stderr


@pytest.mark.parametrize(
    "command",
    [("search",), ("export", "--out", "x.ndjson"), ("patient", "Patient/p2"), ("prove", "{id}")],
    ids=" ".join,
)
def test_an_entry_that_was_changed_is_named_where_it_was_to_be_shown(
    nadi: Installation, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Words
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with nadi.store.read() as uow:
        key = uow.sealer.patient_key("ehr", "Patient/p2")
        [row] = uow.audit_log.search(AuditFilter(patient_key=key, event="receive"))
        broken = "update audit_events set body = substr(body, 1, 50) where seq = :seq"
        uow.connection.exec_driver_sql("drop trigger audit_events_refuses_update")
        uow.connection.execute(sa.text(broken), {"seq": row.seq})
        uow.connection.commit()
    name = json.loads(row.body)["id"]

    told = run(*(word.format(id=name) for word in command), code=1).stderr

    assert f"AuditEvent {row.seq} is not what was written" in told
    assert "nadi audit verify" in told
    assert not list((tmp_path / "here").iterdir())
