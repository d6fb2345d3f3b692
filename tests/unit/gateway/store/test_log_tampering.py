"""Somebody above the rules of the database changes the log; it is found, named, and its kind told.

Three attackers, each stronger than the one before:

* one who can write to the database: found without any checkpoint from outside;
* one who also has the checkpoint file, or who puts a whole earlier database back;
* one who also has the signing key, and writes history anew: found by a **witness** only. The tests
  of this one show both: that without the witness everything seems in order, and that with it the
  place is named.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core.audit import AuditRecord, Source, Step, noted
from gateway.core.clock import from_ms, new_id
from gateway.core.ledger import Checkpoint, Frontier, leaf_hash, root, sign_checkpoint
from gateway.core.ledger_nodes import grow
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.keys import load_or_create
from gateway.store.packing import unpacked
from gateway.store.sealing import Sealer
from gateway.store.verification import verify
from gateway.store.verification_checkpoints import OutsideNote
from gateway.store.verification_report import FirstBad, Kind, Verification
from tests.installation import Installation, installation, reopened

#: More than what a new installation writes when it is made.
FIRST = 20
SIZE = 4 * FIRST
LOG_ITSELF = {"audit_leaves", "audit_nodes", "audit_checkpoints", "checkpoint file", "witness"}
EVENT_COLUMNS = ("id", "recorded_ms", "event", "action", "outcome", "body", "tag")


@dataclass(frozen=True)
class Recorded:
    """An installation, what it was like half way, and checkpoints that left the house."""

    folder: Path
    earlier: Path
    witnessed: tuple[str, ...]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    base = tmp_path_factory.mktemp("log-tampering")
    notes = []
    with installation(base / "nadi") as nadi:
        for size in (FIRST, 2 * FIRST, 3 * FIRST, SIZE):
            fill(nadi, size)
            assert f"\n{size}\n" in newest_note(nadi)
            notes.append(newest_note(nadi))
            if size == 2 * FIRST:
                (base / "earlier").mkdir()
                with closing(sqlite3.connect(base / "nadi" / "nadi.db")) as database:
                    database.execute("vacuum into ?", (str(base / "earlier" / "nadi.db"),))
                shutil.copytree(base / "nadi" / "audit", base / "earlier" / "audit")
    return Recorded(base / "nadi", base / "earlier", tuple(notes))


def fill(nadi: Installation, size: int) -> None:
    """Let AuditEvents be written and integrated until the log has this size."""
    with nadi.store.read() as uow:
        there = uow.connection.exec_driver_sql("select count(*) from audit_events").scalar_one()
    with nadi.store.write() as uow:
        uow.audit(*(a_note(uow.now_ms) for _ in range(size - there)))
    nadi.integrate()


def a_note(at_ms: int) -> AuditRecord:
    step = Step(id=new_id(), recorded=from_ms(at_ms), source=Source("s", "p"), patient_key=None)
    return noted(step, "note", details={"number": new_id()})


def newest_note(nadi: Installation) -> str:
    with nadi.store.read() as uow:
        return uow.audit_log.newest_checkpoint() or ""


@pytest.fixture
def folder(recorded: Recorded, tmp_path: Path) -> Path:
    shutil.copytree(recorded.folder, tmp_path / "nadi")
    return tmp_path / "nadi"


@contextmanager
def tampering(folder: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(folder / "nadi.db")) as database, database:
        names = database.execute("select name from sqlite_master where type = 'trigger'")
        for (name,) in names.fetchall():
            database.execute(f"drop trigger {name}")
        yield database


def verified(folder: Path, *witnessed: str, has_file: bool = True) -> Verification:
    """Verify the whole; looking at the log alone has to find the same of the log itself."""
    whole, log_only = (
        looked_at(folder, *witnessed, has_file=has_file, is_log_only=is_log_only)
        for is_log_only in (False, True)
    )
    assert of_the_log(log_only) == of_the_log(whole)
    assert {finding.table for finding in log_only.findings} <= LOG_ITSELF | {"audit_events"}
    return whole


def looked_at(folder: Path, *witnessed: str, has_file: bool, is_log_only: bool) -> Verification:
    with reopened(folder) as nadi, nadi.store.read() as uow:
        return verify(
            uow,
            nadi.keys.verifier,
            outside=CheckpointFile(folder).notes() if has_file else [],
            witnessed=[OutsideNote("witness", str(n), note) for n, note in enumerate(witnessed)],
            progress=lambda *_: None,
            is_log_only=is_log_only,
        )


def of_the_log(report: Verification) -> set[tuple[str, str, str]]:
    return {
        (each.table, each.row, each.what) for each in report.findings if each.table in LOG_ITSELF
    }


def kinds(report: Verification) -> set[Kind]:
    return {finding.kind for finding in report.findings}


def test_what_nobody_touched_holds_against_every_witness(folder: Path, recorded: Recorded) -> None:
    report = verified(folder, *recorded.witnessed)

    assert report.findings == []
    assert report.first_bad is None
    assert report.size == SIZE
    assert report.notes == []


def test_without_a_witness_it_says_so(folder: Path) -> None:
    report = verified(folder)

    assert any("no checkpoint from outside this machine" in note for note in report.notes)


# --- who can write to the database ----------------------------------------------------------


@pytest.mark.parametrize("column", EVENT_COLUMNS)
@pytest.mark.parametrize("leaf", [0, 17, SIZE - 1])
def test_a_changed_byte_of_any_column_names_its_entry(folder: Path, column: str, leaf: int) -> None:
    with tampering(folder) as database:
        read = f"select {column} from audit_events where seq = ?"  # noqa: S608
        (value,) = database.execute(read, (leaf + 1,)).fetchone()
        database.execute(
            f"update audit_events set {column} = ? where seq = ?",  # noqa: S608
            (flipped(value), leaf + 1),
        )

    report = verified(folder)

    assert leaf + 1 in {finding.audit_event for finding in report.findings}
    assert kinds(report) == {Kind.CHANGED}
    if column == "body":
        assert report.first_bad == FirstBad(Kind.CHANGED, leaf, leaf)


def flipped(value: object) -> object:
    if isinstance(value, int):
        return value ^ 1
    raw = bytearray(value.encode() if isinstance(value, str) else bytes(value))  # type: ignore[call-overload]
    raw[len(raw) // 2] ^= 1
    return raw.decode() if isinstance(value, str) else bytes(raw)


@pytest.mark.parametrize("leaf", [0, 17, SIZE - 1], ids=["first", "middle", "last"])
@pytest.mark.parametrize("with_leaf", [False, True], ids=["event", "event and leaf"])
def test_a_deleted_entry_is_missing(folder: Path, leaf: int, with_leaf: bool) -> None:
    with tampering(folder) as database:
        database.execute("delete from audit_events where seq = ?", (leaf + 1,))
        if with_leaf:
            database.execute("delete from audit_leaves where leaf_index = ?", (leaf,))

    report = verified(folder)

    assert report.first_bad is not None
    if with_leaf and leaf == SIZE - 1:
        assert report.first_bad == FirstBad(Kind.TRUNCATED, leaf, leaf)
    else:
        assert report.first_bad == FirstBad(Kind.MISSING, leaf, leaf)


def test_two_swapped_events_are_reordered(folder: Path) -> None:
    with tampering(folder) as database:
        swap(database, "audit_events", "seq", (5, 9), EVENT_COLUMNS)

    report = verified(folder)

    assert report.first_bad == FirstBad(Kind.REORDERED, 4, 4)
    assert any("that of leaf 8" in finding.what for finding in report.findings)


def test_two_swapped_leaves_are_reordered(folder: Path) -> None:
    with tampering(folder) as database:
        swap(database, "audit_leaves", "leaf_index", (4, 8), ("audit_seq", "leaf_hash"))

    report = verified(folder)

    assert report.first_bad is not None
    assert report.first_bad.kind is Kind.REORDERED


def test_events_swapped_with_their_leaf_hashes_lie_between_two_checkpoints(folder: Path) -> None:
    with tampering(folder) as database:
        swap(database, "audit_events", "seq", (23, 25), EVENT_COLUMNS)
        swap(database, "audit_leaves", "leaf_index", (22, 24), ("leaf_hash",))

    report = verified(folder)

    assert report.first_bad == FirstBad(Kind.CHANGED, 20, 39)


def swap(
    database: sqlite3.Connection,
    table: str,
    key: str,
    both: tuple[int, int],
    columns: tuple[str, ...],
) -> None:
    names = ", ".join(columns)
    read = f"select {names} from {table} where {key} = ?"  # noqa: S608
    first, second = (database.execute(read, (row,)).fetchone() for row in both)
    marks = ", ".join(f"{column} = ?" for column in columns)
    write = f"update {table} set {marks} where {key} = ?"  # noqa: S608
    # What is unique must not stand twice meanwhile.
    away = tuple(-1 if isinstance(v, int) else b"x" if isinstance(v, bytes) else "x" for v in first)
    database.execute(write, (*away, both[0]))
    database.execute(write, (*first, both[1]))
    database.execute(write, (*second, both[0]))


def test_an_event_put_in_between_is_invented(folder: Path) -> None:
    with tampering(folder) as database:
        insert(database, a_note(1_700_000_000_000), seq=-3, tag=None)

    report = verified(folder)

    assert Kind.INVENTED in kinds(report)
    assert "-3" in {finding.row for finding in report.findings}


def test_an_event_with_a_date_of_long_ago_is_back_dated(folder: Path) -> None:
    """It is added at the end with a true tag, so that the gateway signs it; its time shows it."""
    with tampering(folder) as database:
        record = a_note(1_700_000_000_000)
        insert(database, record, seq=SIZE + 1, tag=tag_of(folder, record))
    with reopened(folder) as nadi:
        fill(nadi, SIZE + 5)

    report = verified(folder)

    assert kinds(report) == {Kind.BACK_DATED}
    assert {finding.leaf for finding in report.findings} == {SIZE}


def test_a_clock_that_was_set_back_is_told_and_no_finding(folder: Path) -> None:
    with reopened(folder) as nadi:
        with nadi.store.write() as uow:
            uow.audit(*(a_note(uow.now_ms - 7_200_000) for _ in range(20)))
        fill(nadi, SIZE + 25)

    report = verified(folder)

    assert report.findings == []
    assert any(f"20 entries from leaf {SIZE}" in note for note in report.notes)


def test_an_event_invented_without_the_master_key_is_given_no_leaf(folder: Path) -> None:
    """Well-formed, of this moment, at the end: nothing but its tag gives it away."""
    with reopened(folder) as nadi:
        with nadi.store.read() as uow:
            invented = (a_note(uow.now_ms), a_note(uow.now_ms))
        with closing(sqlite3.connect(folder / "nadi.db")) as database, database:
            insert(database, invented[0], seq=SIZE + 1, tag=None)
            insert(database, invented[1], seq=SIZE + 2, tag=bytes(16))
        with nadi.store.write() as uow:
            uow.audit(a_note(uow.now_ms))
        with nadi.store.write() as uow:
            uow.audit_log.integrate(nadi.keys.signing, nadi.keys.origin)
            assert uow.audit_log.refused == (SIZE + 1, SIZE + 2)
        size = int(newest_note(nadi).split("\n")[1])

    report = looked_at(folder, has_file=True, is_log_only=False)

    assert size == SIZE + 1, "what came after it is signed"
    tagless = {each.row for each in report.findings if "written by Nadi" in each.what}
    assert tagless == {str(SIZE + 1), str(SIZE + 2)}
    assert kinds(report) == {Kind.INVENTED}


def test_the_tag_of_another_event_does_not_help(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "nadi.db")) as database, database:
        database.execute(
            "insert into audit_events (id, recorded_ms, event, action, outcome, body, tag) "
            "select 'again', recorded_ms, event, action, outcome, body, tag "
            "from audit_events where seq = ?",
            (SIZE,),
        )
    with reopened(folder) as nadi, nadi.store.write() as uow:
        assert uow.audit_log.integrate(nadi.keys.signing, nadi.keys.origin) is None
        assert uow.audit_log.refused == (SIZE + 1,)


def test_what_an_earlier_nadi_wrote_without_tags_holds_and_is_continued(folder: Path) -> None:
    with tampering(folder) as database:
        database.execute("update audit_events set tag = null")
    with reopened(folder) as nadi:
        fill(nadi, SIZE + 5)

    assert verified(folder).findings == []


def test_a_tag_taken_away_is_named(folder: Path) -> None:
    with tampering(folder) as database:
        database.execute("update audit_events set tag = null where seq = 30")

    report = looked_at(folder, has_file=True, is_log_only=False)

    assert [(each.table, each.row) for each in report.findings] == [("audit_events", "30")]
    assert report.first_bad == FirstBad(Kind.CHANGED, 29, 29)


def tag_of(folder: Path, record: AuditRecord) -> bytes:
    """Make it as whoever has the master key does."""
    return Sealer(load_or_create(folder).master).audit_tag(record.id, record.body)


def insert(
    database: sqlite3.Connection, record: AuditRecord, *, seq: int, tag: bytes | None
) -> None:
    recorded_ms = round(record.recorded.timestamp() * 1000)
    values = (record.id, recorded_ms, record.event, record.action, record.outcome, record.body, tag)
    marks = ", ".join("?" for _ in values)
    names = ", ".join(EVENT_COLUMNS)
    database.execute(
        f"insert into audit_events (seq, {names}) values (?, {marks})",  # noqa: S608
        (seq, *values),
    )


def test_a_log_signed_with_another_key_is_told_apart(folder: Path) -> None:
    rewrite(folder, Ed25519PrivateKey.generate())

    report = verified(folder)

    assert Kind.OTHER_KEY in kinds(report)
    assert any(finding.table == "audit_checkpoints" for finding in report.findings)


# --- who cuts, or puts an earlier database back ---------------------------------------------


def cut(folder: Path, size: int) -> None:
    """Cut the log so that nothing in it tells."""
    with tampering(folder) as database:
        database.execute("delete from audit_checkpoints where size > ?", (size,))
        database.execute("delete from audit_leaves where leaf_index >= ?", (size,))
        database.execute("delete from audit_events where seq > ?", (size,))
        database.execute("update sqlite_sequence set seq = ? where name = 'audit_events'", (size,))


def test_a_cut_log_is_shorter_than_the_checkpoint_file(folder: Path) -> None:
    cut(folder, 40)

    report = verified(folder)

    assert kinds(report) <= {Kind.TRUNCATED, Kind.ROLLED_BACK}
    assert report.first_bad is not None
    assert report.first_bad.first_leaf == 40


def test_a_log_cut_with_its_checkpoint_file_needs_a_witness(
    folder: Path, recorded: Recorded
) -> None:
    cut(folder, 40)
    shutil.copytree(recorded.earlier / "audit", folder / "audit", dirs_exist_ok=True)
    assert verified(folder).holds, "without a witness nothing shows"

    report = verified(folder, recorded.witnessed[2])

    assert report.first_bad is not None
    assert report.first_bad.first_leaf == 40
    assert {finding.table for finding in report.findings} == {"witness"}


def test_a_cut_that_leaves_other_rows_behind_is_truncated(folder: Path) -> None:
    with tampering(folder) as database:
        database.execute("delete from audit_checkpoints where size > 1")
        database.execute("delete from audit_leaves where leaf_index >= 1")
        database.execute("delete from audit_events where seq > 1")
        database.execute("update sqlite_sequence set seq = 1 where name = 'audit_events'")

    report = verified(folder)

    assert report.first_bad is not None
    assert report.first_bad.kind is Kind.TRUNCATED


def test_an_earlier_database_is_rolled_back(folder: Path, recorded: Recorded) -> None:
    shutil.copy(recorded.earlier / "nadi.db", folder / "nadi.db")

    report = verified(folder)

    assert kinds(report) == {Kind.ROLLED_BACK}
    assert report.first_bad == FirstBad(Kind.ROLLED_BACK, 40, 40)


def test_an_earlier_database_with_its_checkpoint_file_needs_a_witness(
    folder: Path, recorded: Recorded
) -> None:
    shutil.copy(recorded.earlier / "nadi.db", folder / "nadi.db")
    shutil.copytree(recorded.earlier / "audit", folder / "audit", dirs_exist_ok=True)
    assert verified(folder).holds, "without a witness nothing shows"

    report = verified(folder, recorded.witnessed[-1])

    assert kinds(report) == {Kind.ROLLED_BACK}


# --- who has the signing key too ------------------------------------------------------------


def own_key(folder: Path) -> Ed25519PrivateKey:
    seed = (folder / "keys" / "audit-signing.key").read_text().strip()
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))


def rewrite(
    folder: Path,
    key: Ed25519PrivateKey,
    change: Callable[[sqlite3.Connection], object] = lambda _: None,
) -> None:
    """Change events, then compute every leaf, node and checkpoint anew and sign them."""
    with tampering(folder) as database:
        change(database)
        name = (folder / "keys" / "audit.pub").read_text().partition("+")[0]
        sizes = [size for (size,) in database.execute("select size from audit_checkpoints")]
        bodies = database.execute("select seq, body from audit_events order by seq").fetchall()
        sizes = [size for size in sizes if size < len(bodies)] + [len(bodies)]
        for table in ("audit_leaves", "audit_nodes", "audit_checkpoints"):
            database.execute(f"delete from {table}")  # noqa: S608
        frontier = Frontier()
        for index, (seq, body) in enumerate(bodies):
            leaf = leaf_hash(unpacked(body))
            database.execute("insert into audit_leaves values (?, ?, ?)", (index, seq, leaf))
            frontier, nodes = grow(frontier, (leaf,))
            assert nodes == []
            if frontier.size in sizes:
                note = sign_checkpoint(key, Checkpoint(name, frontier.size, root(frontier)))
                nodes_text = orjson.dumps(frontier.to_hex()).decode()
                values = (frontier.size, note, nodes_text, 0)
                database.execute("insert into audit_checkpoints values (?, ?, ?, ?)", values)
    shutil.rmtree(folder / "audit")


def invent(folder: Path, seq: int = 46) -> Callable[[sqlite3.Connection], None]:
    """Put another event in the place of one, by somebody who has every key."""
    return lambda database: _invent(database, lambda record: tag_of(folder, record), seq)


def _invent(database: sqlite3.Connection, tag: Callable[[AuditRecord], bytes], seq: int) -> None:
    record = a_note(database.execute("select max(recorded_ms) from audit_events").fetchone()[0])
    recorded_ms = round(record.recorded.timestamp() * 1000)
    database.execute(
        "update audit_events set id = ?, recorded_ms = ?, body = ?, tag = ? where seq = ?",
        (record.id, recorded_ms, record.body, tag(record), seq),
    )


def test_a_history_written_anew_is_forked_and_needs_a_witness(
    folder: Path, recorded: Recorded
) -> None:
    rewrite(folder, own_key(folder), invent(folder))
    assert verified(folder).holds, "without a witness nothing shows"

    report = verified(folder, *recorded.witnessed)

    assert kinds(report) == {Kind.FORKED}
    assert report.first_bad == FirstBad(Kind.FORKED, 40, 59)


def test_a_second_checkpoint_of_the_same_size_is_a_fork(folder: Path, recorded: Recorded) -> None:
    rewrite(folder, own_key(folder), invent(folder))

    report = verified(folder, recorded.witnessed[-1])

    assert kinds(report) == {Kind.FORKED}
    assert report.first_bad == FirstBad(Kind.FORKED, 0, SIZE - 1)


def test_a_log_cut_and_grown_again_is_forked(folder: Path, recorded: Recorded) -> None:
    cut(folder, 40)
    shutil.rmtree(folder / "audit")
    with reopened(folder) as nadi:
        fill(nadi, SIZE + 10)
    assert verified(folder).holds, "without a witness nothing shows"

    report = verified(folder, *recorded.witnessed)

    assert kinds(report) == {Kind.FORKED}
    assert report.first_bad == FirstBad(Kind.FORKED, 40, 59)


def test_an_entry_removed_and_all_computed_anew_needs_a_witness(
    folder: Path, recorded: Recorded
) -> None:
    def remove(database: sqlite3.Connection) -> None:
        database.execute("delete from audit_events where seq = 25")
        database.execute("update audit_events set seq = -seq where seq > 25")
        database.execute("update audit_events set seq = -seq - 1 where seq < 0")
        database.execute(
            "update sqlite_sequence set seq = ? where name = 'audit_events'", (SIZE - 1,)
        )

    rewrite(folder, own_key(folder), remove)
    assert verified(folder).holds, "without a witness nothing shows"

    report = verified(folder, *recorded.witnessed)

    assert not report.holds
    assert report.first_bad == FirstBad(Kind.FORKED, 20, 39)
