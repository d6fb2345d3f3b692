"""A PostgreSQL of the benchmark's own, with the durability that a hospital's would have.

The tests' clusters are in memory and don't wait for the disk; this one is in the temporary folder,
as SQLite's files are, and waits (`fsync` and `synchronous_commit` on), so that what is measured on
it can stand beside SQLite with `synchronous=FULL`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg

from tests import postgres

_SETTINGS = ("listen_addresses=", "shared_buffers=64MB", "max_connections=200")


class PostgresMissing(RuntimeError):
    """This machine has no PostgreSQL; the message says so."""


@dataclass(frozen=True)
class Server:
    """A running cluster.

    Attributes:
        url: SQLAlchemy URL of its maintenance database.
    """

    url: str

    @property
    def conninfo(self) -> str:
        """How libpq is told the same."""
        return self.url.replace("postgresql+psycopg", "postgresql", 1)

    @property
    def pid(self) -> int:
        """The process whose children all others of the cluster are."""
        folder = Path(parse_qs(urlsplit(self.url).query)["host"][0])
        return int((folder / "data" / "postmaster.pid").read_text("ascii").partition("\n")[0])

    def database(self, name: str) -> str:
        """Make an empty database; give its URL."""
        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            connection.execute(
                psycopg.sql.SQL("create database {}").format(psycopg.sql.Identifier(name))
            )
        return self.url.replace("@/postgres?", f"@/{name}?", 1)


@contextmanager
def postgresql() -> Iterator[Server]:
    """Run a durable cluster for the length of the block.

    Raises:
        PostgresMissing: There is none on this machine.
    """
    programs = postgres.programs()
    if programs is None:
        raise PostgresMissing("PostgreSQL is not installed on this machine.")
    with postgres.cluster(programs, settings=_SETTINGS, on_disk=True) as url:
        yield Server(url)
