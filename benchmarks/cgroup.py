"""A limit on memory that the kernel keeps: a control group, where one can be made (as root)."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")
#: Version of the interface -> files for the limit, the peak and how often the limit was met.
_FILES = {
    1: ("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.failcnt"),
    2: ("memory.max", "memory.peak", "memory.events"),
}


@dataclass(frozen=True)
class Group:
    """A control group in which this process and its new children are.

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
    """Put this process, and so what it starts, under a limit until the block ends.

    What it started must have ended by then. Where no group can be made nothing is limited.
    """
    try:
        group, home = _made(size_bytes)
    except OSError as error:
        yield Group(None, reason=f"no control group can be made here: {error.strerror}")
        return
    try:
        yield group
    finally:
        _join(home)
        with contextlib.suppress(OSError):  # a page of it may still be in use; it stays, empty
            Path(group.folder or "").rmdir()


def _made(size_bytes: int) -> tuple[Group, Path]:
    version = 1 if (_V1 / "memory.limit_in_bytes").exists() else 2
    root = _V1 if version == 1 else _V2
    home = root / _own_path(version)
    folder = root / f"nadi-benchmark-{os.getpid()}"
    folder.mkdir()
    (folder / _FILES[version][0]).write_text(str(size_bytes), "ascii")
    _join(folder)
    return Group(folder, version), home


def _own_path(version: int) -> str:
    """Read in which group this process is."""
    wanted = "memory" if version == 1 else ""
    for line in Path("/proc/self/cgroup").read_text("ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == wanted or wanted in controllers.split(",") != [""]:
            return path.lstrip("/")
    return ""


def _join(folder: Path) -> None:
    (folder / "cgroup.procs").write_text(str(os.getpid()), "ascii")
