"""What becomes of a destroyed key's bytes in the files of the database.

Deleting a row frees its place; the bytes stay there until something else is written over them, and
in the write-ahead log beside. Since a data key lies in the database wrapped by a master key that
goes on living, its wrapped bytes have to go. So after an erasure:

* SQLite: `secure_delete` overwrites what is deleted; the write-ahead log is emptied into the file;
  then both files are searched for the bytes, and where they are still found (a page that was split
  long ago) the file is written anew (VACUUM) and searched again.
* PostgreSQL: the table of keys is written anew (VACUUM FULL). Its write-ahead log, archives of it
  and replicas are other machines' files: they can't be searched from here.

Backups are nobody's to reach from here. docs/rights-and-retention.md says what to do about them.
"""

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

_BLOCK = 1 << 20
_TRIES = 20
_PAUSE_S = 0.25
_BUSY_MS = 100
_VACUUM_BUSY_MS = 15_000


class Trace(StrEnum):
    """What is known of a destroyed key's bytes."""

    NONE = "none"
    FOUND = "found"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Shredding:
    """What was done to the files.

    Attributes:
        was_rewritten: Whether the file, or the table, was written anew.
        says: In a sentence.
    """

    trace: Trace
    was_rewritten: bool
    says: str

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do about the files that can be reached."""
        return self.trace is Trace.NONE or (self.trace is Trace.UNKNOWN and self.was_rewritten)


def shred(
    engine: sa.Engine, wrapped_key: bytes, *, pause: Callable[[float], None] = time.sleep
) -> Shredding:
    """Rid the database's files of a deleted key; call it after the commit.

    Args:
        engine: Of the database; nothing of it may be open in this thread.
        wrapped_key: The bytes that were deleted.
        pause: Waits for some seconds, while others still read the write-ahead log.
    """
    if engine.dialect.name != "sqlite":
        return _shred_postgresql(engine)
    file = Path(engine.url.database or "")
    was_rewritten = False
    is_empty = _empty_log(engine, pause)
    if _is_in(file, wrapped_key) or _is_in(_log_of(file), wrapped_key):
        was_rewritten = _rewrite(engine)
        is_empty = _empty_log(engine, pause)
    if _is_in(file, wrapped_key) or _is_in(_log_of(file), wrapped_key):
        why = "" if is_empty else " since a process reads from it without pause"
        says = (
            f"The key's bytes still lie in the database's files{why}: run `nadi patient compact` "
            "when less is going on."
        )
        return Shredding(Trace.FOUND, was_rewritten, says)
    says = "The key's bytes were searched for in the database's files and are in none."
    return Shredding(Trace.NONE, was_rewritten, says)


def compact(engine: sa.Engine) -> bool:
    """Write SQLite's file, or PostgreSQL's table of keys, anew; say whether it was done."""
    if engine.dialect.name != "sqlite":
        return _shred_postgresql(engine).was_rewritten
    return _rewrite(engine) and _empty_log(engine, time.sleep)


def _log_of(file: Path) -> Path:
    return file.with_name(f"{file.name}-wal")


def _empty_log(engine: sa.Engine, pause: Callable[[float], None]) -> bool:
    """Write the log into the file and cut it to nothing; readers are waited for."""
    for _ in range(_TRIES):
        if _outside_of_transactions(engine, "PRAGMA wal_checkpoint(TRUNCATE)") == 0:
            return True
        pause(_PAUSE_S)
    return False


def _rewrite(engine: sa.Engine) -> bool:
    try:
        _outside_of_transactions(engine, "VACUUM", busy_ms=_VACUUM_BUSY_MS)
    except sqlite3.Error:  # another process works on it all the time: it is told as still found
        return False
    return True


def _outside_of_transactions(
    engine: sa.Engine, statement: str, *, busy_ms: int = _BUSY_MS
) -> object:
    """Run what no transaction may surround; give the first value of its answer."""
    connection = engine.raw_connection()
    try:
        driver: Any = connection.driver_connection
        if engine.dialect.name == "postgresql":
            driver.rollback()
            driver.autocommit = True
            driver.execute(statement)
            return None
        driver.execute(f"PRAGMA busy_timeout={busy_ms}")
        row = driver.execute(statement).fetchone()
        return row[0] if row else None
    finally:
        # It is not as the pool's connections are any more.
        connection.invalidate()
        connection.close()


def _is_in(file: Path, needle: bytes) -> bool:
    """Search a file for bytes, in the memory of two blocks."""
    try:
        with file.open("rb") as stream:
            tail = b""
            while block := stream.read(_BLOCK):
                if needle in tail + block:
                    return True
                tail = block[-len(needle) :]
    except FileNotFoundError:
        return False
    return False


def _shred_postgresql(engine: sa.Engine) -> Shredding:
    """Write the table of keys anew; a role that does not own it is passed over with a warning."""
    before = _file_of_keys(engine)
    with suppress(psycopg.Error):
        _outside_of_transactions(engine, "VACUUM FULL patient_keys")
    if _file_of_keys(engine) == before:
        says = (
            "The table of keys was not written anew, since this role does not own it or it is in "
            "use: run `nadi patient compact` as its owner (NADI_DATABASE_OWNER_URL)."
        )
        return Shredding(Trace.UNKNOWN, was_rewritten=False, says=says)
    says = (
        "The table of keys was written anew. The server's write-ahead log, its archive and "
        "replicas can't be searched from here."
    )
    return Shredding(Trace.UNKNOWN, was_rewritten=True, says=says)


def _file_of_keys(engine: sa.Engine) -> object:
    with engine.connect() as connection:
        return connection.exec_driver_sql("SELECT pg_relation_filenode('patient_keys')").scalar()
