"""Who was erased, kept outside the database: a backup that is put back brings nobody back unseen.

`audit/erasures.log` of the data folder has a line for each erasure: time, keyed hash of the
patient, id, and `refused-ai` where she refused all AI. It says nothing else; keep it when the
database is put back from a backup.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.core.audit_rights import REFUSED_AI
from gateway.core.errors import StoreUnavailable
from gateway.private_file import replace_private
from gateway.store.erasures import Tombstone

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

_WORDS = 3


@dataclass(frozen=True)
class ErasedLine:
    """One erasure as the file has it."""

    erased_ms: int
    patient_key: str
    id: str
    refused_ai: bool


class ErasureFile:
    """The erasures beside the database."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "audit" / "erasures.log"

    def append(self, tombstone: Tombstone) -> None:
        """Keep an erasure; it is on disk when this returns.

        Raises:
            StoreUnavailable: The file can't be written.
        """
        line = f"{tombstone.erased_ms} {tombstone.patient_key} {tombstone.id}"
        line = f"{line} {REFUSED_AI}\n" if tombstone.refused_ai else f"{line}\n"
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "a", encoding="ascii") as file:
                file.write(line)
                file.flush()
                os.fsync(descriptor)
        except OSError as error:
            raise StoreUnavailable(f"{self._path} can't be written: {error.strerror}.") from error

    def take_from(self, other: Path) -> int:
        """Add the erasures of another such file that are missing here; give their number.

        Raises:
            StoreUnavailable: The other can't be read, or this one not written.
        """
        try:
            there = self._path.read_text("ascii").splitlines() if self._path.exists() else []
            found = other.read_text("ascii", errors="replace").splitlines()
            told = [line for line in dict.fromkeys([*there, *found]) if _line(line)]
            # The last line of a patient counts.
            told.sort(key=lambda line: int(line.split()[0]))
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            replace_private(self._path, "".join(f"{line}\n" for line in told).encode("ascii"))
        except OSError as error:
            place = error.filename or self._path
            raise StoreUnavailable(f"{place} can't be used: {error.strerror}.") from error
        return len(told) - len(there)

    def lines(self) -> dict[str, ErasedLine]:
        """Give the last erasure of each patient, by keyed hash; what is no line is passed over."""
        try:
            text = self._path.read_text("ascii", errors="replace")
        except OSError:
            return {}
        lines = filter(None, map(_line, text.splitlines()))
        return {line.patient_key: line for line in lines}


def _line(text: str) -> ErasedLine | None:
    words = text.split()
    if len(words) < _WORDS or not words[0].isdecimal() or words[_WORDS:] not in ([], [REFUSED_AI]):
        return None
    return ErasedLine(int(words[0]), words[1], words[2], refused_ai=len(words) > _WORDS)


def brought_back(uow: "UnitOfWork", file: ErasureFile) -> list[ErasedLine]:
    """Give the erasures of the file that the database knows nothing of: it is an earlier one."""
    lines = file.lines()
    known = uow.erasures.find(list(lines)) if lines else {}
    return [
        line
        for key, line in lines.items()
        if key not in known or known[key].erased_ms < line.erased_ms
    ]
