"""Checkpoints kept outside the database: whoever cuts the log in there leaves them behind here.

`audit/checkpoints.log` of the data folder holds signed notes, oldest first. A log that has fewer
leaves than one of them was cut. This is the nearest of the places that a checkpoint should go to;
docs/audit.md says why one more should be out of the house.
"""

import contextlib
from pathlib import Path

from gateway.core.errors import StoreUnavailable
from gateway.core.notes import NOTE
from gateway.note_file import append_note
from gateway.private_file import replace_private

#: The newest checkpoint covers all before it, so the file needs no long memory.
_LARGEST_BYTES = 2**20


class CheckpointFile:
    """The signed notes beside the database."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "audit" / "checkpoints.log"

    def append(self, note: str) -> None:
        """Keep a note; it is on disk when this returns.

        Raises:
            StoreUnavailable: The file can't be written.
        """
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            self._shorten()
            append_note(self._path, note, 0o600)
        except OSError as error:
            raise StoreUnavailable(f"{self._path} can't be written: {error.strerror}.") from error

    def notes(self) -> list[str]:
        """Give the notes, oldest first; what is no note is given as one, to be found false.

        Call it before the database is read: what stands here was committed before.
        """
        try:
            text = self._path.read_text("utf-8", errors="replace")
        except OSError:
            return []
        rest = NOTE.sub("", text)
        return [*NOTE.findall(text), *([rest] if rest.strip() else [])]

    def _shorten(self) -> None:
        """Keep the newest notes only, once there are very many."""
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_size < _LARGEST_BYTES:
                return
            kept = self.notes()
            replace_private(self._path, "".join(kept[len(kept) // 2 :]).encode())
