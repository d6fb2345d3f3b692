"""Gather the evidence of a run: the database by SQL, the EHR's journal, logs, metrics, broker."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import redis
import sqlalchemy as sa

from gateway.broker import BROKER_ERRORS
from gateway.store.packing import unpacked
from tests.chaos.arena import Arena
from tests.chaos.evidence import TABLES, Evidence, Row
from tests.chaos.faults import broker_of, log_files
from tests.chaos.lab import locate
from tests.chaos.load import Record
from tests.running import TLS, is_ready, shown, wait_until

_MOST_ITEMS = 1000
_READY_WITHIN_S = 600.0


@dataclass
class Overheard:
    """What the broker held and the metrics said while a run went on, as one text each."""

    arena: Arena
    broker: bytearray = field(default_factory=bytearray)
    metrics: bytearray = field(default_factory=bytearray)

    def look(self) -> None:
        """Look into both."""
        with suppress(*BROKER_ERRORS):
            for content in _contents(self.arena):
                self.broker += content + b"\n"
        with suppress(httpx.HTTPError):
            said = httpx.get(f"{self.arena.nadi.base}/metrics", timeout=3, verify=TLS)
            # The newest says all that those before it said.
            self.metrics[:] = said.content if said.is_success else b""


@dataclass
class Arrivals:
    """When results reached the EHR, from its journal.

    Attributes:
        at_s: By the monotonic clock, one for each result.
    """

    arena: Arena
    at_s: list[float] = field(default_factory=list)
    _place: int = 0

    def look(self) -> None:
        """Read what is new in the journal."""
        kind = self.arena.simulator.kept_as
        with self.arena.journal.open("rb") as file:
            file.seek(self._place)
            whole, end, _ = file.read().rpartition(b"\n")
        self._place += len(whole) + len(end)
        written = (each for line in whole.splitlines() for each in json.loads(line))
        new = sum(each["type"] == kind and each["version"] == 1 for each in written)
        self.at_s += [time.monotonic()] * new


def worklist_of(arena: Arena) -> Sequence[Row]:
    """Read what stays with Nadi where the EHR takes no result, as a clinician does, all pages."""
    found: list[Row] = []
    if arena.simulator.kept_as:
        return found
    # What was struck last may be starting still.
    wait_until(lambda: is_ready(arena.nadi), within_s=_READY_WITHIN_S, what="it is ready")
    with arena.nadi.client("clinician") as client:
        url: str | None = "/fhir/Observation?worklist=true&_count=100"
        while url:
            answer = client.get(url).raise_for_status().json()
            found += [entry["resource"] for entry in answer.get("entry", ())]
            links = {link["relation"]: link["url"] for link in answer.get("link", ())}
            url = links.get("next")
    return found


def _contents(arena: Arena) -> Iterator[bytes]:
    if arena.rabbit is not None:
        yield from arena.rabbit.contents()
        return
    with broker_of(arena) as client:
        yield from _kept(client)


def _kept(client: redis.Redis) -> Iterator[bytes]:
    for key in client.scan_iter(count=100):
        yield bytes(key)
        kind = client.type(key)
        if kind == b"list":
            yield from client.lrange(key, 0, _MOST_ITEMS)
        elif kind == b"hash":
            yield from (part for pair in client.hgetall(key).items() for part in pair)
        elif kind == b"zset":
            yield from client.zrange(key, 0, _MOST_ITEMS)
        elif kind == b"set":
            yield from client.sscan_iter(key)
        elif kind == b"string":
            yield client.get(key) or b""


def collect(
    arena: Arena,
    record: Record,
    overheard: Overheard,
    *,
    marks: Sequence[bytes],
    worklist: Sequence[Row],
) -> Evidence:
    """Gather everything, after the stop; the record learns which events its messages became."""
    texts = {path.name: path.read_bytes() for path in log_files(arena)}
    for path in sorted((arena.data / "run").rglob("*")):
        if path.is_file():
            texts[f"run/{path.name}"] = path.read_bytes()
    texts["broker"] = bytes(overheard.broker)
    texts["metrics"] = bytes(overheard.metrics)
    # Before the verification, which leaves an AuditEvent of its own.
    tables = _tables(arena)
    located = locate(record.messages, tables["events"], record.acknowledged)
    record.acknowledged += located.acknowledged
    verified = arena.nadi.process_of("audit", "verify", check=False)
    return Evidence(
        acknowledged=record.acknowledged,
        answers={**record.answers, **located.answers},
        strange=[f"{count} times {what}" for what, count in record.strange.items()],
        tables=tables,
        simulator=arena.simulator,
        worklist=worklist,
        ehr=list(_journal(arena.journal)),
        texts=texts,
        marks=marks,
        verified=(verified.returncode, verified.stdout + verified.stderr),
        processes=[
            *arena.orphans,
            *(shown(each)[:80] for each in arena.processes()),
        ],
        files=[
            str(path.relative_to(arena.data)) for path in arena.data.rglob("*") if path.is_file()
        ],
    )


def _tables(arena: Arena) -> Mapping[str, Sequence[Row]]:
    url = arena.database_url or f"sqlite:///{arena.data / 'nadi.db'}"
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        found = {
            table: [
                _opened(row)
                for row in connection.execute(sa.text(_SELECT.format(columns, table))).mappings()
            ]
            for table, columns in TABLES.items()
        }
    engine.dispose()
    return found


_SELECT = "select {} from {} order by 1"


def _opened(row: Row) -> Row:
    """Give a row, and the body of an AuditEvent as what it says."""
    return {**row, "body": unpacked(row["body"])} if "body" in row else dict(row)


def _journal(path: Path) -> Iterator[Row]:
    with path.open("rb") as lines:
        for line in lines:
            yield from json.loads(line)
