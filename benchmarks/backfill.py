"""A backfill that is killed in its midst: does it go on, is anything twice, how much memory is it?

A stand-in EHR holds so many synthetic patients, each with a Consent and two Observations from last
year. `nadi backfill run` is ended with SIGKILL once half of them are stored, and run again. What
is stored afterwards is counted: each resource once, and no job, since models do not run for it.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import psutil
from rich.console import Console

from adapters.sandbox.store import instant
from gateway.core.clock import to_ms, utc_now
from tests.factories import consent, creatinine, patient
from tests.running import RunningNadi, running_nadi

_YEAR_MS = 365 * 86_400_000
_LOOK_EVERY_S = 0.2
_TYPES = ("Patient", "Consent", "Observation")


@dataclass
class Ran:
    """One run of the command.

    Attributes:
        peak_bytes: The largest resident set that was seen.
        code: How it ended.
    """

    seconds: float
    peak_bytes: int
    code: int


def run(patients: int, console: Console) -> bool:
    """Fill, kill, go on; show it, and say whether everything is there once."""
    with tempfile.TemporaryDirectory(prefix="bench-backfill-") as name:
        folder = Path(name) / "nadi"
        folder.mkdir(mode=0o700)
        resources = _write_ehr(folder / "sandbox-ehr.journal", patients)
        with running_nadi(folder) as nadi:
            wanted = resources // 2
            killed = _run(nadi, lambda: _stored(nadi) >= wanted)
            between = _stored(nadi)
            again = _run(nadi, lambda: False)
            return _show(nadi, (resources, between), (killed, again), console)


def _write_ehr(journal: Path, patients: int) -> int:
    """Write the journal of a stand-in EHR; give how many resources it holds."""
    count = 0
    with journal.open("wb") as file:
        for number in range(patients):
            line = [_entry(each) for each in _chart(number)]
            count += len(line)
            file.write(orjson.dumps(line) + b"\n")
    return count


def _chart(number: int) -> Iterator[dict[str, Any]]:
    subject = f"Patient/p{number}"
    yield patient(number)
    yield consent(number, subject)
    yield creatinine(f"{number}-a", subject)
    yield creatinine(f"{number}-b", subject)


def _entry(resource: dict[str, Any]) -> dict[str, Any]:
    at_ms = to_ms(utc_now()) - _YEAR_MS
    meta = {"versionId": "1", "lastUpdated": instant(at_ms)}
    return {
        "type": resource["resourceType"],
        "id": resource["id"],
        "version": 1,
        "updated_ms": at_ms,
        "resource": {**resource, "meta": meta},
    }


def _run(nadi: RunningNadi, is_enough: Callable[[], bool]) -> Ran:
    """Run the command to its end, or kill it once it is enough."""
    command = [sys.executable, "-m", "gateway.cli.main", "backfill", "run", "ehr", "--json"]
    command += ["--types", ",".join(_TYPES)]
    began, peak = time.monotonic(), 0
    with subprocess.Popen(command, env=nadi.environment, stdout=subprocess.DEVNULL) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, watched.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            if is_enough():
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            time.sleep(_LOOK_EVERY_S)
    return Ran(time.monotonic() - began, peak, process.returncode)


def _stored(nadi: RunningNadi) -> int:
    return int(nadi.rows("select count(*) as n from events")[0]["n"])


def _show(
    nadi: RunningNadi, counts: tuple[int, int], runs: tuple[Ran, Ran], console: Console
) -> bool:
    resources, between = counts
    killed, again = runs
    stored = _stored(nadi)
    keys = "count(distinct resource_key) as n from events where is_current"
    different = int(nadi.rows(f"select {keys}")[0]["n"])
    jobs = int(nadi.rows("select count(*) as n from jobs")[0]["n"])
    for what, ran in (("killed", killed), ("run again", again)):
        megabytes = ran.peak_bytes / 2**20
        console.print(f"{what}: {ran.seconds:.0f} s, peak {megabytes:.0f} MiB, ended {ran.code}")
    console.print(
        f"{resources:,} resources in the EHR; {between:,} stored at the kill; {stored:,} stored "
        f"in the end, {different:,} different ones; {jobs} jobs; "
        f"load average {os.getloadavg()[0]:.1f}"
    )
    return stored == different == resources and jobs == 0 and again.code == 0
