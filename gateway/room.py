"""Watches the room there is for more, and refuses what there is none for (`gateway.core.headroom`).

A thread of its own measures, so that no request waits for it; a request only reads the outcome.
What was refused is told by 503 with Retry-After and by metrics, and taken again by itself.
"""

import shutil
import threading
from pathlib import Path
from typing import Self

from gateway import telemetry
from gateway.core.errors import Busy, GatewayError, StoreUnavailable, TransientError
from gateway.core.headroom import Measured, RoomLimits, Shortage
from gateway.settings import Settings
from gateway.store.unit_of_work import Store

_EVERY_S = 2.0
_MIB = 2**20
_CONSENTS = "Consents and reads are served all the same."
_MEMORY = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")

log = telemetry.get_logger()


class Room:
    """What room there is; safe to share among threads."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._limits = RoomLimits(
            disk_free_bytes=settings.min_disk_free_bytes,
            memory_available_bytes=settings.min_memory_free_bytes,
            backlog=settings.max_backlog,
        )
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="room", daemon=True)
        self.short_of: frozenset[Shortage] = frozenset()

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Watch no more."""
        self._stopped.set()
        self._thread.join()

    def insist(self, *, is_consent: bool) -> None:
        """Insist that there is room for what arrives.

        Raises:
            TransientError: There is not; it says in what, how to mend it, and when to come again.
        """
        if self.short_of and not is_consent:
            shortage = min(self.short_of)
            telemetry.count_refused_for_room(shortage)
            raise self.refusal(shortage)

    def look(self) -> Measured:
        """Measure, and keep in what there is too little room.

        Raises:
            StoreUnavailable: The database is away.
        """
        measured = self.measured()
        before, self.short_of = self.short_of, self._limits.shortages(measured, self.short_of)
        for shortage in self.short_of - before:
            log.warning("short-of-room", reason_code=shortage.value)
        for shortage in before - self.short_of:
            log.info("room-again", reason_code=shortage.value)
        return measured

    def measured(self) -> Measured:
        """Measure.

        Raises:
            StoreUnavailable: The database is away.
        """
        disk = shutil.disk_usage(self._settings.data_dir)
        available, whole = memory_bytes(
            _read(_MEMORY),
            most=_read(_CGROUP / "memory.max"),
            used=_read(_CGROUP / "memory.current"),
            use=_read(_CGROUP / "memory.stat"),
        )
        with self._store.read() as uow:
            backlog = uow.jobs.waiting(self._limits.backlog) if self._limits.backlog else 0
        return Measured(
            disk_free_bytes=disk.free,
            disk_bytes=disk.total,
            memory_available_bytes=available,
            memory_bytes=whole,
            backlog=backlog,
        )

    def gauges(self) -> dict[str, float]:
        """Give what a scrape shows of it: in what there is too little room, 1 for yes."""
        return {shortage.value: float(shortage in self.short_of) for shortage in Shortage}

    def refusal(self, shortage: Shortage) -> TransientError:
        """Word what there is too little room in, and how to mend it."""
        if shortage is Shortage.DISK:
            least = self._settings.min_disk_free_bytes // _MIB
            return StoreUnavailable(
                f"The disk of the data folder is nearly full: less than {least} MiB, or a "
                "twentieth of it, are free. Make room there, or lower "
                f"NADI_MIN_DISK_FREE_BYTES. {_CONSENTS}",
                retry_after_s=60,
            )
        if shortage is Shortage.MEMORY:
            least = self._settings.min_memory_free_bytes // _MIB
            return Busy(
                f"The memory of this machine is nearly used up: less than {least} MiB, or a "
                "twentieth of it, are available. End what else runs there, give it more, or lower "
                f"NADI_MIN_MEMORY_FREE_BYTES. {_CONSENTS}",
                retry_after_s=10,
            )
        return Busy(
            f"{self._settings.max_backlog} jobs wait already. They are being worked off; add "
            f"workers, or raise NADI_MAX_BACKLOG. {_CONSENTS}",
            retry_after_s=30,
        )

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except (GatewayError, OSError) as error:  # what can't be measured changes nothing
                log.warning("room-unknown", error=type(error).__name__)
            if self._stopped.wait(_EVERY_S):
                return


def memory_bytes(
    memory_info: str, *, most: str = "", used: str = "", use: str = ""
) -> tuple[int | None, int | None]:
    """Give available and whole memory, of the machine or of the container where that has less.

    Args:
        memory_info: Content of /proc/meminfo; empty where there is none.
        most: Content of the cgroup's memory.max.
        used: Content of the cgroup's memory.current.
        use: Content of the cgroup's memory.stat: files that are cached can be let go.

    Source: proc(5); Linux cgroup v2.
    """
    found = dict(line.split(":", 1) for line in memory_info.splitlines() if ":" in line)
    available, whole = (_kib(found.get(name, "")) for name in ("MemAvailable", "MemTotal"))
    limit, held = most.strip(), used.strip()
    if available is None or whole is None or not (limit.isdecimal() and held.isdecimal()):
        return available, whole
    cached = dict(line.split(" ", 1) for line in use.splitlines()).get("inactive_file", "0")
    free = max(int(limit) - int(held) + int(cached), 0)
    return min(available, free), min(whole, int(limit))


def _kib(text: str) -> int | None:
    number = text.split()[:1]
    return int(number[0]) * 1024 if number and number[0].isdecimal() else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
