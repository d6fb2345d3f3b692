"""Site files, credentials, uses of break-glass and requests: none vanishes or changes unnoticed."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from adapters.site_break_glass import BreakGlassEntry
from gateway.breaking import Emergency, break_glass, review
from gateway.cli.main import app
from gateway.core.clock import new_id
from gateway.core.principal import Principal, Role
from gateway.settings import Settings
from gateway.store.break_glass import ReviewVerdict
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.erasures import Tombstone
from gateway.store.installation import open_installation
from gateway.store.verification import verify
from gateway.store.verification_report import Finding, Kind, Verification
from tests.installation import Installation, creatinine, installation, reopened
from tests.registered import ACTOR

CLINICIAN = Principal(new_id(), "dr-rao", Role.CLINICIAN)
REVIEWER = Principal(new_id(), "the officer", Role.COMPLIANCE)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation in which glass was broken twice, once reviewed, and two requests came in."""
    folder = tmp_path_factory.mktemp("acts") / "nadi"
    with installation(folder) as nadi:
        nadi.receive(creatinine("p1"), creatinine("p2"))
        reviewed = broken(nadi, "p1")
        broken(nadi, "p2")
        review(
            nadi.store,
            ACTOR.source,
            reviewed,
            reviewer=REVIEWER,
            verdict=ReviewVerdict.JUSTIFIED,
            comment="She could not be asked.",
        )
    asked = "Patient/p1", "--kind", "access", "--received", "2026-11-01"
    answered = run(folder, "rights", "add", *asked).split()[1].rstrip(":")
    run(folder, "rights", "add", "Patient/p2", "--kind", "grievance")
    run(folder, "rights", "close", answered, "--outcome", "Copy handed over.")
    run(folder, "access", "add", "second-officer", "--role", "compliance")
    ground = "--reason", "Case pending.", "--law", "Order 12"
    for patient in ("Patient/p1", "Patient/p2"):
        run(folder, "patient", "hold", patient, *ground)
    run(folder, "patient", "lift", "Patient/p1", "--reason", "Case closed.")
    with reopened(folder) as nadi:
        nadi.integrate()
    return folder


def broken(nadi: Installation, patient: str) -> str:
    site = nadi.site()
    with nadi.store.read() as uow:
        models = {name for name, *_ in uow.models.in_service()}
    site = replace(site, break_glass=BreakGlassEntry(clinicians=[CLINICIAN.name]))
    route = next(each for each in site.routes if each.model.partition("@")[0] in str(models))
    wanted = Emergency(
        clinician=CLINICIAN,
        patient_key=nadi.store.sealer.patient_key("ehr", f"Patient/{patient}"),
        route=route.name,
        reason="She is unconscious.",
    )
    return break_glass(nadi.store, site, ACTOR.source, wanted).id


def run(folder: Path, *words: str) -> str:
    ended = CliRunner().invoke(app, [*words, "--data-dir", str(folder)])
    assert ended.exit_code == 0, ended.output
    return ended.stdout


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "nadi")
    return tmp_path / "nadi"


@pytest.fixture
def database(folder: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(folder / "nadi.db")) as opened, opened:
        yield opened


def tamper(folder: Path, *statements: str) -> None:
    """Change it as somebody would who drops the triggers first."""
    with closing(sqlite3.connect(folder / "nadi.db")) as database, database:
        names = database.execute("select name from sqlite_master where type = 'trigger'")
        for (name,) in names.fetchall():
            database.execute(f"drop trigger {name}")
        for statement in statements:
            assert database.execute(statement).rowcount > 0, statement


def findings(folder: Path) -> Verification:
    outside = CheckpointFile(folder).notes()
    with reopened(folder) as nadi, nadi.store.read() as uow:
        return verify(uow, nadi.keys.verifier, outside=outside, progress=lambda *_: None)


def named(report: Verification, table: str, kind: Kind) -> list[Finding]:
    return [each for each in report.findings if (each.table, each.kind) == (table, kind)]


def test_an_installation_in_which_people_acted_holds(folder: Path) -> None:
    report = findings(folder)

    assert report.findings == []
    assert report.counted["break_glass_uses"] == 2
    assert report.counted["rights_requests"] == 2


@pytest.mark.parametrize(
    ("table", "where"),
    [
        ("sites", "version = (select max(version) from sites)"),
        ("credentials", "name = 'second-officer'"),
        ("break_glass_uses", "reviewed_ms is null"),
        ("break_glass_uses", "reviewed_ms is not null"),
        ("rights_requests", "closed_ms is null"),
        ("rights_requests", "closed_ms is not null"),
        ("legal_holds", "lifted_ms is null"),
    ],
)
def test_a_row_that_is_on_record_and_was_removed_is_missed(
    folder: Path, table: str, where: str
) -> None:
    tamper(folder, f"delete from {table} where {where}")  # noqa: S608

    assert len(named(findings(folder), table, Kind.MISSING)) == 1


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("break_glass_uses", "due_ms = due_ms + 1"),
        ("break_glass_uses", "used_ms = used_ms + 1"),
        ("break_glass_uses", "clinician = 'dr-roy'"),
        ("break_glass_uses", "clinician_id = 'x'"),
        ("break_glass_uses", "route = 'x'"),
        ("break_glass_uses", "job_id = id"),
        ("break_glass_uses", "patient_key = 'x'"),
        ("break_glass_uses", "reason = zeroblob(80)"),
        ("break_glass_uses", "reviewed_ms = reviewed_ms + 1"),
        ("break_glass_uses", "reviewed_ms = null where reviewed_ms is not null"),
        ("break_glass_uses", "reviewed_ms = 1 where reviewed_ms is null"),
        ("break_glass_uses", "verdict = 'not-justified' where verdict is not null"),
        ("break_glass_uses", "reviewer = 'x' where verdict is not null"),
        ("break_glass_uses", "reviewer_id = 'x' where verdict is not null"),
        ("break_glass_uses", "comment = null where verdict is not null"),
        ("rights_requests", "kind = 'erasure'"),
        ("rights_requests", "patient_key = 'x'"),
        ("rights_requests", "due_ms = due_ms + 1"),
        ("rights_requests", "received_ms = received_ms + 1"),
        ("rights_requests", "added_by = 'x'"),
        ("rights_requests", "closed_ms = null where closed_ms is not null"),
        ("rights_requests", "closed_ms = 1, closed_by = 'x' where closed_ms is null"),
        ("rights_requests", "closed_by = 'x' where closed_ms is not null"),
        ("rights_requests", "outcome = 'Refused.' where closed_ms is not null"),
        ("rights_requests", "outcome = 'Refused.' where closed_ms is null"),
        ("legal_holds", "reason = 'x' where lifted_ms is null"),
        ("legal_holds", "law = 'x' where lifted_ms is null"),
        ("legal_holds", "placed_by = 'x' where lifted_ms is null"),
        ("legal_holds", "lifted_by = 'x' where lifted_ms is not null"),
        ("legal_holds", "lifted_ms = 1, lifted_by = placed_by where lifted_ms is null"),
    ],
)
def test_a_row_that_was_changed_is_named(folder: Path, table: str, change: str) -> None:
    tamper(folder, f"update {table} set {change}")  # noqa: S608

    assert named(findings(folder), table, Kind.CHANGED)


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("break_glass_uses", {"id": "'x'", "job_id": "'y'"}),
        ("rights_requests", {"id": "'x'"}),
        ("sites", {"version": "99"}),
        ("credentials", {"id": "'x'"}),
    ],
)
def test_a_row_that_nothing_on_record_made_is_invented(
    folder: Path, table: str, columns: dict[str, str]
) -> None:
    with closing(sqlite3.connect(folder / "nadi.db")) as database:
        names = [row[1] for row in database.execute(f"pragma table_info({table})")]
    values = ", ".join(columns.get(name, name) for name in names)
    tamper(folder, f"insert into {table} select {values} from {table} limit 1")  # noqa: S608

    assert len(named(findings(folder), table, Kind.INVENTED)) == 1


def test_an_erased_patients_use_of_break_glass_is_no_finding(folder: Path) -> None:
    run(folder, "patient", "erase", "Patient/p1", "--reason", "Hers", "--law", "s.12", "--yes")

    assert findings(folder).findings == []


@pytest.mark.parametrize(
    "statement",
    [
        "insert or replace into {table} select * from {table}",
        "replace into {table} select * from {table}",
        "insert into {table} select * from {table} where true on conflict do update set {own}",
    ],
)
@pytest.mark.parametrize(
    ("table", "own"),
    [
        ("audit_events", "outcome = '8'"),
        ("audit_terms", "term = 'x'"),
        ("audit_leaves", "leaf_hash = zeroblob(32)"),
        ("audit_checkpoints", "note = 'x'"),
        ("sites", "yaml = 'x'"),
        ("credentials", "revoked_ms = 1"),
        ("break_glass_uses", "reviewed_ms = 1"),
        ("rights_requests", "closed_ms = 1"),
    ],
)
def test_no_row_on_record_can_be_replaced(
    database: sqlite3.Connection, statement: str, table: str, own: str
) -> None:
    with pytest.raises(sqlite3.IntegrityError, match=r"append-only|never removed"):
        database.execute(statement.format(table=table, own=own))


def test_an_audit_event_can_not_be_replaced_by_another_of_its_number_or_its_id(
    database: sqlite3.Connection,
) -> None:
    columns = [row[1] for row in database.execute("pragma table_info(audit_events)")]
    for own in ("seq", "id"):
        values = ", ".join(name if name == own else f"max({name})" for name in columns)
        values = values.replace("max(seq)", "seq + 1000").replace("max(id)", "'x'")
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            database.execute(
                f"insert or replace into audit_events select {values} "  # noqa: S608
                "from audit_events where seq = 2 group by seq"
            )


@pytest.mark.parametrize(
    "statement",
    [
        "delete from sites",
        "update sites set yaml = 'x'",
        "delete from credentials",
        "update credentials set secret_sha256 = 'x'",
        "update credentials set role = 'operator'",
        "delete from break_glass_uses",
        "update break_glass_uses set due_ms = 1",
        "update break_glass_uses set clinician = 'x'",
        "delete from rights_requests",
        "update rights_requests set due_ms = 1",
        "update or replace rights_requests set id = 'x'",
    ],
)
def test_what_is_never_removed_or_changed_can_not_be(
    database: sqlite3.Connection, statement: str
) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="never"):
        database.execute(statement)


def test_a_tombstone_can_not_be_removed(folder: Path, database: sqlite3.Connection) -> None:
    run(folder, "patient", "erase", "Patient/p1", "--reason", "Hers", "--law", "s.12", "--yes")

    with pytest.raises(sqlite3.IntegrityError, match="never"):
        database.execute("delete from erasures")


@pytest.mark.integration
def test_postgresql_refuses_it_too(postgresql_url: str, tmp_path: Path) -> None:
    opened = open_installation(Settings(data_dir=tmp_path, database_url=postgresql_url))
    with opened.store.write() as uow:
        name, _ = uow.credentials.add("ada", Role.OPERATOR)
        uow.credentials.revoke(name)
        # What the product does itself goes on: a patient is erased, and erased again.
        for reason in ("She asked.", "She asked again."):
            uow.erasures.bury(
                Tombstone(
                    patient_key="p1",
                    id=new_id(),
                    erased_ms=uow.now_ms,
                    erased_by="ada",
                    reason=reason,
                    law="s.12",
                )
            )
    for statement in (
        "delete from sites",
        "update sites set yaml = 'x'",
        "truncate credentials",
        "update credentials set role = 'operator'",
        "delete from break_glass_uses",
        "delete from rights_requests",
        "delete from erasures",
        (
            "insert into audit_events overriding system value select * from audit_events "
            "on conflict (seq) do update set outcome = '8'"
        ),
        (
            "insert into credentials select * from credentials on conflict (id) do update "
            "set secret_sha256 = 'x'"
        ),
    ):
        with (
            pytest.raises(DBAPIError, match=r"append-only|never"),
            opened.store.engine.begin() as connection,
        ):
            connection.exec_driver_sql(statement)
    opened.store.close()
