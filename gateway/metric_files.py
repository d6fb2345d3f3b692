"""The files in which the processes of a machine share their metrics, with room kept on the disk.

The library maps its files before the disk has room for them. On a full disk such a page can't be
had, and the kernel ends the process that writes there (SIGBUS), whatever else it was doing. Here
room is kept before a page is used. Where there is none, the process goes on with its metrics in
memory, where nobody else reads them, until it is started again.
"""

import mmap
import os
from pathlib import Path

from prometheus_client import mmap_dict, values
from prometheus_client.mmap_dict import MmapedDict

#: As large as the library makes a file at first.
_FIRST_BYTES: int = mmap_dict._INITIAL_MMAP_SIZE  # noqa: SLF001 - held to it by a test
#: What an entry has beside its key: its length, padding, and two numbers.
_ENTRY_BYTES = 32


class KeptFile(MmapedDict):
    """A file of metrics that never grows beyond what the disk has room for."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        """Open it, as the library does."""
        if read_mode or _has_room(Path(filename)):
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]
            return
        memory = os.memfd_create("metrics")
        super().__init__(f"/proc/self/fd/{memory}")  # type: ignore[no-untyped-call]
        os.close(memory)

    def _init_value(self, key: str) -> None:
        capacity = self._capacity
        while self._used + len(key.encode()) + _ENTRY_BYTES > capacity:
            capacity *= 2
        if capacity > self._capacity and not _is_kept(self._f.fileno(), capacity):
            self._go_on_in_memory()
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _go_on_in_memory(self) -> None:
        memory = os.fdopen(os.memfd_create("metrics"), "a+b")
        memory.write(self._m[:])
        memory.flush()
        self._f.close()
        self._f = memory
        self._m = mmap.mmap(memory.fileno(), self._capacity)


def keep_room() -> None:
    """Let the library open its files so; to be called before there is a metric."""
    values.MmapedDict = KeptFile  # type: ignore[attr-defined]  # the name by which it opens them


def _has_room(file: Path) -> bool:
    """Make a file with room for what is written first; what has none is not left there."""
    try:
        with file.open("a+b") as opened:
            size = max(os.fstat(opened.fileno()).st_size, _FIRST_BYTES)
            if _is_kept(opened.fileno(), size):
                return True
        file.unlink()
    except OSError:
        pass
    return False


def _is_kept(descriptor: int, size: int) -> bool:
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        return False
    return True
