"""Looks at running Python processes from outside, with py-spy, and counts what they were doing.

py-spy reads the stacks of a process a hundred times a second without a change in it; threads that
wait (for the interpreter, a lock, the network) are left out. It is installed at its first use into
an environment of its own (`benchmarks.peers`). A sample is a thread that was running, or wanted to.
"""

import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.peers import REPOSITORY, Peer

PY_SPY = Peer("py-spy", ("py-spy==0.4.3",))
_PER_S = "100"
_ENDS_WITHIN_S = 60.0
_FRAME = re.compile(r"^(?P<name>.*) \((?P<file>[^()]*)\)$")
#: Where the files of packages, of the standard library and of Nadi lie; the first that fits counts.
_ROOTS = (
    "site-packages/",
    f"/python{sys.version_info.major}.{sys.version_info.minor}/",
    f"{REPOSITORY}/",
)


@dataclass(frozen=True)
class Frame:
    """A function on a stack.

    Attributes:
        file: Path below the repository, the installed packages or the standard library.
    """

    name: str
    file: str

    def __str__(self) -> str:
        return f"{self.file.removesuffix('.py').replace('/', '.')}.{self.name}"


#: Functions that wait: a thread that is seen in one has just been woken and has no core yet.
_WAITS = frozenset(
    {
        ("concurrent/futures/thread.py", "_worker"),
        ("gateway/heartbeat.py", "_beat_on"),
        ("gateway/store/engine.py", "_begins_soon"),
        ("gateway/store/group_commit.py", "_gather"),
        ("httpcore/_backends/sync.py", "read"),
        ("kombu/utils/eventio.py", "poll"),
        ("queue.py", "get"),
        ("redis/_parsers/socket.py", "_read_from_socket"),
        ("selectors.py", "select"),
        ("threading.py", "_wait_for_tstate_lock"),
        ("threading.py", "wait"),
    }
)

Stack = tuple[Frame, ...]
#: Stack, the outermost frame first -> how often it was seen.
Seen = Counter[Stack]


@contextmanager
def sampled(pids: Mapping[int, str]) -> Iterator[dict[str, Seen]]:
    """Sample processes for the length of the block.

    Args:
        pids: Number of a process -> what it is called.

    Yields:
        Name -> what was seen, which is there when the block is over.

    Raises:
        PeerMissing: py-spy can't be had here.
        RuntimeError: It may not look at other processes here.
    """
    program = PY_SPY.python().with_name("py-spy")
    seen: dict[str, Seen] = {}
    with TemporaryDirectory(prefix="bench-spy-") as folder:
        files = {pid: Path(folder) / str(pid) for pid in pids}
        watching = {pid: _started(program, pid, file) for pid, file in files.items()}
        try:
            yield seen
        finally:
            for process in watching.values():
                process.send_signal(signal.SIGINT)
            told = [process.communicate(timeout=_ENDS_WITHIN_S)[0] for process in watching.values()]
        for (pid, file), output in zip(files.items(), told, strict=True):
            if not file.exists():
                raise RuntimeError(f"py-spy saw nothing of {pids[pid]}: {_last(output)}")
            seen.setdefault(pids[pid], Counter()).update(read(file.read_text("utf-8").splitlines()))


def _started(program: Path, pid: int, file: Path) -> "subprocess.Popen[str]":
    options = ("--nolineno", "--full-filenames", "--format", "raw", "--rate", _PER_S)
    return subprocess.Popen(
        [str(program), "record", "--pid", str(pid), *options, "--output", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _last(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def read(lines: Sequence[str]) -> Seen:
    """Read what `py-spy record --format raw` writes: a stack and its count in each line.

    Threads that only wait are left out.
    """
    seen: Seen = Counter()
    for line in lines:
        told, _, count = line.rpartition(" ")
        stack = tuple(map(_frame, told.split(";")))
        if (stack[-1].file, stack[-1].name.rpartition(".")[2]) not in _WAITS:
            seen[stack] += int(count)
    return seen


def _frame(told: str) -> Frame:
    found = _FRAME.match(told)
    return Frame(found["name"], _below(found["file"])) if found else Frame(told, "")


def _below(file: str) -> str:
    """Give the path of a file below the root that it belongs to."""
    root = next((each for each in _ROOTS if each in file), "")
    return file.rpartition(root)[2] if root else file
