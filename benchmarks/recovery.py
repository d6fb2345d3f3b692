"""Start-up after an unclean stop: how long until a Nadi that was killed is ready again, by size.

A data folder is filled with stored events through the gateway's own intake, in batches: mostly
results that start no route, one in ten a trigger whose patient never consented, so that a refused
job stands there too. Then `nadi up` runs, takes events from several clients at once, and is ended
in the midst of them with SIGKILL, all its processes; what is timed is the next start, from the
command to the first 200 of `/health/ready`, and how long until no job is open any more.

Before each round an empty Nadi is started and timed beside it: what is more than that is due to the
size and to the kill, the rest to the machine and what else runs there.
"""

import contextlib
import itertools
import json
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import orjson
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.arrivals import OTHERS, result
from benchmarks.endpoint import Endpoint, await_ok, free_port
from benchmarks.filling import fill, stored
from benchmarks.folders import prepared
from benchmarks.load import push_all
from benchmarks.workload import Post, make_workload
from gateway.cli.prepare import prepare_data
from gateway.settings import Settings

AIM_S = 10.0
_EVENTS_OF_A_PATIENT = 100
_TRIGGERS = 0.1
_ROUNDS = 3
_LOAD_S = 4.0
_LOAD_EVENTS = 400
_LOAD_CLIENTS = 8
_SETTLE_S = 180.0
_START_WITHIN_S = 300.0
_NADI = (sys.executable, "-m", "gateway.cli.main")


@dataclass
class Recovered:
    """The rounds at one size.

    Attributes:
        events: Stored events, before the first round.
        size_bytes: Of the database's files, as the last kill left them.
        wal_bytes: Of the write-ahead log alone.
        ready_s: From the command until ready, after a kill, by round.
        ready_cpu_s: CPU seconds of all its processes until then.
        empty_s: From the command until ready, of an empty Nadi, by round.
        empty_cpu_s: CPU seconds of all its processes until then.
        settled_s: From ready until no job was open, by round.
    """

    events: int
    size_bytes: int = 0
    wal_bytes: int = 0
    ready_s: list[float] = field(default_factory=list)
    ready_cpu_s: list[float] = field(default_factory=list)
    empty_s: list[float] = field(default_factory=list)
    empty_cpu_s: list[float] = field(default_factory=list)
    settled_s: list[float] = field(default_factory=list)


def run(events: int, folder: Path | None, console: Console) -> bool:
    """Fill, kill and start; show it, and say whether every start stayed within the aim."""
    folder = folder or Path(tempfile.mkdtemp(prefix="bench-recovery-")) / f"events-{events}"
    with console.status("Filling …") as status:
        filled(folder, events, lambda made: status.update(f"{made:,} events stored …"))
    with console.status("Killing and starting …"):
        found = _measure(folder, events)
    _show(found, folder, console)
    return max(found.ready_s) <= AIM_S


def filled(folder: Path, wanted: int, tell: Callable[[int], None]) -> None:
    """Fill a data folder up to so many stored events; what is there already counts."""
    nadi = prepared(folder)
    try:
        there = stored(folder)
        draws = _posts(random.Random(there))  # noqa: S311 - nothing secret
        posts = itertools.islice(draws, max(0, wanted - there))
        fill(nadi, Settings(data_dir=folder), posts, lambda made: tell(there + made))
    finally:
        nadi.store.close()


def _posts(draw: random.Random) -> Iterator[Post]:
    """Give results of ever new patients, without end."""
    while True:
        patient = f"fill-{draw.getrandbits(64):x}"
        for number in range(_EVENTS_OF_A_PATIENT):
            code = "2160-0" if draw.random() < _TRIGGERS else draw.choice(OTHERS)
            made = result(patient, number, code, round(draw.uniform(0.5, 9.0), 2))
            yield Post("/fhir/Observation", orjson.dumps(made), made["id"])


class _Running:
    """One `nadi up --sandbox` on the folder."""

    def __init__(self, folder: Path) -> None:
        self._ports = (free_port(), free_port())
        self._began = time.monotonic()
        command = (*_NADI, "up", "--data-dir", str(folder), "--sandbox")
        command += ("--port", str(self._ports[0]), "--sandbox-port", str(self._ports[1]))
        self._log = (folder.parent / "nadi-up.log").open("ab")
        # The canary leaves events of her own every few minutes.
        self._process = subprocess.Popen(
            command,
            env={**os.environ, "NADI_CANARY_EVERY_S": "0"},
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        token = folder / "credentials" / "ehr.token"
        self.endpoint = Endpoint(self._ports[0], token.read_text("ascii").strip())

    def ready(self) -> tuple[float, float]:
        """Wait until it is ready; give the seconds since it was called, and those of CPU."""
        await_ok(self.endpoint, "/health/ready", within_s=_START_WITHIN_S)
        return time.monotonic() - self._began, self._cpu_s()

    def _cpu_s(self) -> float:
        """Add up what its processes used, also those that have ended."""
        total, root = 0.0, psutil.Process(self._process.pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                used = process.cpu_times()
                total += used.user + used.system + used.children_user + used.children_system
        return total

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let it drain, unless it was killed."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(60)
        self._log.close()

    def kill(self) -> None:
        """End every process of it at once, as a power cut would."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(60)


def _measure(folder: Path, events: int) -> Recovered:
    found = Recovered(events)
    with tempfile.TemporaryDirectory(prefix="bench-empty-") as name:
        empty = Path(name) / "empty"
        prepare_data(Settings(data_dir=empty), sandbox=True)
        for turn in range(_ROUNDS):
            _start_empty(empty, found)
            with _Running(folder) as running:
                running.ready()
                _kill_in_the_midst(running, turn)
            found.size_bytes, found.wal_bytes = _sizes(folder)
            _start_again(folder, found)
    return found


def _start_empty(folder: Path, found: Recovered) -> None:
    with _Running(folder) as running:
        wall_s, cpu_s = running.ready()
    found.empty_s.append(wall_s)
    found.empty_cpu_s.append(cpu_s)


def _start_again(folder: Path, found: Recovered) -> None:
    with _Running(folder) as running:
        wall_s, cpu_s = running.ready()
        began = time.monotonic()
        _await_settled(folder)
        found.settled_s.append(time.monotonic() - began)
    found.ready_s.append(wall_s)
    found.ready_cpu_s.append(cpu_s)


def _kill_in_the_midst(running: _Running, turn: int) -> None:
    """Kill it while clients push."""
    load = make_workload(_LOAD_EVENTS, seed=turn, now=datetime.now(UTC).replace(microsecond=0))

    def push() -> None:
        for posts in (load.records, load.triggers):
            try:
                push_all(running.endpoint, posts, clients=_LOAD_CLIENTS)
            except (OSError, RuntimeError, json.JSONDecodeError):
                return  # it was killed, as it should be

    pushing = threading.Thread(target=push)
    pushing.start()
    time.sleep(_LOAD_S)
    running.kill()
    pushing.join()


def _await_settled(folder: Path) -> None:
    """Wait until no job is open."""
    asked = "select count(*) from jobs where state in ('ready', 'in-progress')"
    limit = time.monotonic() + _SETTLE_S
    connection = sqlite3.connect(folder / "nadi.db")
    try:
        while connection.execute(asked).fetchone()[0]:
            if time.monotonic() > limit:
                raise TimeoutError(f"jobs are open {_SETTLE_S:g} s after the start")
            time.sleep(0.1)
    finally:
        connection.close()


def _sizes(folder: Path) -> tuple[int, int]:
    sizes = {path.name: path.stat().st_size for path in folder.glob("nadi.db*")}
    return sum(sizes.values()), sizes.get("nadi.db-wal", 0)


def _show(found: Recovered, folder: Path, console: Console) -> None:
    sizes = f"{found.size_bytes / 1e9:.2f} GB, write-ahead log {found.wal_bytes / 1e6:.1f} MB"
    console.print(f"{found.events:,} stored events; files as the last kill left them: {sizes}")
    console.print(f"{folder}; load average {os.getloadavg()[0]:.1f}", soft_wrap=True)
    listing = Table(box=None, header_style="bold")
    for column in ("", "wall, median (range)", "CPU, median (range)"):
        listing.add_column(column, no_wrap=True)
    listing.add_row("empty, ready", _spread(found.empty_s), _spread(found.empty_cpu_s))
    listing.add_row("killed, ready", _spread(found.ready_s), _spread(found.ready_cpu_s))
    listing.add_row("killed, nothing open", _spread(found.settled_s))
    console.print(listing)
    console.print(f"Aim: ready within {AIM_S:g} s after a kill.")


def _spread(times: list[float]) -> str:
    return f"{statistics.median(times):.1f} s ({min(times):.1f} to {max(times):.1f})"
