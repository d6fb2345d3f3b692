"""Small text files that a site file names."""

from pathlib import Path


def read_text_file(path: Path) -> str | None:
    """Read a UTF-8 file; None when it can't be read."""
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None
