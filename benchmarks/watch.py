"""Looks at a running Nadi every few seconds: memory, descriptors, CPU, files, queue."""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.machine import cpu_seconds, descriptors, pss_bytes
from benchmarks.systems import Running

_READY = "select count(*) from jobs where state = 'ready'"
_OPEN = "select count(*) from jobs where state in ('ready', 'in-progress')"
_BUSY_S = 5.0


@dataclass(frozen=True)
class Reading:
    """One look.

    Attributes:
        at_s: Seconds since the watch began.
        pss_bytes: By process; shared pages are shared out.
        descriptors: Open file descriptors by process.
        cpu_s: CPU seconds by process, since its start.
        database_bytes: Of the database's file.
        wal_bytes: Of its write-ahead log's.
        ready: Jobs that wait for a worker.
    """

    at_s: float
    pss_bytes: Mapping[str, int]
    descriptors: Mapping[str, int]
    cpu_s: Mapping[str, float]
    database_bytes: int
    wal_bytes: int
    ready: int

    def as_json(self) -> dict[str, Any]:
        """Give it as plain JSON."""
        return asdict(self)


class Watch:
    """Looks again and again, in a thread, for the length of its block.

    Attributes:
        readings: What it saw so far.
    """

    def __init__(
        self, running: Running, folder: Path, *, every_s: float, tell: Callable[[Reading], None]
    ) -> None:
        """Watch one Nadi.

        Args:
            running: Its processes.
            folder: Its data folder, with an SQLite database.
            every_s: Pause between two looks.
            tell: Told each reading.
        """
        self._running, self._folder = running, folder
        self._every_s, self._tell = every_s, tell
        self._began = time.monotonic()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._keep_looking)
        self.readings: list[Reading] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def await_nothing_open(self, within_s: float) -> bool:
        """Wait until no job is open; False when some still are."""
        limit = time.monotonic() + within_s
        while self._count(_OPEN):
            if time.monotonic() > limit:
                return False
            time.sleep(0.5)
        return True

    def _keep_looking(self) -> None:
        due = time.monotonic()
        while not self._is_over.wait(max(due - time.monotonic(), 0)):
            self.readings.append(self._look())
            self._tell(self.readings[-1])
            due += self._every_s

    def _look(self) -> Reading:
        roots, database = self._running.roots, self._folder / "nadi.db"
        return Reading(
            at_s=time.monotonic() - self._began,
            pss_bytes=pss_bytes(roots),
            descriptors=descriptors(roots),
            cpu_s=cpu_seconds(roots),
            database_bytes=_size(database),
            wal_bytes=_size(database.with_name("nadi.db-wal")),
            ready=self._count(_READY),
        )

    def _count(self, query: str) -> int:
        # Opened anew each time: a reader that stays keeps the write-ahead log from being emptied.
        address = f"file:{self._folder / 'nadi.db'}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=_BUSY_S)) as connection:
            return int(connection.execute(query).fetchone()[0])


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
