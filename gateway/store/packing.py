"""How SQLite keeps the body of an AuditEvent: in an eighth of its bytes.

Nine AuditEvents are written for each event that starts a model, some 2.6 kB each, and most of that
is the same in all of them: systems, profiles, the elements' names. As plain JSON they are eight
tenths of the database, a page of 4 KiB each.

Rules:

1. What lies there is the JSON itself, or one byte that names a dictionary and then the JSON as raw
   deflate (RFC 1951) that begins with that dictionary. Both are read; the first is what an earlier
   Nadi wrote, and what PostgreSQL keeps, which packs long values by itself.
2. A dictionary is never changed: what was packed with it needs it. A better one gets a new number.
3. The leaf of the Merkle log, the tag and every signature are over the JSON, never over this.
4. What can't be unpacked is given as it lies there: it then is no AuditEvent, and no leaf fits it.
   Who verifies the log goes on and says so; who is to be shown what it says is told (`told`).
"""

import sqlite3
import zlib
from pathlib import Path

import orjson

from gateway.core.audit_event import AuditEventChanged
from gateway.store.verification_report import as_bytes

#: Names of the function for SQL, see `teach`.
UNPACKED = "nadi_unpacked"
#: Longer AuditEvents are not packed; what claims to be was made to fill the memory of who reads it.
MOST_BYTES = 16 * 2**20

_MARK = b"\x01"
# What every reader takes for granted. It is looked for here, since to look for all of it, as
# `nadi audit verify` does, takes four times as long for each event of a long answer.
_ELEMENTS = {"id", "recorded", "action", "outcome", "agent", "source"}
_DICTIONARY = (Path(__file__).parent / "data" / "audit-bodies-1.txt").read_bytes()
_RAW = -zlib.MAX_WBITS
# The fastest level: the next ones take twice as long for an eighth less.
_PACKER = zlib.compressobj(1, zlib.DEFLATED, _RAW, 5, zlib.Z_DEFAULT_STRATEGY, _DICTIONARY)


def packed(body: bytes) -> bytes:
    """Give the bytes to keep for an AuditEvent's JSON."""
    if len(body) > MOST_BYTES:
        return body
    packer = _PACKER.copy()
    return _MARK + packer.compress(body) + packer.flush()


def unpacked(kept: object) -> bytes:
    """Give an AuditEvent's JSON from what is kept, whatever type that was turned into."""
    raw = as_bytes(kept)
    if raw[:1] != _MARK:
        return raw
    unpacker = zlib.decompressobj(_RAW, zdict=_DICTIONARY)
    try:
        body = unpacker.decompress(raw[1:], MOST_BYTES)
    except zlib.error:
        return raw
    return body if unpacker.eof and not unpacker.unused_data else raw


def told(seq: int, kept: object) -> bytes:
    """Give an AuditEvent's JSON to whoever is to be shown what it says.

    Args:
        seq: Its number in the database.
        kept: As it lies there.

    Raises:
        AuditEventChanged: That is no AuditEvent any more.
    """
    body = unpacked(kept)
    try:
        is_whole = orjson.loads(body).keys() >= _ELEMENTS
    except (ValueError, AttributeError):
        is_whole = False
    if not is_whole:
        message = (
            f"AuditEvent {seq} is not what was written: somebody changed the database, or its disk "
            "is failing. Copy the data folder, then see what else is wrong: nadi audit verify "
            "(docs/audit.md)."
        )
        raise AuditEventChanged(message)
    return body


def teach(connection: sqlite3.Connection) -> None:
    """Give a connection to SQLite the function `nadi_unpacked(body)`."""
    connection.create_function(UNPACKED, 1, unpacked, deterministic=True)
