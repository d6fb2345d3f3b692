"""A disk that can be full: a small tmpfs where this user may mount one, else a limit on file sizes.

The limit (RLIMIT_FSIZE) is set on the running processes at the size that the database has: no file
of theirs grows beyond it, so that each write fails as on a full disk (with EFBIG, not ENOSPC).
"""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil


class Disk:
    """Where the data of an installation lies."""

    def __init__(self, folder: Path, size_mb: int, *, may_mount: bool = True) -> None:
        """Make it.

        Args:
            folder: Mount point; made here.
            size_mb: How much a tmpfs holds.
            may_mount: False for a limit on file sizes, whoever asks.
        """
        self.folder = folder
        folder.mkdir()
        self.is_mounted = may_mount and _mount(folder, size_mb)

    @property
    def name(self) -> str:
        """Say what a full disk is here."""
        return "a tmpfs filled to the last byte" if self.is_mounted else "a limit on file sizes"

    @contextmanager
    def full(self, pids: Callable[[], Sequence[int]]) -> Iterator[None]:
        """Let nothing more be written for a while.

        Args:
            pids: Gives the processes that write.
        """
        with self._filled() if self.is_mounted else _limited(pids):
            yield

    def close(self) -> None:
        """Give a mounted one back."""
        if self.is_mounted:
            subprocess.run(["umount", "--lazy", self.folder], check=True)

    @contextmanager
    def _filled(self) -> Iterator[None]:
        filler = self.folder / "filler"
        try:
            with filler.open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(bytes(1 << 16))
            yield
        finally:
            filler.unlink()


def _mount(folder: Path, size_mb: int) -> bool:
    if os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=700", "tmpfs", folder]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@contextmanager
def _limited(pids: Callable[[], Sequence[int]]) -> Iterator[None]:
    limited = pids()
    try:
        _limit(limited, 1)
        yield
    finally:
        _limit(pids(), resource.RLIM_INFINITY)


def _limit(pids: Sequence[int], size: int) -> None:
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).rlimit(
                psutil.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
            )
