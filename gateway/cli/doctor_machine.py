"""What `nadi doctor` says of the machine: its data folder, disk, clock and processor."""

import os
import shutil
import stat
from pathlib import Path

from gateway.cli.doctor_finding import Finding, Verdict
from gateway.cli.machine import SLOW_FSYNC_MS, ClockState, clock_state, time_fsync
from models.runtime import cpu_kernel_class, needs_exact_int8

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_GIB, _MIB = 2**30, 2**20
_ENOUGH_DISK_BYTES = 5 * _GIB
_LEAST_DISK_BYTES = _GIB // 2
_ROOM = "Make room, or put the data folder on a larger disk."
_FASTER = (
    "Every event waits for one before it is acknowledged: put the data folder on a faster disk, "
    "not on a network share."
)


def modes(folder: Path) -> Finding:
    """Check that nobody else can read the data folder, its keys and its tokens."""
    inside = [path for name in ("keys", "credentials") for path in (folder / name).rglob("*")]
    open_ones = [path for path in (folder, *inside) if path.stat().st_mode & _OTHERS]
    closed = [path for path in open_ones if path.suffix != ".pub"]
    if closed:
        names = ", ".join(str(path) for path in closed)
        return Finding("data folder", Verdict.FAILED, f"Open to others: {names}. Mend: chmod go=")
    return Finding("data folder", Verdict.OK, f"{folder}, closed to others")


def disk_space(folder: Path) -> Finding:
    """Check that there is room for events to come."""
    free = shutil.disk_usage(folder).free
    says = f"{free / _GIB:.1f} GiB free" if free >= _GIB else f"{free // _MIB} MiB free"
    if free < _LEAST_DISK_BYTES:
        return Finding("disk space", Verdict.FAILED, f"{says}; soon events are refused. {_ROOM}")
    if free < _ENOUGH_DISK_BYTES:
        return Finding("disk space", Verdict.WARNING, f"{says}. {_ROOM}")
    return Finding("disk space", Verdict.OK, says)


def disk_speed(folder: Path) -> Finding:
    """Measure how long the disk takes to make a small write durable: the floor of every 2xx."""
    try:
        fsync = time_fsync(folder)
    except OSError as error:
        says = f"Nothing can be written there: {error.strerror}. {_ROOM}"
        return Finding("disk speed", Verdict.FAILED, says)
    says = (
        f"fsync takes {fsync.median_ms:.1f} ms "
        f"(median of {fsync.tries}, worst {fsync.worst_ms:.1f} ms)"
    )
    if fsync.median_ms > SLOW_FSYNC_MS:
        return Finding("disk speed", Verdict.WARNING, f"{says}. {_FASTER}")
    return Finding("disk speed", Verdict.OK, says)


def clock() -> Finding:
    """Check that the clock is set and, where the kernel knows, kept in time."""
    state = clock_state()
    if state is ClockState.YEARS_BEHIND:
        return Finding("clock", Verdict.FAILED, "The clock is years behind; set it (NTP).")
    if state is ClockState.NOT_KEPT:
        says = (
            "Not kept in time by NTP; consent periods and audit times depend on it. Switch an NTP "
            "client on (chrony, systemd-timesyncd)."
        )
        return Finding("clock", Verdict.WARNING, says)
    kept = "set and kept in time" if state is ClockState.KEPT else "set"
    return Finding("clock", Verdict.OK, kept)


def cpu() -> Finding:
    """Say which int8 kernels models run on here."""
    care = "; int8 runs with exact kernels, since the default ones may saturate"
    says = f"kernel class {cpu_kernel_class()}, {os.cpu_count()} cores"
    return Finding("cpu", Verdict.OK, says + (care if needs_exact_int8() else ""))
