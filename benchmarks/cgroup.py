"""A limit on memory that the kernel keeps: a control group, where one can be made (as root)."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")
#: Version of the interface -> files for the limit, the peak and how often the limit was met.
_FILES = {
    1: ("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.failcnt"),
    2: ("memory.max", "memory.peak", "memory.events"),
}


_CURRENT: ContextVar[Path | None] = ContextVar("group", default=None)


@dataclass(frozen=True)
class Group:
    """A control group with a limit.

    Attributes:
        folder: Of its files; None where the kernel enforces nothing.
        reason: Why not.
    """

    folder: Path | None
    version: int = 0
    reason: str = ""

    def told(self) -> str:
        """Say what it came to: the peak, and whether the limit was met."""
        if self.folder is None:
            return f"not enforced ({self.reason})"
        _, peak, met = _FILES[self.version]
        used = int((self.folder / peak).read_text("ascii")) / 2**20
        told = (self.folder / met).read_text("ascii").split()
        # Version 1 has one number; version 2 names its counters, `max` among them.
        times = told[0] if self.version == 1 else told[told.index("max") + 1]
        return f"enforced; peak with page cache {used:.0f} MiB, limit met {times} times"


@contextmanager
def limited(size_bytes: int) -> Iterator[Group]:
    """Put what is started in the block (`entrance`) under a limit; it must have ended with it.

    Where no group can be made nothing is limited.
    """
    try:
        group = _made(size_bytes)
    except OSError as error:
        yield Group(None, reason=f"no control group can be made here: {error.strerror}")
        return
    entered = _CURRENT.set(group.folder)
    try:
        yield group
    finally:
        _CURRENT.reset(entered)
        with contextlib.suppress(OSError):  # a page of it may still be in use; it stays, empty
            Path(group.folder or "").rmdir()


def entrance() -> Callable[[], None] | None:
    """Give what a new process does first, to be in the group of the block; None outside of one."""
    folder = _CURRENT.get()
    return None if folder is None else partial(_enter, folder)


def _enter(folder: Path) -> None:
    (folder / "cgroup.procs").write_text(str(os.getpid()), "ascii")


def _made(size_bytes: int) -> Group:
    version = 1 if (_V1 / "memory.limit_in_bytes").exists() else 2
    folder = (_V1 if version == 1 else _V2) / f"nadi-benchmark-{os.getpid()}-{time.monotonic_ns()}"
    folder.mkdir()
    (folder / _FILES[version][0]).write_text(str(size_bytes), "ascii")
    return Group(folder, version)
