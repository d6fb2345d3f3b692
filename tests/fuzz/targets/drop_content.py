"""Files of a drop folder: each piece is JSON that came, or says why it is none."""

import orjson

from adapters.drop.content import pieces_of
from tests.factories import bundle, creatinine, patient, raw
from tests.fuzz.target import Target, as_file, shared


def run(data: bytes) -> None:
    """Read a file as JSON and as NDJSON."""
    for suffix in (".json", ".ndjson"):
        path = as_file(data).with_suffix(suffix)
        path.write_bytes(data)
        for piece in pieces_of(path):
            assert len(piece.places) == max(1, len(piece.resources))
            assert bool(piece.issue) is not bool(piece.resources)
            assert all(each in data for each in piece.resources)
            if piece.resources:
                assert isinstance(orjson.loads(piece.bundle), dict)


def seeds() -> list[bytes]:
    """Give Bundles, resources and lines of both."""
    lines = b"\n".join((raw(creatinine()), raw(bundle(patient())), b"", raw(patient())))
    return [raw(bundle(creatinine())), lines, *shared("r4-examples/Bundle*.json", most=5)]


TARGET = Target(run, seeds)
