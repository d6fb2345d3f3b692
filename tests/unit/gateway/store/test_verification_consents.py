"""Whatever is changed of the recorded consents behind Nadi's back is found, and named."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.consent.local import LocalConsent
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.consenting import record, revoke
from gateway.store.verification import verify
from gateway.store.verification_report import Verification
from tests.installation import Installation, installation, reopened
from tests.registered import ACTOR


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with a denial, and a refusal of AI that was taken back."""
    folder = tmp_path_factory.mktemp("original") / "nadi"
    with installation(folder) as nadi:
        key = nadi.store.sealer.patient_key("ehr", "Patient/p1")
        with nadi.store.write() as uow:
            ids = [record(uow, _said(each), key, ACTOR) for each in ("deny", "ai-opt-out")]
        with nadi.store.write() as uow:
            revoke(uow, ids[1], "She asked for it.", ACTOR)
        nadi.integrate()
    return folder


def _said(decision: str) -> LocalConsent:
    return LocalConsent(
        patient="Patient/p1",
        system="ehr",
        decision="deny" if decision == "deny" else "ai-opt-out",
        means="verbal",
        recorded_at="2026-11-20T08:00:00Z",
        recorded_by="os-user:clerk",
    )


@pytest.fixture
def nadi(original: Path, tmp_path: Path) -> Iterator[Installation]:
    """A copy of it, without the triggers."""
    folder = tmp_path / "nadi"
    shutil.copytree(original, folder)
    with sqlite3.connect(folder / "nadi.db") as database:
        triggers = database.execute("select name from sqlite_master where type = 'trigger'")
        for (name,) in triggers.fetchall():
            database.execute(f"drop trigger {name}")
    with reopened(folder) as copy:
        yield copy


def findings(nadi: Installation, statement: str = "") -> Verification:
    nadi.store.close()
    with sqlite3.connect(nadi.folder / "nadi.db") as database:
        database.execute(statement)
    outside = CheckpointFile(nadi.folder).notes()
    with nadi.store.read() as uow:
        return verify(uow, nadi.keys.verifier, outside=outside, progress=lambda *_: None)


def test_what_was_recorded_holds(nadi: Installation):
    report = findings(nadi)

    assert report.findings == []
    assert report.counted["consent_acts"] == 3


FIRST = "where id = (select min(id) from consent_acts)"


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("delete from consent_acts where act = 'revoke'", "not there"),
        ("delete from consent_acts FIRST", "not there"),
        ("update consent_acts set signature = 'x..y' FIRST", "not one of this content"),
        ("update consent_acts set act = 'revoke' FIRST", "not what was stated"),
        ("update consent_acts set recorded_ms = 1 FIRST", "its time"),
        ("update consent_acts set patient_key = null FIRST", "data key"),
        ("update consent_acts set statement = x'00' FIRST", "can't be opened"),
        ("update consent_acts set statement = signature FIRST", "can't be opened"),
        ("update consent_acts set id = 'new' FIRST", "never recorded"),
        ("update consent_acts set foreign_key = 'ab' FIRST", "not what was stated"),
    ],
)
def test_what_was_changed_is_found(nadi: Installation, statement: str, what: str):
    found = findings(nadi, statement.replace("FIRST", FIRST)).findings

    assert {each.table for each in found} == {"consent_acts"}
    assert any(what in each.what for each in found), found
