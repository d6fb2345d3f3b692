"""What stands in front of a backup."""

import io

import orjson

from gateway.store.backup_file import BackupUnusable, header_of, new_writer
from gateway.store.backup_manifest import read_manifest
from tests.fuzz.target import Target, as_file


def run(data: bytes) -> None:
    """Read the header of a backup, or its manifest, by the first byte."""
    if data.startswith(b"{"):
        read_manifest(data)
    else:
        header_of(as_file(data))


def seeds() -> list[bytes]:
    """Give a backup of one block, and a manifest."""
    stream = io.BytesIO()
    writer = new_writer(stream, [], made_at="2026-11-26T10:00:00Z", nadi="0.1.0", origin="o")
    writer.write(b"x")
    writer.finish()
    told = {"format": 1, "nadi": "0.1.0", "database": {"schema": "x"}, "files": []}
    return [stream.getvalue(), orjson.dumps(told)]


TARGET = Target(run, seeds, (BackupUnusable,), longest=4096)
