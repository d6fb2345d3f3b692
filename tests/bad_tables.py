"""The tables of what is refused, on the page of each door, as the cases say that are sent there.

    python -m tests.bad_tables      # writes the pages anew

A table is found on its page by its first line.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests import bad_answers, bad_calls, bad_files, bad_images, bad_input, bad_messages

DOCS = Path(__file__).resolve().parents[1] / "docs"
#: The tables of each page.
PAGES: Mapping[str, Sequence[Callable[[], str]]] = {
    "bad-input.md": (bad_input.table,),
    "hl7v2.md": (bad_messages.table,),
    "dicom.md": (bad_images.table,),
    "cds-hooks.md": (bad_calls.table,),
    "drop-folder.md": (bad_files.table,),
    "polling.md": (bad_answers.polled, bad_answers.fed),
    "backfill.md": (bad_answers.exported,),
}


def tables() -> Iterator[tuple[Path, str]]:
    """Give every table with its page."""
    for name, made in PAGES.items():
        for table in made:
            yield DOCS / name, table()


def replaced(page: str, table: str) -> str:
    """Put a table where the one with the same first line stands.

    Raises:
        ValueError: The page has none such.
    """
    lines = page.splitlines(keepends=True)
    first = lines.index(table.splitlines(keepends=True)[0])
    end = first
    while end < len(lines) and lines[end].startswith("|"):
        end += 1
    return "".join(lines[:first]) + table + "".join(lines[end:])


if __name__ == "__main__":
    for path, table in tables():
        path.write_text(replaced(path.read_text(), table))
