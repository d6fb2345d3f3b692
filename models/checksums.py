"""What a model is known by: the digest over every file that belongs to it.

The checksums are the lines that `sha256sum` prints, sorted by file name; the digest is the SHA-256
of this text. A package carries the text as `SHA256SUMS`, so that anyone can recompute both:

    sha256sum --check SHA256SUMS && sha256sum SHA256SUMS

Source: GNU coreutils, sha256sum.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

SUMS_FILE = "SHA256SUMS"

_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9][A-Za-z0-9._-]*)")


def sha256(content: bytes) -> str:
    """SHA-256 in lower-case hex."""
    return hashlib.sha256(content).hexdigest()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, read piece by piece.

    Raises:
        OSError: It can't be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sums_text(sums: Mapping[str, str]) -> str:
    """The text of `SHA256SUMS`: file name → SHA-256, one line each, sorted by name."""
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))


def read_sums(text: str) -> dict[str, str]:
    """Read a text of checksums.

    Raises:
        ValueError: It is not exactly what `sums_text` writes.
    """
    found = [_LINE.fullmatch(line) for line in text.splitlines()]
    sums = {each[2]: each[1] for each in found if each}
    if not sums or sums_text(sums) != text:
        raise ValueError("not a list of checksums, sorted by file name")
    return sums


def digest_of(sums: Mapping[str, str]) -> str:
    """The digest of a model whose files have these checksums."""
    return sha256(sums_text(sums).encode("ascii"))
