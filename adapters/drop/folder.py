"""A folder that others fill and we empty, by renames alone, so that a crash loses nothing.

* A file is complete when its size and its time did not change for a while.
* It is claimed by a rename into `taking/`: what lies there after a crash is taken first.
* It ends in `done/` or in `failed/`, with an OperationOutcome beside it that was written before.
* Names that begin with a dot or a tilde are somebody's unfinished work and are left alone, as is
  whatever is no regular file: a link could lead out of the folder.
"""

import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gateway.core.errors import ConfigurationError

SUFFIXES = (".json", ".ndjson")
OUTCOME = ".outcome.json"
_OURS = ("taking", "done", "failed")
_MINE_ALONE = 0o700
_DAY_S = 86_400

End = Literal["done", "failed"]


@dataclass(frozen=True)
class _Look:
    """How a file was seen first in its present state."""

    size: int
    modified_ns: int
    since_s: float


class DropFolder:
    """One folder; used by one thread."""

    def __init__(
        self,
        path: Path,
        *,
        settle_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take where it is.

        Args:
            path: The folder.
            settle_s: How long a file has to stay as it is, in seconds.
            monotonic: A clock in seconds that never goes back.
        """
        self._path = path
        self._settle_s = settle_s
        self._monotonic = monotonic
        self._seen: dict[str, _Look] = {}

    def prepare(self) -> None:
        """Make the three folders inside.

        Raises:
            ConfigurationError: The folder is not there, or nothing may be made in it.
        """
        try:
            for name in _OURS:
                (self._path / name).mkdir(mode=_MINE_ALONE, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"The drop folder {self._path} can't be used ({error.strerror}): make it, and let "
                "the user that runs Nadi write into it."
            ) from error

    def exposed_to(self) -> str:
        """Say who may read or write patients' files here and should not; empty when nobody."""
        mode = stat.S_IMODE(self._path.stat().st_mode)
        may = [
            word
            for bit, word in ((stat.S_IROTH, "read"), (stat.S_IWOTH, "write"))
            if mode & bit and mode & stat.S_IXOTH
        ]
        if not may:
            return ""
        return f"every user of this machine may {' and '.join(may)} it: chmod o-rwx {self._path}"

    def left(self) -> list[Path]:
        """Give what was claimed before, and not finished."""
        return sorted(_files(self._path / "taking"))

    def claim(self) -> list[Path]:
        """Claim the files that are complete, the oldest first; give where they lie now."""
        now_s = self._monotonic()
        found = {path.name: path for path in _files(self._path) if _is_wanted(path.name)}
        looks = {name: self._look(path, now_s) for name, path in found.items()}
        self._seen = {name: look for name, look in looks.items() if look is not None}
        ready = [n for n, look in self._seen.items() if now_s - look.since_s >= self._settle_s]
        ready.sort(key=lambda name: (self._seen[name].modified_ns, name))
        return [claimed for name in ready if (claimed := self._take(found[name])) is not None]

    def finish(self, path: Path, end: End, outcome: bytes) -> None:
        """Move a claimed file to where it ends, with its outcome beside it.

        Args:
            path: Of the claimed file.
            end: Where it goes.
            outcome: JSON of an OperationOutcome.
        """
        target = _free(self._path / end, path.name)
        half = target.with_name(f".{target.name}{OUTCOME}")
        half.write_bytes(outcome)
        half.replace(target.with_name(f"{target.name}{OUTCOME}"))
        with suppress(FileNotFoundError):
            path.rename(target)

    def failed(self) -> int:
        """Count the files in `failed/`: they stay until a person has looked at them."""
        return sum(not each.name.endswith(OUTCOME) for each in _files(self._path / "failed"))

    def sweep(self, keep_days: float) -> int:
        """Delete what was done longer ago; give how many files."""
        before_s = time.time() - keep_days * _DAY_S
        gone = 0
        for path in _files(self._path / "done"):
            # Of a rename the time of change tells, not that of modification.
            with suppress(FileNotFoundError):
                if path.stat().st_ctime <= before_s:
                    path.unlink()
                    gone += not path.name.endswith(OUTCOME)
        return gone

    def _look(self, path: Path, now_s: float) -> _Look | None:
        try:
            status = path.lstat()
        except FileNotFoundError:
            return None
        before = self._seen.get(path.name)
        if before and (before.size, before.modified_ns) == (status.st_size, status.st_mtime_ns):
            return before
        return _Look(status.st_size, status.st_mtime_ns, now_s)

    def _take(self, path: Path) -> Path | None:
        claimed = _free(self._path / "taking", path.name)
        try:
            path.rename(claimed)
        except FileNotFoundError:  # whoever put it there took it back
            return None
        del self._seen[path.name]
        return claimed


def _is_wanted(name: str) -> bool:
    return not name.startswith((".", "~")) and name.lower().endswith(SUFFIXES)


def _files(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [Path(each.path) for each in entries if each.is_file(follow_symlinks=False)]


def _free(folder: Path, name: str) -> Path:
    """Give a path that no file has: another file of the same name may have come before."""
    stem, dot, suffix = name.rpartition(".")
    path, number = folder / name, 2
    while path.exists():
        path, number = folder / f"{stem}.{number}{dot}{suffix}", number + 1
    return path
