"""B6: the audit log, against a hash chain row by row in such a database, and against none.

Each contestant has a database file of its own with the schema of Nadi. A transaction puts down
some rows of work and, but for "none", the AuditEvents of it, made beforehand and the same for all:

* Nadi appends them and later, as the relay does, gives them their leaves in the Merkle log, which
  is counted in;
* the chain reads the newest hash once per transaction, hashes event after event and inserts them
  together, which is as fast as a chain can be had without leaving the database.

Nadi's rows are also found by job, patient, event and term (five indexes and a table); the chain's
by nothing.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy.exc import OperationalError

from benchmarks.figures import Sample, Turn, by_turns, comparison, condensed
from benchmarks.folders import prepared
from benchmarks.result import Chart, Result, Scale, told
from gateway.core.audit import AuditRecord, Source, Step, job_changed
from gateway.core.clock import new_id, utc_now
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.installation import Installation
from gateway.store.unit_of_work import UnitOfWork
from gateway.store.verification import verify

_US = 1e6
_BATCH = 64
_TABLES = (
    "create table work (id text primary key, body blob not null)",
    "create table chain (seq integer primary key, body blob not null, hash blob not null)",
)
_WORK = b"\0" * 300

Append = Callable[[UnitOfWork, Sequence[AuditRecord]], None]


@dataclass
class _Contestant:
    """One way of keeping an audit log, with a database of its own.

    Attributes:
        append: Puts records into a transaction.
        appended: How many so far.
    """

    name: str
    folder: Path
    nadi: Installation
    append: Append
    appended: int = 0

    def finish(self) -> None:
        """Do what was put off."""
        if self.name != _NADI:
            return
        with self.nadi.store.write() as uow:
            uow.audit_log.integrate(self.nadi.keys.signing, self.nadi.keys.origin)
            note = uow.audit_log.newest_checkpoint()
        CheckpointFile(self.folder).append(note or "")

    def size(self) -> int:
        """Give the size of the database's file, all of the write-ahead log brought home."""
        with self.nadi.store.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        return (self.folder / "nadi.db").stat().st_size


_NADI, _CHAIN, _NONE = "Nadi (Merkle log)", "hash chain per row", "no audit"


def run(scale: Scale) -> Result:
    """Measure appending with one writer and with eight, verifying, and size."""
    with _contestants() as contestants:
        before = {each.name: each.size() for each in contestants}
        turns = {each.name: _turn(each, scale) for each in contestants}
        cost = condensed(by_turns(turns, scale.pick(5, 1), scale.tell, scale.within_s))
        bytes_each = {each.name: (each.size() - before[each.name]) for each in contestants}
        counts = {each.name: each.appended for each in contestants}
        beyond = _log_bytes(contestants[0])
        scale.tell("verifying")
        verified, failed = _verified(contestants)
    per_event = {name: bytes_each[name] / counts[name] for name in bytes_each}
    none = cost[_NONE]
    grouped = f"CPU µs per event, 1 writer, {_BATCH} a commit"
    extra = {name: each[grouped].median - none[grouped].median for name, each in cost.items()}
    stored = [
        (name, f"{extra[name]:.1f}", f"{per_event[name] - per_event[_NONE]:,.0f}", verified[name])
        for name in (_NADI, _CHAIN)
    ]
    return Result(
        number="B6",
        name="audit",
        title="Audit: against a hash chain per row in the same database, and against none",
        fairness="SQLite, WAL, synchronous=FULL for all; SHA-256 for both; the same AuditEvents, "
        "made beforehand. Nadi's are found by job, patient, event and term, the chain's only by "
        "number.",
        tables={
            "Appending": comparison(cost),
            "What an event costs beyond no audit": [
                ("log", "µs of CPU", "bytes with indexes", "verified per second"),
                *stored,
            ],
            "The Merkle log beyond the row, bytes per event": [
                ("leaves, nodes and checkpoints with their indexes",),
                (told(beyond),),
            ],
        },
        values={
            **({} if beyond is None else {"log_bytes": beyond}),
            "nadi_extra_us": extra[_NADI],
            "chain_extra_us": extra[_CHAIN],
            "nadi_verified_per_s": float(verified[_NADI].replace(",", "")),
            "chain_verified_per_s": float(verified[_CHAIN].replace(",", "")),
        },
        charts=[
            Chart(
                f"An event appended ({_BATCH} a commit)",
                "µs of CPU",
                bars={name: each[grouped].median for name, each in cost.items()},
            )
        ],
        failed=failed,
    )


@contextmanager
def _contestants() -> Iterator[list[_Contestant]]:
    ways: Mapping[str, Append] = {
        _NADI: lambda uow, records: uow.audit(*records),
        _CHAIN: _chain,
        _NONE: lambda _uow, _records: None,
    }
    with TemporaryDirectory(prefix="bench-audit-") as name:
        made = []
        for number, (way, append) in enumerate(ways.items()):
            folder = Path(name) / str(number)
            nadi = prepared(folder)
            with nadi.store.write() as uow:
                for table in _TABLES:
                    uow.connection.exec_driver_sql(table)
            made.append(_Contestant(way, folder, nadi, append))
        yield made
        for each in made:
            each.nadi.store.close()


def _log_bytes(nadi: _Contestant) -> float | None:
    """Weigh what the log keeps beside its rows; None where SQLite can't weigh its tables."""
    pages = (
        "select sum(pgsize) from dbstat where name in (select name from sqlite_master where "
        "tbl_name in ('audit_leaves', 'audit_nodes', 'audit_checkpoints'))"
    )
    with nadi.nadi.store.engine.connect() as connection:
        try:
            held = connection.exec_driver_sql(pages).scalar_one()
        except OperationalError:
            return None
        leaves = connection.exec_driver_sql("select count(*) from audit_leaves").scalar_one()
    return float(held) / float(leaves)


def _chain(uow: UnitOfWork, records: Sequence[AuditRecord]) -> None:
    """Append to the chain: each hash covers the one before it and the event."""
    newest = "select hash from chain order by seq desc limit 1"
    last = uow.connection.exec_driver_sql(newest).scalar() or b""
    rows = []
    for record in records:
        last = hashlib.sha256(last + record.body).digest()
        rows.append((record.body, last))
    uow.connection.exec_driver_sql("insert into chain (body, hash) values (?, ?)", rows)


def _turn(contestant: _Contestant, scale: Scale) -> Turn:
    events = scale.pick(4096, 512)

    def turn(_: int) -> Sample:
        sample: dict[str, float] = {}
        for writers, size, count in ((1, _BATCH, events), (8, _BATCH, events), (8, 1, events // 8)):
            wall, cpu = _append(contestant, writers, size, count)
            what = f"{writers} writer{'s' if writers > 1 else ''}, {size} a commit"
            sample[f"events/s, {what}"] = count / wall
            sample[f"CPU µs per event, {what}"] = cpu / count * _US
        return sample

    return turn


def _append(contestant: _Contestant, writers: int, size: int, count: int) -> tuple[float, float]:
    """Append so many events; give the seconds on the clock and those of CPU."""
    each = count // writers
    parts = [_records(each) for _ in range(writers)]
    ready = threading.Barrier(writers + 1)

    def write(records: Sequence[AuditRecord]) -> None:
        ready.wait()
        for start in range(0, len(records), size):
            part = records[start : start + size]
            with contestant.nadi.store.write() as uow:
                uow.connection.exec_driver_sql(
                    "insert into work values (?, ?)", [(record.id, _WORK) for record in part]
                )
                contestant.append(uow, part)

    with ThreadPoolExecutor(writers) as pool:
        running = [pool.submit(write, part) for part in parts]
        ready.wait()
        began, spent = time.perf_counter(), time.process_time()
        for future in running:
            future.result()
        contestant.finish()
        wall, cpu = time.perf_counter() - began, time.process_time() - spent
    contestant.appended += each * writers
    return wall, cpu


def _records(count: int) -> list[AuditRecord]:
    """Make the AuditEvents of jobs that were admitted; there is no patient in them."""
    source = Source("site", "measure")
    made = []
    for _ in range(count):
        step = Step(
            id=new_id(), recorded=utc_now(), source=source, job_id=new_id(), event_id=new_id()
        )
        made.append(job_changed(step, "admit", state="ready", business_status="queued"))
    return made


def _verified(contestants: Sequence[_Contestant]) -> tuple[dict[str, str], list[str]]:
    """Give the events verified per second of CPU, and what was found wrong."""
    speeds, failed = {}, []
    for each, check in zip(contestants, (_verify_log, _verify_chain), strict=False):
        began = time.process_time()
        count, is_sound = check(each)
        speeds[each.name] = f"{count / (time.process_time() - began):,.0f}"
        if not is_sound or count < each.appended:
            failed.append(f"{each.name} does not verify.")
    return speeds, failed


def _verify_log(contestant: _Contestant) -> tuple[int, bool]:
    notes = CheckpointFile(contestant.folder).notes()
    with contestant.nadi.store.read() as uow:
        report = verify(
            uow,
            contestant.nadi.keys.verifier,
            outside=notes,
            progress=lambda *_: None,
            is_log_only=True,
        )
    return report.size, report.holds


def _verify_chain(contestant: _Contestant) -> tuple[int, bool]:
    last, count = b"", 0
    with contestant.nadi.store.read() as uow:
        rows = uow.connection.exec_driver_sql("select body, hash from chain order by seq")
        for body, digest in rows:
            last = hashlib.sha256(last + body).digest()
            if last != digest:
                return count, False
            count += 1
    return count, True
