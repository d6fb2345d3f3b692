"""Reads Weka's ARFF, the format of many public medical tables, as it is found in the wild.

Stray blanks and tabs around a value are dropped, and so are empty fields in a row that has too
many: both occur in published files. `?` is a missing value.

Source: https://waikato.github.io/weka-wiki/formats_and_processing/arff_stable/
"""

import re
from dataclasses import dataclass
from pathlib import Path

_ATTRIBUTE = re.compile(r"@attribute\s+'?([^'\s]+)'?\s", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """A table of text; None where a value is missing.

    Attributes:
        columns: Names, in order.
        rows: Values, in order.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]

    def column(self, name: str) -> tuple[str | None, ...]:
        """One column.

        Raises:
            ValueError: There is none of this name.
        """
        place = self.columns.index(name)
        return tuple(row[place] for row in self.rows)


def read(path: Path) -> Table:
    """Read an ARFF file.

    Raises:
        ValueError: It has no `@data`, or a row of the wrong width; the line is named.
        OSError: It can't be read.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    start = next((at for at, line in enumerate(lines) if line.lower().startswith("@data")), None)
    if start is None:
        raise ValueError(f"{path}: there is no @data")
    columns = tuple(found.group(1) for line in lines[:start] if (found := _ATTRIBUTE.match(line)))
    rows = (
        _row(line, len(columns), f"{path}, line {number}")
        for number, line in enumerate(lines[start + 1 :], start + 2)
        if line.strip() and not line.startswith("%")
    )
    return Table(columns, tuple(rows))


def _row(line: str, width: int, place: str) -> tuple[str | None, ...]:
    fields = [field.strip() for field in line.split(",")]
    if len(fields) > width:
        fields = [field for field in fields if field]
    if len(fields) != width:
        raise ValueError(f"{place}: {len(fields)} values, expected {width}")
    return tuple(None if field in {"?", ""} else field for field in fields)
