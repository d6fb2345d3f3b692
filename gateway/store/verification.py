"""`nadi audit verify`: is what the database holds still what was recorded, to the byte?

In this order:

1. the database file is sound (SQLite's own check);
2. every AuditEvent is the canonical JSON it was, and its columns say what its body says;
3. every leaf of the Merkle log is the hash of its AuditEvent, without a gap, and every checkpoint
   in the database and in the checkpoint file outside it is signed by the key of this log and
   commits to exactly these leaves: a log that was cut is shorter than a checkpoint outside;
4. the master key in use is the one of this database;
5. every row that a record speaks of is there and says the same (`verification_rows`).

Nothing is repaired. What can't be found this way is said in docs/audit.md.

Source: RFC 9162 section 2.1; C2SP tlog-checkpoint.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from gateway.core.audit import read_record
from gateway.core.audit_event import AuditEventMalformed
from gateway.core.clock import to_ms
from gateway.core.ledger import (
    Checkpoint,
    CheckpointInvalid,
    Frontier,
    leaf_hash,
    read_verifier_key,
    root,
    verify_checkpoint,
)
from gateway.core.ledger_nodes import grow
from gateway.store.evidence import Evidence, read_claim

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

#: Called with the name of the phase, and how many of how many rows are done.
Progress = Callable[[str, int, int], None]

_BATCH = 2000


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is not as it was recorded.

    Attributes:
        table: Table, or `checkpoint file`.
        row: Its key.
        what: What is wrong with it; never a patient value.
        audit_event: Number of the AuditEvent that shows it, if one does.
        leaves: Of a checkpoint that is sound but no longer fits the log: how many it commits to.
    """

    table: str
    row: str
    what: str
    audit_event: int | None = None
    leaves: int | None = None


@dataclass
class Verification:
    """What was looked at and what was found."""

    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counted: dict[str, int] = field(default_factory=dict)
    size: int = 0
    root: bytes = b""

    @property
    def holds(self) -> bool:
        """Whether everything is as it was recorded."""
        return not self.findings

    def found(
        self,
        table: str,
        row: object,
        what: str,
        audit_event: int | None = None,
        *,
        leaves: int | None = None,
    ) -> None:
        """Put a finding on the list."""
        self.findings.append(Finding(table, str(row), what, audit_event, leaves))

    def count(self, what: str, number: int = 1) -> None:
        """Count what was looked at."""
        self.counted[what] = self.counted.get(what, 0) + number


class LogVerifier:
    """Goes through the audit log once: bodies, columns, leaves, checkpoints."""

    def __init__(
        self, uow: "UnitOfWork", verifier: str, *, outside: list[str], progress: Progress
    ) -> None:
        self._connection = uow.connection
        self._verifier = verifier
        self._outside = outside
        self._progress = progress
        self.report = Verification()
        self.evidence = Evidence()
        self._roots: dict[int, bytes] = {}
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._frontiers: dict[int, list[str]] = {}

    def run(self) -> None:
        """Go through everything; what is wrong goes into `report`."""
        checkpoints = [dict(row) for row in self._rows(_CHECKPOINTS)]
        notes = [(str(row["note"]), row["size"]) for row in checkpoints]
        wanted = {size for _, size in notes} | {
            found.size for note in self._outside if (found := self._open(note))
        }
        frontier = self._walk(wanted)
        self.report.size, self.report.root = frontier.size, root(frontier)
        self._check_unplaced(frontier.size)
        self._check_nodes()
        for row in checkpoints:
            self._check_checkpoint(row)
        for index, note in enumerate(self._outside):
            self._check_note("checkpoint file", f"note {index + 1}", note)
        if frontier.size and not self._outside:
            self.report.notes.append(
                "There is no checkpoint file beside the database: a log that was cut at its end "
                "can't be told from a shorter one."
            )
        if frontier.size and frontier.size not in {row["size"] for row in checkpoints}:
            self.report.found("audit_checkpoints", frontier.size, "the newest leaves have none")

    def _walk(self, wanted: set[int]) -> Frontier:
        total = self._scalar("select count(*) from audit_leaves")
        frontier = Frontier()
        self._keep(frontier, wanted)
        for expected, row in enumerate(self._rows(_LEAVES)):
            if row["leaf_index"] != expected:
                what = f"leaf {expected} is missing before it"
                self.report.found("audit_leaves", row["leaf_index"], what, row["audit_seq"])
                break
            frontier, nodes = grow(frontier, (self._leaf(row),))
            self._nodes |= {(node.first_leaf, node.leaf_count): node.hash for node in nodes}
            self._keep(frontier, wanted)
            if expected % _BATCH == 0:
                self._progress("audit events", expected, total)
        self._progress("audit events", total, total)
        return frontier

    def _leaf(self, row: Mapping[str, Any]) -> bytes:
        """Check one AuditEvent against its leaf; give the leaf hash that its bytes have."""
        self.report.count("audit events")
        if row["body"] is None:
            what = f"AuditEvent {row['audit_seq']} of this leaf is gone"
            self.report.found("audit_leaves", row["leaf_index"], what, row["audit_seq"])
            return as_bytes(row["leaf_hash"])
        self._check_event(row)
        digest = leaf_hash(as_bytes(row["body"]))
        if digest != row["leaf_hash"]:
            what = "the leaf is not the hash of its AuditEvent"
            self.report.found("audit_leaves", row["leaf_index"], what, row["seq"])
        return digest

    def _check_event(self, row: Mapping[str, Any]) -> None:
        seq = row["seq"]
        try:
            record = read_record(as_bytes(row["body"]))
        except AuditEventMalformed:
            self.report.found("audit_events", seq, "its body is not what was written", seq)
            return
        expected = {**vars(record), "recorded_ms": to_ms(record.recorded)}
        for column in _EVENT_COLUMNS:
            if row[column] != expected[column]:
                what = f"column {column} does not say what the body says"
                self.report.found("audit_events", seq, what, seq)
        try:
            self.evidence.add(read_claim(seq, record))
        except (KeyError, TypeError, AttributeError):
            self.report.found("audit_events", seq, "its body is no AuditEvent of ours", seq)

    def _check_unplaced(self, size: int) -> None:
        """Look at what has no leaf yet, and for what is not there at all."""
        last = self._scalar("select coalesce(max(audit_seq), 0) from audit_leaves")
        waiting = list(self._rows(_UNPLACED))
        for row in waiting:
            self.report.count("audit events")
            self._check_event(row)
            if row["seq"] < last and self._is_sqlite:
                self.report.found("audit_events", row["seq"], "it was left out of the log")
        if waiting:
            self.report.notes.append(
                f"{len(waiting)} AuditEvents wait for their place in the log; no checkpoint "
                "covers them yet."
            )
        if self._is_sqlite:
            self._check_numbers(size + len(waiting))

    def _check_nodes(self) -> None:
        """Compare the inner nodes that proofs are read from: one for each 256 leaves."""
        for row in self._rows(_NODES):
            expected = self._nodes.pop((row["first_leaf"], row["leaf_count"]), None)
            if expected is None:
                what = f"the log has no node of {row['leaf_count']} leaves here"
                self.report.found("audit_nodes", row["first_leaf"], what)
            elif as_bytes(row["hash"]) != expected:
                what = f"its node of {row['leaf_count']} leaves is not that of the log"
                self.report.found("audit_nodes", row["first_leaf"], what)
        for first_leaf, leaf_count in self._nodes:
            what = f"its node of {leaf_count} leaves is not there"
            self.report.found("audit_nodes", first_leaf, what)

    def _check_numbers(self, known: int) -> None:
        """On SQLite numbers have no gaps, and the last one given is on record."""
        count, highest = self._connection.execute(
            sa.text("select count(*), coalesce(max(seq), 0) from audit_events")
        ).one()
        given = self._scalar(
            "select coalesce(max(seq), 0) from sqlite_sequence where name = 'audit_events'"
        )
        if count != highest or highest != given or count != known:
            what = f"{given} AuditEvents were written, {count} are there"
            self.report.found("audit_events", highest, what)

    def _check_checkpoint(self, row: Mapping[str, Any]) -> None:
        size = row["size"]
        opened = self._check_note("audit_checkpoints", size, str(row["note"]))
        if opened and opened.size != size:
            self.report.found("audit_checkpoints", size, f"its note is about {opened.size} leaves")
        try:
            stored = orjson.loads(str(row["frontier"]))
        except orjson.JSONDecodeError:
            stored = None
        if size in self._frontiers and stored != self._frontiers[size]:
            misfits = opened is not None and opened.root != self._roots.get(opened.size)
            what = "its frontier is not that of the log"
            self.report.found("audit_checkpoints", size, what, leaves=size if misfits else None)

    def _check_note(self, table: str, name: object, note: str) -> Checkpoint | None:
        self.report.count("checkpoints")
        opened = self._open(note)
        if opened is None:
            self.report.found(table, name, "it is not signed by the key of this log")
        elif opened.size not in self._roots:
            what = f"it commits to {opened.size} leaves; the log has {self.report.size}"
            self.report.found(table, name, what, leaves=opened.size)
        elif opened.root != self._roots[opened.size]:
            what = f"its first {opened.size} leaves are not those it commits to"
            self.report.found(table, name, what, leaves=opened.size)
        return opened

    def _open(self, note: str) -> Checkpoint | None:
        try:
            name, key = read_verifier_key(self._verifier)
            return verify_checkpoint(note, key, origin=name)
        except CheckpointInvalid:
            return None

    def _keep(self, frontier: Frontier, wanted: set[int]) -> None:
        if frontier.size in wanted:
            self._roots[frontier.size] = root(frontier)
            self._frontiers[frontier.size] = frontier.to_hex()

    @property
    def _is_sqlite(self) -> bool:
        return self._connection.dialect.name == "sqlite"

    def _scalar(self, query: str) -> int:
        return int(self._connection.execute(sa.text(query)).scalar_one())

    def _rows(self, query: str) -> Iterator[Mapping[str, Any]]:
        yield from rows(self._connection, query)


def rows(connection: sa.Connection, query: str) -> Iterator[Mapping[str, Any]]:
    """Stream rows as the database holds them: no type of ours may hide a changed value."""
    result = connection.execute(sa.text(query), execution_options={"yield_per": _BATCH})
    for row in result.mappings():
        yield dict(row)


def verify(
    uow: "UnitOfWork", verifier: str, *, outside: list[str], progress: Progress
) -> Verification:
    """Compare everything; the unit of work is only read.

    Args:
        uow: A unit of work that nothing was read in yet.
        verifier: The line of `audit.pub`.
        outside: What `CheckpointFile.notes` gave before the unit of work began.
        progress: Told how far it is.
    """
    from gateway.store.verification_rows import RowVerifier  # noqa: PLC0415 - it builds on this

    log = LogVerifier(uow, verifier, outside=outside, progress=progress)
    with _raw_text(uow.connection):
        try:
            _take_snapshot(uow.connection)
            check_file(uow.connection, log.report)
            log.run()
            RowVerifier(uow, log.evidence, log.report, progress).run()
        except DBAPIError as error:
            what = f"it can't be read any further ({type(error).__name__})"
            log.report.found("database", uow.connection.dialect.name, what)
        finally:
            # Nothing was written, and a damaged database can't even end a transaction well.
            uow.connection.rollback()
    return log.report


@contextmanager
def _raw_text(connection: sa.Connection) -> Iterator[None]:
    """Let a text that is no longer UTF-8 be read, so that its row can be named."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name != "sqlite":
        yield
        return
    driver.text_factory = lambda raw: raw.decode("utf-8", "replace")
    try:
        yield
    finally:
        driver.text_factory = str


def _take_snapshot(connection: sa.Connection) -> None:
    """Let all that is read be of one moment; SQLite's transactions are so anyway."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


def as_bytes(value: object) -> bytes:
    """Give a value as bytes, whatever type it was turned into."""
    return bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()


def check_file(connection: sa.Connection, report: Verification) -> None:
    """Let SQLite check its own file; PostgreSQL checks its pages as it reads them."""
    if connection.dialect.name != "sqlite":
        return
    try:
        lines = connection.exec_driver_sql("PRAGMA integrity_check(20)").scalars().all()
    except DBAPIError:
        lines = ["the file can't be read as a database"]
    for line in lines:
        if line != "ok":
            report.found("database file", "PRAGMA integrity_check", str(line))


_EVENT_COLUMNS = (
    "id",
    "recorded_ms",
    "event",
    "action",
    "outcome",
    "patient_key",
    "job_id",
    "event_id",
)
_COLUMNS = ", ".join(f"e.{name}" for name in ("seq", *_EVENT_COLUMNS, "body"))
# Fixed column names from above, no outside value.
_LEAVES = (
    f"select l.leaf_index, l.audit_seq, l.leaf_hash, {_COLUMNS} from audit_leaves l "  # noqa: S608
    "left join audit_events e on e.seq = l.audit_seq order by l.leaf_index"
)
_UNPLACED = (
    f"select {_COLUMNS} from audit_events e where not exists "  # noqa: S608
    "(select 1 from audit_leaves l where l.audit_seq = e.seq) order by e.seq"
)
_NODES = "select first_leaf, leaf_count, hash from audit_nodes order by first_leaf, leaf_count"
_CHECKPOINTS = "select size, note, frontier from audit_checkpoints order by size"
