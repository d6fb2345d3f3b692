"""What this machine is and how fast: processor, memory, disk and clock, measured and not guessed.

Limits that a container sets count as the machine's: a model that is killed for its memory has not
been served, however much the host has.

Source: Linux cgroup v2 (`cpu.max`, `memory.max`), adjtimex(2).
"""

import ctypes
import os
import platform
import re
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from models.runtime import KernelClass, cpu_kernel_class, needs_exact_int8

#: Instructions that decide how fast a network runs, slowest first.
FLAGS = ("sse4_1", "avx", "avx2", "fma", "f16c", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8")

#: A disk that takes longer makes every answer slow.
SLOW_FSYNC_MS = 30.0

_CPU_INFO = Path("/proc/cpuinfo")
_MEMORY_INFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_FSYNC_TRIES = 9
_BLOCK_BYTES = 4096
#: 2025-01-01: this program is younger, so a clock that is older is wrong.
_EARLIEST_S = 1_735_689_600
#: adjtimex(2): the kernel's clock is not synchronised.
_TIME_ERROR = 5


class ClockState(StrEnum):
    """How far the clock can be relied on."""

    KEPT = "kept"
    UNKNOWN = "unknown"
    NOT_KEPT = "not-kept"
    YEARS_BEHIND = "years-behind"


@dataclass(frozen=True)
class Fsync:
    """How long the disk takes to make a small write durable, in milliseconds.

    Attributes:
        median_ms: The usual.
        worst_ms: The longest seen.
        tries: How many were measured.
    """

    median_ms: float
    worst_ms: float
    tries: int


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What this machine is.

    Attributes:
        cpu: The processor's name.
        flags: Those of `FLAGS` that it has.
        kernel_class: The best int8 kernels it can run.
        exact_int8: Whether int8 has to run with the slower exact kernels here.
        cores: Processors that this process may use; a container's share, rounded down, at least 1.
        memory_bytes: Memory of the machine or the container.
        available_bytes: How much of it is free or can be made free.
        disk_free_bytes: Room in the data folder.
        fsync: How fast the data folder's disk is.
        clock: Whether the clock is kept.
        system: Operating system and Python.
    """

    cpu: str
    flags: tuple[str, ...]
    kernel_class: KernelClass
    exact_int8: bool
    cores: int
    memory_bytes: int
    available_bytes: int
    disk_free_bytes: int
    fsync: Fsync
    clock: ClockState
    system: str


def look(folder: Path) -> Machine:
    """Find out what this machine is; writes and deletes one small file to time the disk.

    Args:
        folder: The data folder, or where it will be.

    Raises:
        OSError: Nothing can be written there.
    """
    cpu_info = _read(_CPU_INFO)
    memory, available = memory_bytes(_read(_MEMORY_INFO), _read(_CGROUP / "memory.max"))
    return Machine(
        cpu=_first(r"^model name\s*:\s*(.+)$", cpu_info) or platform.machine(),
        flags=flags_of(cpu_info),
        kernel_class=cpu_kernel_class(),
        exact_int8=needs_exact_int8(),
        cores=cores(_read(_CGROUP / "cpu.max")),
        memory_bytes=memory,
        available_bytes=available,
        disk_free_bytes=shutil.disk_usage(folder).free,
        fsync=time_fsync(folder),
        clock=clock_state(),
        system=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
    )


def flags_of(cpu_info: str) -> tuple[str, ...]:
    """The instructions of `FLAGS` in the text of `/proc/cpuinfo`."""
    known = set(_first(r"^flags\s*:(.*)$", cpu_info).split())
    return tuple(flag for flag in FLAGS if flag in known)


def cores(cpu_max: str) -> int:
    """How many processors may be used, by the text of the cgroup's `cpu.max`."""
    allowed = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    quota, _, period = cpu_max.strip().partition(" ")
    if quota.isdecimal() and period.isdecimal():
        allowed = min(allowed, int(quota) // int(period))
    return max(allowed, 1)


def memory_bytes(memory_info: str, memory_max: str) -> tuple[int, int]:
    """Memory and how much of it is available, by `/proc/meminfo` and the cgroup's `memory.max`."""
    total = _kib(memory_info, "MemTotal") or os.sysconf("SC_PAGE_SIZE") * os.sysconf(
        "SC_PHYS_PAGES"
    )
    available = _kib(memory_info, "MemAvailable") or total
    limit = memory_max.strip()
    if limit.isdecimal():
        total = min(total, int(limit))
    return total, min(total, available)


def time_fsync(folder: Path) -> Fsync:
    """Time how long a small write takes to be durable: the floor of every 2xx.

    Raises:
        OSError: Nothing can be written there.
    """
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".nadi-fsync-") as file:
        times = sorted(_fsync_ms(file.fileno()) for _ in range(_FSYNC_TRIES))
    return Fsync(statistics.median(times), times[-1], _FSYNC_TRIES)


def clock_state() -> ClockState:
    """Whether the clock is set and, where the kernel knows, kept in time."""
    if time.time() < _EARLIEST_S:
        return ClockState.YEARS_BEHIND
    if not sys.platform.startswith("linux"):
        return ClockState.UNKNOWN
    # Room for struct timex; all zero asks and changes nothing.
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    return ClockState.NOT_KEPT if state == _TIME_ERROR else ClockState.KEPT


def _fsync_ms(descriptor: int) -> float:
    started = time.perf_counter()
    os.write(descriptor, bytes(_BLOCK_BYTES))
    os.fsync(descriptor)
    return (time.perf_counter() - started) * 1000


def _kib(memory_info: str, name: str) -> int:
    return int(_first(rf"^{name}:\s*(\d+) kB$", memory_info) or 0) * 1024


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found.group(1).strip() if found else ""


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""
