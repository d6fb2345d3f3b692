"""Only one relay leads: a lock that its process loses when it dies, however it dies.

On PostgreSQL it is an advisory lock of a session; on SQLite a lock on a file beside the database.
Both are given back by the server or the kernel when the process is gone, so no lease has to run
out before a successor leads.

Source: PostgreSQL 13.3.5, advisory locks; flock(2).
"""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

# Any number will do, as long as nobody else of this database uses it: "nadi" in ASCII.
_LOCK_NUMBER = 0x6E616469


class Leadership(Protocol):
    """The right to lead; held or not."""

    def acquire(self) -> bool:
        """Take the lead or keep it; say whether this process leads now."""

    def release(self) -> None:
        """Let another process lead."""


def leadership(engine: sa.Engine) -> Leadership:
    """Give the lock that fits the database."""
    if engine.dialect.name == "sqlite":
        return FileLeadership(Path(f"{engine.url.database}.relay-lock"))
    return SessionLeadership(engine)


class FileLeadership:
    """Leads while it holds a lock on a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lead or keep it; say whether this process leads now."""
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let another process lead."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class SessionLeadership:
    """Leads while its session of the database lives."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection: sa.Connection | None = None

    def acquire(self) -> bool:
        """Take the lead or keep it; say whether this process leads now."""
        try:
            if self._connection is not None:
                self._connection.execute(sa.text("select 1"))
                return True
            return self._try()
        except DBAPIError:
            self.release()
            return False

    def release(self) -> None:
        """Let another process lead."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(DBAPIError):
                connection.invalidate()
                connection.close()

    def _try(self) -> bool:
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        query = sa.select(sa.func.pg_try_advisory_lock(_LOCK_NUMBER))
        if connection.execute(query).scalar_one():
            self._connection = connection
            return True
        connection.close()
        return False
