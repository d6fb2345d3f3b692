"""An append-only file, one JSON line per transaction, from which the EHR starts again.

A line is written with one system call, so a killed process loses no answered write; a power cut
may (there is no fsync: this is a stand-in). A last line that was cut short is dropped.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from adapters.sandbox.refusal import Refusal

Line = Sequence[dict[str, Any]]


class Journal:
    """The file of one EHR."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch(mode=0o600, exist_ok=True)
        self._cut_torn_line()
        self._file = path.open("ab", buffering=0)

    def replay(self) -> Iterator[Line]:
        """Read every transaction in the order it was written."""
        with self._path.open("rb") as lines:
            for line in lines:
                yield orjson.loads(line)

    def append(self, line: Line) -> None:
        """Write one transaction.

        Raises:
            Refusal: The disk does not take it; the transaction must not happen.
        """
        written = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        start = self._path.stat().st_size
        try:
            is_whole = self._file.write(written) == len(written)
        except OSError as error:
            raise Refusal(500, "no-store", "The journal of this EHR can't be written.") from error
        if not is_whole:
            self._file.truncate(start)
            raise Refusal(500, "no-store", "The journal of this EHR is full.")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _cut_torn_line(self) -> None:
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with self._path.open("r+b") as file:
                file.truncate(whole)
