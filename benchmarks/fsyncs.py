"""Counts how often processes wait for the disk, with `strace`, where it is installed.

A process that is traced is slow, so this is counted in a push of its own and never beside a time.
"""

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

_CALLS = ("fsync", "fdatasync")
#: A line of strace's summary: share, seconds, µs per call, calls, (errors), name.
_COUNTED = re.compile(
    rf"^\s*\S+\s+\S+\s+\S+\s+(\d+)\s+(?:\d+\s+)?(?:{'|'.join(_CALLS)})$", re.MULTILINE
)
_ATTACHES_WITHIN_S = 10.0
_ENDS_WITHIN_S = 30.0


@dataclass
class Count:
    """How many there were; None before the block is over, and where strace may not look."""

    calls: int | None = None


@contextmanager
def counted(pids: Sequence[int]) -> Iterator[Count]:
    """Count the calls of some processes for the length of the block."""
    count, program = Count(), shutil.which("strace")
    if program is None:
        yield count
        return
    with TemporaryDirectory(prefix="bench-strace-") as folder:
        summary = Path(folder) / "summary"
        which = [part for pid in pids for part in ("-p", str(pid))]
        command = (program, "-f", "-c", "-e", f"trace={','.join(_CALLS)}", "-o", str(summary))
        tracer = subprocess.Popen([*command, *which], stderr=subprocess.DEVNULL)
        _await_attached(pids, tracer)
        try:
            yield count
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(_ENDS_WITHIN_S)
        count.calls = read(summary.read_text("utf-8")) if summary.exists() else None


def read(summary: str) -> int:
    """Add up the calls of a summary as `strace -c` writes it."""
    return sum(int(calls) for calls in _COUNTED.findall(summary))


def _await_attached(pids: Sequence[int], tracer: "subprocess.Popen[bytes]") -> None:
    limit = time.monotonic() + _ATTACHES_WITHIN_S
    while tracer.poll() is None and time.monotonic() < limit:
        if all(_is_traced(pid) for pid in pids):
            return
        time.sleep(0.05)


def _is_traced(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    return not re.search(r"^TracerPid:\s+0$", status, re.MULTILINE)
