"""What a dropped file holds: one Bundle or resource (JSON), or one in each line (NDJSON).

Bytes are handed in as they lie in the file. A Bundle goes as it is; resources are put together into
Bundles of type `collection`, each of which is one request.

Source: FHIR R4 Bundle; http://ndjson.org.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from gateway.core.errors import Issue
from gateway.core.fhir import resource_type_of

_MOST_ENTRIES = 500
_MOST_BYTES = 4 * 2**20
#: The API takes no larger body unless it is told to.
_LONGEST_LINE = 16 * 2**20
_MARK = b"\xef\xbb\xbf"
_HEAD, _FOOT = b'{"resourceType":"Bundle","type":"collection","entry":[', b"]}"


@dataclass(frozen=True)
class Piece:
    """What is handed in together.

    Attributes:
        places: Where in the file each of its resources stands; one place for a whole Bundle.
        resources: The JSON of each; a Bundle stands alone.
        issue: What keeps it from being handed in.
    """

    places: tuple[str, ...]
    resources: tuple[bytes, ...] = ()
    issue: Issue | None = None

    @property
    def is_bundle(self) -> bool:
        """Whether it is a Bundle as it lies in the file."""
        return len(self.resources) == 1 and resource_type_of(self.resources[0]) == "Bundle"

    @property
    def bundle(self) -> bytes:
        """The Bundle to hand in."""
        if self.is_bundle:
            return self.resources[0]
        entries = b",".join(b'{"resource":' + each + b"}" for each in self.resources)
        return _HEAD + entries + _FOOT

    def alone(self) -> "list[Piece]":
        """Give each of its resources by itself."""
        pairs = zip(self.places, self.resources, strict=True)
        return [Piece((place,), (each,)) for place, each in pairs]


def pieces_of(path: Path) -> Iterator[Piece]:
    """Read a file piece by piece.

    Args:
        path: Of the file; its suffix says whether it is NDJSON.

    Raises:
        OSError: It can't be read.
    """
    if path.suffix.lower() == ".ndjson":
        yield from _of_lines(path)
        return
    yield _piece("", path.read_bytes().removeprefix(_MARK))


def outcome_of(issues: Sequence[Issue]) -> bytes:
    """Write an OperationOutcome."""
    told = [
        {
            "severity": each.severity,
            "code": each.code,
            "diagnostics": each.diagnostics,
            **({"expression": [each.expression]} if each.expression else {}),
        }
        for each in issues
    ]
    return orjson.dumps(
        {"resourceType": "OperationOutcome", "issue": told}, option=orjson.OPT_INDENT_2
    )


def _of_lines(path: Path) -> Iterator[Piece]:
    gathered: list[Piece] = []
    for piece in _lines(path):
        if piece.issue or piece.is_bundle:
            yield piece
            continue
        gathered.append(piece)
        if len(gathered) == _MOST_ENTRIES or _size(gathered) >= _MOST_BYTES:
            yield _together(gathered)
            gathered = []
    if gathered:
        yield _together(gathered)


def _lines(path: Path) -> Iterator[Piece]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(_LONGEST_LINE + 1):
            number += 1
            if len(line) > _LONGEST_LINE:
                yield Piece((f"line {number}",), issue=_too_long(number))
                return
            if line.strip():
                yield _piece(f"line {number}", line.strip().removeprefix(_MARK))


def _piece(place: str, raw: bytes) -> Piece:
    try:
        content = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return Piece((place,), issue=Issue("structure", "This is not JSON in UTF-8."))
    if not isinstance(content, dict) or not isinstance(content.get("resourceType"), str):
        words = "A FHIR resource is a JSON object with a resourceType."
        return Piece((place,), issue=Issue("structure", words))
    return Piece((place,), (raw,))


def _together(pieces: Sequence[Piece]) -> Piece:
    return Piece(
        tuple(each.places[0] for each in pieces), tuple(each.resources[0] for each in pieces)
    )


def _size(pieces: Sequence[Piece]) -> int:
    return sum(len(each.resources[0]) for each in pieces)


def _too_long(number: int) -> Issue:
    words = f"Line {number} has more than {_LONGEST_LINE} bytes; nothing after it was read."
    return Issue("too-long", words)
