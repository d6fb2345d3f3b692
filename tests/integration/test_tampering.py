"""Whoever changes the database behind Nadi's back is found out, and the place is named.

One real run gives the database; every test changes a copy of it and asks `nadi audit verify`.
"""

import json
import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.store.packing import teach
from gateway.store.tables import metadata
from tests.people import person, versioned
from tests.running import RunningNadi, push_chart, running_nadi, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.sqlite]

#: What no AuditEvent speaks of, as docs/audit.md says: when and by whom work is done next.
UNWITNESSED = frozenset(
    {
        "audit_checkpoints.created_ms",
        "circuit_breakers.system",
        "circuit_breakers.failures",
        "circuit_breakers.open_until_ms",
        "circuit_breakers.is_probing",
        "deliveries.created_ms",
        "deliveries.lane",
        "deliveries.last_answer",
        "deliveries.lease_owner",
        "deliveries.lease_until_ms",
        "deliveries.line",
        "deliveries.next_attempt_ms",
        "events.entry_index",
        "events.lane",
        "jobs.attempt",
        "jobs.available_ms",
        "jobs.lane",
        "jobs.lease_owner",
        "jobs.lease_until_ms",
        "jobs.told_ms",
        "jobs.updated_ms",
        "paced_lines.next_us",
        "paced_lines.seen_us",
        "paced_lines.system",
        "patient_keys.created_ms",
        "submissions.received_ms",
        "written_results.resource_key",
        "written_results.written_ms",
    }
)
FLIPS = 30
PAGE_BYTES = 4096
#: First byte of a B-tree page that holds rows (SQLite file format, section 1.6).
LEAF_OF_TABLE = 0x0D
PRIMARY_KEYS = {
    table.name: next(iter(table.primary_key.columns)).name for table in metadata.sorted_tables
} | {"audit_terms": "audit_seq"}
COLUMNS = [
    f"{table.name}.{column.name}"
    for table in metadata.sorted_tables
    for column in table.columns
    if table.name != "alembic_version"
]


@dataclass(frozen=True)
class Recorded:
    """What a run left behind, and a copy of its database from the middle of it."""

    folder: Path
    earlier: Path


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    base = tmp_path_factory.mktemp("tampering")
    folder, earlier = base / "nadi", base / "earlier.db"
    settings = {"NADI_CHECKPOINT_EVERY_S": "0.5", "NADI_RETRY_MAX_S": "1"}
    with running_nadi(folder, environment=settings) as nadi:
        _run_patients(nadi, "earlier")
        with (
            closing(sqlite3.connect(folder / "nadi.db")) as now,
            closing(sqlite3.connect(earlier)) as copy,
        ):
            now.backup(copy)
        _run_patients(nadi, "later")
    with closing(sqlite3.connect(folder / "nadi.db")) as database:
        database.execute("pragma wal_checkpoint(truncate)")
    return Recorded(folder, earlier)


def _run_patients(nadi: RunningNadi, when: str) -> None:
    """Let something of every kind happen."""
    served, denied, revoked, corrected, late = (person("tampered") for _ in range(5))
    push_chart(nadi, *served.chart(served.consent()), served.creatinine())
    push_chart(nadi, *denied.chart(denied.consent("deny")), denied.creatinine())
    push_chart(nadi, *revoked.chart(versioned(revoked.consent(), 1)))
    push_chart(nadi, *corrected.chart(corrected.consent()))
    with nadi.frozen("infer"):
        push_chart(nadi, revoked.creatinine(), versioned(revoked.consent(status="inactive"), 2))
        push_chart(nadi, versioned(corrected.creatinine(5.5), 1))
        push_chart(nadi, versioned(corrected.creatinine(4.4), 2))
    with nadi.faulty_ehr(down="close"):
        (*_, task) = push_chart(nadi, *late.chart(late.consent()), late.creatinine())
        nadi.wait_for_status(task, "delivery-pending")
        wait_until(
            lambda: bool(nadi.rows("select * from circuit_breakers")),
            within_s=60,
            what="it was noticed that the EHR is away",
        )
    nadi.nadi("access", "add", f"a-test-{when}", "--role", "clinician")
    nadi.settle()
    nadi.wait_until_integrated()


@pytest.fixture
def folder(recorded: Recorded, tmp_path: Path) -> Path:
    """A copy of the data folder to be tampered with."""
    copy = tmp_path / "nadi"
    copy.mkdir(mode=0o700)
    for name in ("nadi.db", "keys", "audit"):
        source = recorded.folder / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, copy / name)
    return copy


@contextmanager
def tampering(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open a database as somebody who is above its rules: without triggers and checks."""
    with closing(sqlite3.connect(folder / "nadi.db")) as database, database:
        names = database.execute("select name from sqlite_master where type = 'trigger'")
        for (name,) in names.fetchall():
            database.execute(f"drop trigger {name}")
        yield database


def verify(folder: Path) -> tuple[int, dict[str, Any]]:
    """Run `nadi audit verify`; give its exit code and its report."""
    arguments = ["audit", "verify", "--json", "--data-dir", str(folder)]
    done = CliRunner().invoke(app, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, json.loads(done.stdout)


def places(report: dict[str, Any]) -> set[tuple[str, str]]:
    return {(finding["table"], str(finding["row"])) for finding in report["findings"]}


def flipped(value: object) -> object:
    """Change one bit of a value, in its middle."""
    if isinstance(value, int):
        # A high bit, so that the number is not that of another row.
        return value ^ (1 if value == 1 else 1 << 20)
    if not value:
        return "1"
    raw = bytearray(value.encode() if isinstance(value, str) else value)
    raw[len(raw) // 2] ^= 1
    return raw.decode() if isinstance(value, str) else bytes(raw)


def test_an_untouched_database_holds(folder: Path) -> None:
    code, report = verify(folder)

    assert code == 0, report["findings"]
    assert report["holds"]
    assert report["counted"]["audit events"] > 50
    assert not any("wait for their place" in note for note in report["notes"]), (
        "a Nadi that stops in order leaves nothing that no checkpoint covers"
    )


@pytest.mark.parametrize("place", COLUMNS)
def test_one_changed_bit_is_found_and_its_place_named(folder: Path, place: str) -> None:
    table, column = place.split(".")
    key = PRIMARY_KEYS[table]
    with tampering(folder) as database:
        names = [each.name for each in metadata.tables[table].columns]
        row = database.execute(
            f"select {', '.join(names)} from {table} "  # noqa: S608
            f"order by {column} is null or {column} = '', {key} limit 1"
        ).fetchone()
        if row is None:
            pytest.skip(f"this run left {table} empty")
        name, new = row[names.index(key)], flipped(row[names.index(column)])
        same = " and ".join(f"{each} is ?" for each in names)
        changed = database.execute(f"update {table} set {column} = ? where {same}", (new, *row))  # noqa: S608
        assert changed.rowcount == 1

    code, report = verify(folder)

    if place in UNWITNESSED:
        assert code == 0, "now it is witnessed: say so in docs/audit.md"
        return
    assert code == 1, "it was not noticed"
    named = places(report) | {
        ("audit_events", str(finding["audit_event"])) for finding in report["findings"]
    }
    if column == key:
        assert named, "a row of another name is named, or the one that is missing"
    else:
        assert (table, str(name)) in named, report["findings"]


@pytest.mark.parametrize("table", ["events", "jobs", "audit_events"])
def test_a_row_that_was_removed_is_missed(folder: Path, table: str) -> None:
    key = PRIMARY_KEYS[table]
    with tampering(folder) as database:
        (name,) = database.execute(f"select {key} from {table} limit 1").fetchone()  # noqa: S608
        database.execute(f"delete from {table} where {key} = ?", (name,))  # noqa: S608

    code, report = verify(folder)

    assert code == 1
    assert str(name) in json.dumps(report["findings"]), report["findings"]


def test_a_delivered_result_or_a_bundle_that_was_removed_is_missed(folder: Path) -> None:
    with tampering(folder) as database:
        (job,) = database.execute(
            "delete from deliveries where state = 'delivered' returning job_id"
        ).fetchall()[0]
        database.execute("delete from submissions")
        (event,) = database.execute(
            "select id from events where submission_id is not null limit 1"
        ).fetchone()

    code, report = verify(folder)

    assert code == 1
    assert {("deliveries", f"job_id {job}"), ("events", event)} <= places(report)


def test_a_row_that_was_never_recorded_is_found(folder: Path) -> None:
    with tampering(folder) as database:
        database.row_factory = sqlite3.Row
        row = dict(database.execute("select * from jobs limit 1").fetchone())
        row |= {"id": "01900000-0000-7000-8000-000000000000", "route": "of-my-own"}
        marks = ", ".join("?" for _ in row)
        database.execute(f"insert into jobs values ({marks})", tuple(row.values()))  # noqa: S608

    code, report = verify(folder)

    assert code == 1
    assert ("jobs", "01900000-0000-7000-8000-000000000000") in places(report)


def test_the_newest_records_can_not_be_cut_off(folder: Path) -> None:
    with tampering(folder) as database:
        (size,) = database.execute(
            "select size from audit_checkpoints order by size desc limit 1 offset 1"
        ).fetchone()
        (last,) = database.execute(
            "select audit_seq from audit_leaves where leaf_index = ?", (size - 1,)
        ).fetchone()
        database.execute("delete from audit_checkpoints where size > ?", (size,))
        database.execute("delete from audit_leaves where leaf_index >= ?", (size,))
        database.execute("delete from audit_events where seq > ?", (last,))
        database.execute("update sqlite_sequence set seq = ?", (last,))

    code, report = verify(folder)

    assert code == 1
    assert "checkpoint file" in {table for table, _ in places(report)}


def test_an_earlier_copy_of_the_database_is_recognised_by_the_checkpoint_file(
    folder: Path, recorded: Recorded
) -> None:
    shutil.copy2(recorded.earlier, folder / "nadi.db")

    code, report = verify(folder)

    assert code == 1
    assert {table for table, _ in places(report)} == {"checkpoint file"}


def test_the_earlier_copy_alone_was_in_order(folder: Path, recorded: Recorded) -> None:
    shutil.copy2(recorded.earlier, folder / "nadi.db")
    shutil.rmtree(folder / "audit")

    code, report = verify(folder)

    assert code == 0, report["findings"]
    assert any("No checkpoint file" in note for note in report["notes"])


def test_a_random_byte_of_the_file_is_noticed_wherever_it_changes_a_value(folder: Path) -> None:
    clean = (folder / "nadi.db").read_bytes()
    before = _content(folder / "nadi.db")
    dice = random.Random(2026)  # noqa: S311 - dice, not keys
    pages = [
        start
        for start in range(PAGE_BYTES, len(clean), PAGE_BYTES)
        if clean[start] == LEAF_OF_TABLE
    ]
    noticed, harmless, missed = 0, 0, []

    for _ in range(FLIPS):
        offset = dice.choice(pages) + dice.randrange(PAGE_BYTES)
        changed = bytearray(clean)
        changed[offset] ^= 1 << dice.randrange(8)
        for name in ("nadi.db", "as-changed.db"):
            (folder / name).write_bytes(changed)
        code, _ = verify(folder)
        if code == 1:
            noticed += 1
        elif (after := _content(folder / "as-changed.db")) == before:
            harmless += 1
        else:
            missed.append(_difference(before, after))

    print(f"{noticed} of {FLIPS} noticed, {harmless} changed no value")  # noqa: T201
    assert noticed > FLIPS // 2
    assert {place for each in missed for place in each} <= UNWITNESSED


Content = dict[str, list[tuple[object, ...]]]


def _content(file: Path) -> Content:
    """Read every value of every table, past the indexes."""
    with closing(sqlite3.connect(file)) as database:
        database.text_factory = bytes
        teach(database)
        return {
            table.name: database.execute(
                f"select {_columns(table)} from {table.name} not indexed"  # noqa: S608
            ).fetchall()
            for table in metadata.sorted_tables
        }


def _columns(table: sa.Table) -> str:
    """Name the columns; of an AuditEvent counts what it says, not how it is packed."""
    names = [column.name for column in table.columns]
    if table.name == "audit_events":
        names = ["nadi_unpacked(body)" if name == "body" else name for name in names]
    return ", ".join(names)


def _difference(before: Content, after: Content) -> set[str]:
    """Name the columns in which two databases differ."""
    found = set()
    for table in metadata.sorted_tables:
        names = [column.name for column in table.columns]
        for old, new in zip(before[table.name], after[table.name], strict=True):
            found |= {
                f"{table.name}.{name}"
                for name, was, now in zip(names, old, new, strict=True)
                if was != now
            }
    return found
