"""`nadi audit verify`: is what the database holds still what was recorded, to the byte?

In this order:

1. the database file is sound (SQLite's own check);
2. every AuditEvent is the canonical JSON it was, and its columns, and the terms that it is found
   by, say what its body says;
3. every leaf of the Merkle log is the hash of its AuditEvent, without a gap, and every checkpoint
   in the database and in the checkpoint file outside it is signed by the key of this log and
   commits to exactly these leaves: a log that was cut is shorter than a checkpoint outside;
4. the master key in use is the one of this database;
5. every row that a record speaks of is there and says the same (`verification_rows`).

Nothing is repaired. What can't be found this way is said in docs/audit.md.

Source: RFC 9162 section 2.1; C2SP tlog-checkpoint.
"""

import itertools
import operator
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from gateway.core.audit import read_record
from gateway.core.audit_event import AuditEventMalformed
from gateway.core.clock import to_ms
from gateway.core.ledger import Frontier, leaf_hash, root
from gateway.core.ledger_nodes import grow
from gateway.store.evidence import Evidence, is_of_job, is_reception, read_claim
from gateway.store.guards import tell_of_guards
from gateway.store.packing import unpacked
from gateway.store.verification_checkpoints import (
    STORED,
    CheckpointVerifier,
    OutsideNote,
    tell_cut_from_rolled_back,
)
from gateway.store.verification_report import Kind, Progress, Verification, as_bytes, rows
from gateway.store.verification_tags import TagVerifier
from gateway.store.verification_terms import TermsVerifier
from gateway.store.verification_times import TimesVerifier

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

#: A leaf and its AuditEvent, or one of these that has no leaf.
Leaf = Mapping[str, Any]

FILE = "checkpoint file"

_LOG_ONLY = (
    "Only the log was looked at, its entries, tree and checkpoints: what stands beside it (jobs, "
    "results, resources, columns) was not compared with it."
)

_BATCH = 2000
#: Most leaves that are looked for elsewhere: each costs a look through all.
_MOST_LOOKED_FOR = 5


class LogVerifier:
    """Goes through the audit log once: bodies, columns, leaves, checkpoints."""

    def __init__(
        self,
        uow: "UnitOfWork",
        verifier: str,
        *,
        outside: list[OutsideNote],
        progress: Progress,
        checks_events: bool,
    ) -> None:
        self._connection = uow.connection
        self._checks_events = checks_events
        self._progress = progress
        self.report = Verification()
        self.evidence = Evidence()
        self._checkpoints = CheckpointVerifier(
            verifier, self._rows(_CHECKPOINTS), outside, self.report
        )
        self._times = TimesVerifier(self.report, is_one_clock=self._is_sqlite)
        self._terms = TermsVerifier(self._connection, self.report, progress)
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._moved_looked_for = 0
        self._has_gap = False
        self._tags = TagVerifier(uow, self.report)

    def run(self) -> None:
        """Go through everything; what is wrong goes into `report`."""
        self._checkpoints.begin()
        frontier = self._walk()
        self.report.size, self.report.root = frontier.size, root(frontier)
        self._times.finish()
        self._check_unplaced(frontier.size)
        self._check_nodes()
        if self._checks_events:
            self._terms.finish()
        if frontier.size != self._checkpoints.newest_size and not self._has_gap:
            self.report.found(STORED, frontier.size, "the newest leaves have none")
        self._checkpoints.finish(frontier)

    def _walk(self) -> Frontier:
        """Go through the leaves in batches; one in which anything is odd, row by row."""
        total = self._scalar("select count(*) from audit_leaves")
        frontier, last_seq = Frontier(), 0
        query = sa.text(_LEAVES if self._checks_events else _BARE_LEAVES)
        result = self._connection.execute(query, execution_options={"yield_per": _BATCH})
        batches = ([_opened(row) for row in each] for each in result.mappings().partitions(_BATCH))
        for batch in batches:
            self._progress("audit events", frontier.size, total)
            digests = _digests(batch, frontier.size, last_seq)
            if digests is None:
                grown = self._walk_singly(batch, frontier, last_seq)
                if self._has_gap:
                    rest = batch[grown.size - frontier.size :]
                    self._go_on(itertools.chain(rest, itertools.chain.from_iterable(batches)))
                    return grown
                frontier = grown
            else:
                self._check_batch(batch)
                frontier = self._grow(frontier, digests)
            last_seq = batch[-1]["audit_seq"]
        self._progress("audit events", total, total)
        return frontier

    def _check_batch(self, batch: Sequence[Leaf]) -> None:
        self.report.count("audit events", len(batch))
        if self._checks_events:
            for row in batch:
                self._check_event(row)
                self._tags.check(row)
                self._times.add(row["leaf_index"], row["audit_seq"], row["recorded_ms"])

    def _grow(self, frontier: Frontier, leaves: Sequence[bytes]) -> Frontier:
        """Append leaf hashes, stopping at every size that a checkpoint commits to."""
        done = 0
        while done < len(leaves):
            stop = self._checkpoints.next_after(frontier.size)
            count = len(leaves) - done if stop is None else stop - frontier.size
            frontier, nodes = grow(frontier, leaves[done : done + count])
            self._nodes |= {(node.first_leaf, node.leaf_count): node.hash for node in nodes}
            self._checkpoints.reached(frontier)
            done += count
        return frontier

    def _walk_singly(self, batch: Sequence[Leaf], frontier: Frontier, last_seq: int) -> Frontier:
        """Name what is odd; the tree ends where a leaf is missing."""
        for row in batch:
            index, seq = row["leaf_index"], row["audit_seq"]
            if index != frontier.size:
                what = f"leaf {frontier.size} is missing before it"
                more: Any = {"kind": Kind.MISSING, "leaf": frontier.size}
                self.report.found("audit_leaves", index, what, seq, **more)
                self._has_gap = True
                break
            if self._is_sqlite and seq < last_seq:
                what = f"AuditEvent {seq} stands after AuditEvent {last_seq}"
                more = {"kind": Kind.REORDERED, "leaf": index}
                self.report.found("audit_leaves", index, what, seq, **more)
            last_seq = seq
            frontier = self._grow(frontier, (self._leaf(row),))
        return frontier

    def _go_on(self, rest: Iterable[Leaf]) -> None:
        """Compare what stands after a gap with its own leaf: it is on record all the same."""
        for row in rest:
            self._leaf(row)

    def _leaf(self, row: Leaf) -> bytes:
        """Check one AuditEvent against its leaf; give the leaf hash that its bytes have."""
        self.report.count("audit events")
        index, seq = row["leaf_index"], row["audit_seq"]
        if row["body"] is None:
            what = f"AuditEvent {seq} of this leaf is gone"
            more: Any = {"kind": Kind.MISSING, "leaf": index}
            self.report.found("audit_leaves", index, what, seq, **more)
            return as_bytes(row["leaf_hash"])
        if self._checks_events:
            self._check_event(row)
            self._times.add(index, seq, row["recorded_ms"])
        digest = leaf_hash(row["body"])
        if digest != row["leaf_hash"]:
            self._check_moved(index, seq, digest)
        elif self._checks_events:
            self._tags.check(row)
        return digest

    def _check_moved(self, index: int, seq: int, digest: bytes) -> None:
        """Say whether the AuditEvent of a leaf that does not fit belongs to another leaf."""
        what, kind = "the leaf is not the hash of its AuditEvent", Kind.CHANGED
        if self._moved_looked_for < _MOST_LOOKED_FOR:
            self._moved_looked_for += 1
            query = sa.text("select leaf_index from audit_leaves where leaf_hash = :digest")
            other = self._connection.execute(query, {"digest": digest}).scalars().first()
            if other is not None:
                what, kind = f"its AuditEvent is that of leaf {other}", Kind.REORDERED
        self.report.found("audit_leaves", index, what, seq, kind=kind, leaf=index)

    def _check_event(self, row: Leaf) -> None:
        seq, found = row["seq"], self.report.found
        try:
            record = read_record(row["body"])
        except AuditEventMalformed:
            found("audit_events", seq, "its body is not what was written", seq)
            return
        expected = {**vars(record), "recorded_ms": to_ms(record.recorded)}
        self._terms.add(seq, expected["recorded_ms"], record)
        for column in _EVENT_COLUMNS:
            if row[column] != expected[column]:
                found("audit_events", seq, f"column {column} does not say what the body says", seq)
        if is_reception(record) or is_of_job(record):
            return
        try:
            self.evidence.add(read_claim(seq, record))
        except (KeyError, TypeError, AttributeError):
            found("audit_events", seq, "its body is no AuditEvent of ours", seq)

    def _check_unplaced(self, size: int) -> None:
        """Look at what has no leaf yet, and for what is not there at all."""
        last = self._scalar("select coalesce(max(audit_seq), 0) from audit_leaves")
        waiting = 0
        for row in map(_opened, self._rows(_UNPLACED)):
            waiting += 1
            self.report.count("audit events")
            if self._checks_events:
                self._check_event(row)
                self._tags.check(row)
            if row["seq"] < last and self._is_sqlite:
                what = "it was left out of the log"
                self.report.found("audit_events", row["seq"], what, kind=Kind.INVENTED)
        if waiting:
            self.report.notes.append(
                f"{waiting} AuditEvents wait for their place in the log; no checkpoint covers "
                "them yet."
            )
        if self._is_sqlite:
            self._check_numbers(size + waiting)

    def _check_nodes(self) -> None:
        """Compare the inner nodes that proofs are read from: one for each 256 leaves."""
        for row in self._rows(_NODES):
            expected = self._nodes.pop((row["first_leaf"], row["leaf_count"]), None)
            if expected is None and self._has_gap:
                continue
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
        is_cut = count == highest < given
        if count != highest or is_cut or (count != known and not self._has_gap):
            what = f"{given} AuditEvents were written, {count} are there"
            kind = Kind.TRUNCATED if is_cut else Kind.MISSING
            leaf = known if is_cut else None
            self.report.found("audit_events", highest, what, kind=kind, leaf=leaf)

    @property
    def _is_sqlite(self) -> bool:
        return self._connection.dialect.name == "sqlite"

    def _scalar(self, query: str) -> int:
        return int(self._connection.execute(sa.text(query)).scalar_one())

    def _rows(self, query: str) -> Iterator[Mapping[str, Any]]:
        yield from rows(self._connection, query)


def verify(
    uow: "UnitOfWork",
    verifier: str,
    *,
    outside: list[str],
    witnessed: Sequence[OutsideNote] = (),
    progress: Progress,
    is_log_only: bool = False,
) -> Verification:
    """Compare everything; the unit of work is only read.

    Args:
        uow: A unit of work that nothing was read in yet.
        verifier: The line of `audit.pub`.
        outside: What `CheckpointFile.notes` gave before the unit of work began.
        witnessed: Notes that come from outside this machine.
        progress: Told how far it is.
        is_log_only: Whether only the bytes of the log are compared with its tree and checkpoints:
            a change of any AuditEvent is seen, one of what stands beside it is not.
    """
    from gateway.store.verification_rows import RowVerifier  # noqa: PLC0415 - it builds on this

    notes = [
        OutsideNote(FILE, f"note {number}", note) for number, note in enumerate(outside, start=1)
    ]
    log = LogVerifier(
        uow,
        verifier,
        outside=[*notes, *witnessed],
        progress=progress,
        checks_events=not is_log_only,
    )
    with _raw_text(uow.connection):
        try:
            _take_snapshot(uow.connection)
            if is_log_only:
                log.run()
                log.report.notes.append(_LOG_ONLY)
            else:
                check_file(uow.connection, log.report)
                tell_of_guards(uow.connection, log.report)
                log.run()
                RowVerifier(uow, log.evidence, log.report, progress).run()
        except DBAPIError as error:
            what = f"it can't be read any further ({type(error).__name__})"
            log.report.found("database", uow.connection.dialect.name, what)
        finally:
            # Nothing was written, and a damaged database can't even end a transaction well.
            uow.connection.rollback()
    tell_cut_from_rolled_back(log.report)
    _tell_what_is_not_shown(log.report, has_file=bool(outside), is_witnessed=bool(witnessed))
    return log.report


def _opened(row: Mapping[Any, Any]) -> Leaf:
    """Give a row with its AuditEvent unpacked, once for all who look; None where it is gone."""
    kept = row["body"]
    return {**row, "body": None if kept is None else unpacked(kept)}


def _digests(batch: Sequence[Leaf], size: int, last_seq: int) -> list[bytes] | None:
    """Give the leaf hashes of a batch in which all is as it should be; None where it is not."""
    if any(row["body"] is None for row in batch):
        return None
    digests = [leaf_hash(row["body"]) for row in batch]
    seqs = [last_seq, *(row["audit_seq"] for row in batch)]
    fits = (
        digests == [row["leaf_hash"] for row in batch]
        and [row["leaf_index"] for row in batch] == list(range(size, size + len(batch)))
        and all(itertools.starmap(operator.lt, itertools.pairwise(seqs)))
    )
    return digests if fits else None


def _tell_what_is_not_shown(report: Verification, *, has_file: bool, is_witnessed: bool) -> None:
    if not report.size:
        return
    if not has_file and not is_witnessed:
        report.notes.append(
            "No checkpoint file lies beside the database: a log cut at its end would look whole."
        )
    if not is_witnessed:
        report.notes.append(
            "Compared with no checkpoint from outside this machine: a log written anew with its "
            "own key would look whole. Name one with --from or --witness."
        )


@contextmanager
def _raw_text(connection: sa.Connection) -> Iterator[None]:
    """Let a text that is no longer UTF-8 be read, so that its row can be named; sort in files."""
    driver: Any = connection.connection.driver_connection
    if connection.dialect.name != "sqlite":
        yield
        return
    driver.text_factory = lambda raw: raw.decode("utf-8", "replace")
    # What is sorted here may be larger than the memory there is.
    driver.execute("PRAGMA temp_store=FILE")
    try:
        yield
    finally:
        driver.text_factory = str
        # A damaged database may leave a sort unfinished, and then this can't be changed any more.
        with suppress(sqlite3.OperationalError):
            driver.execute("PRAGMA temp_store=MEMORY")


def _take_snapshot(connection: sa.Connection) -> None:
    """Let all that is read be of one moment; SQLite's transactions are so anyway."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")


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
_COLUMNS = ", ".join(f"e.{name}" for name in ("seq", *_EVENT_COLUMNS, "body", "tag"))
# Fixed column names from above, no outside value.
_LEAVES = (
    f"select l.leaf_index, l.audit_seq, l.leaf_hash, {_COLUMNS} from audit_leaves l "  # noqa: S608
    "left join audit_events e on e.seq = l.audit_seq order by l.leaf_index"
)
_BARE_LEAVES = (
    "select l.leaf_index, l.audit_seq, l.leaf_hash, e.body from audit_leaves l "
    "left join audit_events e on e.seq = l.audit_seq order by l.leaf_index"
)
_UNPLACED = (
    f"select {_COLUMNS} from audit_events e where not exists "  # noqa: S608
    "(select 1 from audit_leaves l where l.audit_seq = e.seq) order by e.seq"
)
_NODES = "select first_leaf, leaf_count, hash from audit_nodes order by first_leaf, leaf_count"
_CHECKPOINTS = "select size, note, frontier from audit_checkpoints order by size"
