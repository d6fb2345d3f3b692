"""Fuzz every target by turns: `make fuzz MINUTES=30`.

Inputs that reached something new, and findings, stay in a folder outside of the repository, where
the next run goes on from them. Ends with 1 when something was found.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.findings import kinds_in
from tests.fuzz.one import HAS_ATHERIS
from tests.fuzz.target import names

_LEAST_S = 5
_MOST_DEATHS = 5
_PROGRESS = re.compile(rb"^#(\d+)", re.MULTILINE)


@dataclass
class Line:
    """What came of one target."""

    name: str
    executions: int = 0
    seconds: float = 0
    peak_mb: float = 0
    died: int = 0
    kinds: tuple[str, ...] = ()

    def __str__(self) -> str:
        per_s = self.executions / self.seconds if self.seconds else 0
        found = len(self.kinds) + self.died
        return (
            f"| {self.name} | {self.executions:,} | {per_s:,.0f} | {self.seconds:.0f} "
            f"| {found} | {self.peak_mb:.0f} |"
        )


def main() -> int:
    """Read the command line, fuzz, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--folder", type=Path, required=True, help="for seeds and findings")
    parser.add_argument("--only", nargs="*", choices=names(), default=names())
    given = parser.parse_args()
    if not HAS_ATHERIS:
        _say("atheris is not installed here: inputs are mutated without coverage.")
    share = max(_LEAST_S, round(given.minutes * 60 / len(given.only)))
    _say("| target | executions | per second | seconds | findings | peak memory, MB |")
    _say("|---|---|---|---|---|---|")
    lines = []
    for name in given.only:
        lines.append(_fuzzed(name, given.folder, share))
        _say(str(lines[-1]))
    total = Line("together", sum(x.executions for x in lines), sum(x.seconds for x in lines))
    total.peak_mb, total.died = max(x.peak_mb for x in lines), sum(x.died for x in lines)
    total.kinds = tuple(f"{x.name}: {kind}" for x in lines for kind in x.kinds)
    _say(str(total))
    for kind in total.kinds:
        _say(f"FOUND {kind}")
    return 1 if total.kinds or total.died else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _fuzzed(name: str, folder: Path, share: int) -> Line:
    """Fuzz one target for its share of the time, again where its process dies before."""
    line = Line(name)
    end = time.monotonic() + share
    while (left := round(end - time.monotonic())) > 1 and line.died < _MOST_DEATHS:
        began = time.monotonic()
        status, executions, peak_mb = _process(name, folder, left)
        line.seconds += time.monotonic() - began
        line.executions += executions
        line.peak_mb = max(line.peak_mb, peak_mb)
        if status == 0:
            break
        line.died += 1
    line.kinds = tuple(kinds_in(folder / name / "findings"))
    return line


def _process(name: str, folder: Path, seconds: int) -> tuple[int, int, float]:
    """Run one process; give its status, executions and peak memory in MB."""
    command = [sys.executable, "-m", "tests.fuzz.one", name]
    command += ["--seconds", str(seconds), "--folder", str(folder)]
    (folder / name).mkdir(parents=True, exist_ok=True)
    log = folder / name / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = status
    counts = [int(each) for each in _PROGRESS.findall(log.read_bytes())]
    per_mb = 2**20 if sys.platform == "darwin" else 2**10
    return status, max(counts, default=0), used.ru_maxrss / per_mb


if __name__ == "__main__":
    sys.exit(main())
