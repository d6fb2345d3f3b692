"""Gather the evidence of a run: the database by SQL, the EHR's journal, logs, metrics, broker."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx
import redis
import sqlalchemy as sa

from gateway.broker import BROKER_ERRORS
from tests.chaos.arena import Arena
from tests.chaos.evidence import TABLES, Evidence, Row
from tests.chaos.faults import broker_of, log_files
from tests.chaos.load import Record

_LOOK_EVERY_S = 2.0
_MOST_ITEMS = 1000


@dataclass
class Overheard:
    """What the broker held and the metrics said while a run went on, as one text each."""

    broker: bytearray = field(default_factory=bytearray)
    metrics: bytearray = field(default_factory=bytearray)
    looks: int = 0


class Listener:
    """Looks into broker and metrics now and then, until the block ends."""

    def __init__(self, arena: Arena) -> None:
        self.overheard = Overheard()
        self._arena = arena
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._stopped.wait(_LOOK_EVERY_S):
            self._look()

    def _look(self) -> None:
        with suppress(*BROKER_ERRORS):
            for content in _contents(self._arena):
                self.overheard.broker += content + b"\n"
            self.overheard.looks += 1
        with suppress(httpx.HTTPError):
            said = httpx.get(f"{self._arena.nadi.base}/metrics", timeout=3)
            # The newest says all that those before it said.
            self.overheard.metrics[:] = said.content if said.is_success else b""


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


def collect(arena: Arena, record: Record, overheard: Overheard, marks: Sequence[bytes]) -> Evidence:
    """Gather everything, after the stop."""
    texts = {path.name: path.read_bytes() for path in log_files(arena)}
    for path in sorted((arena.data / "run").rglob("*")):
        if path.is_file():
            texts[f"run/{path.name}"] = path.read_bytes()
    texts["broker"] = bytes(overheard.broker)
    texts["metrics"] = bytes(overheard.metrics)
    # Before the verification, which leaves an AuditEvent of its own.
    tables = _tables(arena)
    verified = arena.nadi.nadi("audit", "verify", check=False)
    return Evidence(
        acknowledged=record.acknowledged,
        answers=record.answers,
        strange=[f"{count} times {what}" for what, count in record.strange.items()],
        tables=tables,
        ehr=list(_journal(arena.data / "sandbox-ehr.journal")),
        texts=texts,
        marks=marks,
        verified=(verified.returncode, verified.stdout + verified.stderr),
        processes=[
            *arena.orphans,
            *(" ".join(each.cmdline())[:80] for each in arena.processes()),
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
                dict(row)
                for row in connection.execute(sa.text(_SELECT.format(columns, table))).mappings()
            ]
            for table, columns in TABLES.items()
        }
    engine.dispose()
    return found


_SELECT = "select {} from {} order by 1"


def _journal(path: Path) -> Iterator[Row]:
    with path.open("rb") as lines:
        for line in lines:
            yield from json.loads(line)
