"""Append a signed note to a file: whole, or not at all.

A full disk or a cut of the power can leave half a note behind. What is appended after it would read
as one note with a false signature, as if somebody had tampered with the log.
"""

import contextlib
import fcntl
import os
from pathlib import Path

from gateway.core.notes import NOTE

#: How much of the end of a file is looked at; a note is shorter than a kilobyte.
_TAIL_BYTES = 2**16


def append_note(path: Path, note: str, mode: int) -> None:
    """Append a note; it is on disk when this returns.

    Args:
        path: The file; it is made when it is not there.
        note: The signed note.
        mode: Permissions of a file that is made.

    Raises:
        OSError: It can't be written; then the file is as it was.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, mode)
    try:
        with contextlib.suppress(OSError):  # some network mounts have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        end = _end_of_notes(descriptor)
        os.ftruncate(descriptor, end)
        _write(descriptor, note.encode(), end)
    finally:
        os.close(descriptor)


def _end_of_notes(descriptor: int) -> int:
    """Say where the last whole note ends; at the end of the file where none is to be seen."""
    size = os.fstat(descriptor).st_size
    start = max(size - _TAIL_BYTES, 0)
    tail = os.pread(descriptor, _TAIL_BYTES, start).decode("utf-8", "surrogateescape")
    ends = [found.end() for found in NOTE.finditer(tail)]
    if not ends:
        return size
    return start + len(tail[: ends[-1]].encode("utf-8", "surrogateescape"))


def _write(descriptor: int, content: bytes, end: int) -> None:
    try:
        while content:
            content = content[os.write(descriptor, content) :]
        os.fsync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, end)
        raise
