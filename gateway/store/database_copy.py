"""A consistent copy of the database while Nadi works on, and putting one back.

* SQLite: its online backup, page by page, within one reading transaction: the copy is the database
  of one moment, whatever is written meanwhile. Writers never wait for it. Until it is done the
  write-ahead log can't be emptied, so it grows by what is written in that time.
* PostgreSQL: `pg_dump` in an exported snapshot, and `pg_restore` in one transaction; both are
  programs of PostgreSQL's and have to be there, of the server's version or a newer one.

What is told of a copy (`DatabaseFacts`) is read from the very same moment.
"""

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg.conninfo
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from gateway.core.errors import ConfigurationError, ProcessingError, StoreUnavailable
from gateway.settings import environment_with
from gateway.store.engine import open_engine, schema_of
from gateway.store.schema import metadata
from gateway.store.tables import audit_checkpoints

SQLITE, POSTGRESQL = "sqlite", "postgresql"

_PAGES = 2048
_LOOK_EVERY_S = 0.2
_SPARE_BYTES = 64 * 2**20
_FUNCTIONS = ("refuse_change", "refuse_consent_change", "refuse_removal")

#: Told how much is done, and of how much; in bytes or pages.
Progress = Callable[[int, int], None]


class NoRoom(StoreUnavailable):
    """There is no room left on the disk."""


class ToolMissing(ConfigurationError):
    """A program that is needed is not on this machine."""


class CopyFailed(ProcessingError):
    """The database could not be copied."""


@dataclass(frozen=True)
class DatabaseFacts:
    """What a copy holds.

    Attributes:
        kind: `sqlite` or `postgresql`.
        schema: Revision of its schema.
        counts: Rows by table.
        log_size: Entries of the audit log that the newest checkpoint covers.
        checkpoint: That checkpoint, a signed note; empty where there is none.
    """

    kind: str
    schema: str
    counts: dict[str, int]
    log_size: int
    checkpoint: str


def facts_of(connection: sa.Connection, schema: str) -> DatabaseFacts:
    """Read what a database holds, in the transaction of a connection."""
    there = set(sa.inspect(connection).get_table_names())
    counts = {
        name: int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
        for name, table in metadata.tables.items()
        if name in there
    }
    newest = sa.select(audit_checkpoints.c.size, audit_checkpoints.c.note)
    row = connection.execute(newest.order_by(audit_checkpoints.c.size.desc()).limit(1)).first()
    size, note = (row.size, row.note) if row else (0, "")
    return DatabaseFacts(connection.dialect.name, schema, counts, size, note)


def copy_database(engine: sa.Engine, to: Path, progress: Progress) -> DatabaseFacts:
    """Copy a database in use into a new file.

    Args:
        engine: Of the database.
        to: The file.
        progress: Told how far it is.

    Raises:
        NoRoom: There is no room for the copy.
        ToolMissing: `pg_dump` is not here.
        CopyFailed: It could not be copied.
        StoreUnavailable: The database is away.
    """
    try:
        if engine.dialect.name == SQLITE:
            return _copy_sqlite(Path(engine.url.database or ""), to, progress)
        return _dump_postgresql(engine, to, progress)
    except DBAPIError as error:
        message = f"The database can't be read ({type(error).__name__})."
        raise StoreUnavailable(message) from error


def facts_of_file(file: Path) -> DatabaseFacts:
    """Read what a copy of a SQLite database holds; the file is not changed.

    Raises:
        StoreUnavailable: It is no database.
    """
    url = f"sqlite:///file:{file}?mode=ro&immutable=1&uri=true"
    return _facts(sa.create_engine(url), "The database in it")


def facts_of_url(url: str) -> DatabaseFacts:
    """Read what the database of a URL holds.

    Raises:
        StoreUnavailable: It is away.
    """
    return _facts(open_engine(url), "The database")


def _facts(engine: sa.Engine, what: str) -> DatabaseFacts:
    try:
        schema = ", ".join(sorted(schema_of(engine)))
        with engine.connect() as connection:
            return facts_of(connection, schema)
    except DBAPIError as error:
        message = f"{what} can't be read ({type(error).__name__})."
        raise StoreUnavailable(message) from error
    finally:
        engine.dispose()


def insist_on_room(folder: Path, wanted_bytes: int) -> None:
    """Insist that a folder's disk has so much room, and a little more.

    Raises:
        NoRoom: It has not.
    """
    free = shutil.disk_usage(folder).free
    if free < wanted_bytes + _SPARE_BYTES:
        raise NoRoom(
            f"{folder} has {_mib(free)} free; {_mib(wanted_bytes + _SPARE_BYTES)} are needed for "
            "the copy of the database. Make room, then try again; nothing was written."
        )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


# -- SQLite ------------------------------------------------------------------------------------


def _copy_sqlite(source: Path, to: Path, progress: Progress) -> DatabaseFacts:
    insist_on_room(to.parent, source.stat().st_size)
    try:
        _copy_pages(source, to, progress)
    except sqlite3.Error as error:
        if "full" in str(error):
            raise NoRoom(f"{to.parent} is full; nothing was written.") from error
        message = f"The database can't be copied ({type(error).__name__}). Try: nadi audit verify"
        raise CopyFailed(message) from error
    return facts_of_file(to)


def _copy_pages(source: Path, to: Path, progress: Progress) -> None:
    reading = sqlite3.connect(source, isolation_level=None)
    writing = sqlite3.connect(to, isolation_level=None)
    try:
        # Nobody else sees the copy before it is complete: it needs no journal of its own.
        writing.execute("PRAGMA journal_mode=OFF")
        writing.execute("PRAGMA synchronous=OFF")
        reading.execute("BEGIN")
        # The first reading fixes the moment.
        reading.execute("SELECT count(*) FROM sqlite_master").fetchone()
        reading.backup(
            writing, pages=_PAGES, progress=lambda _, left, total: progress(total - left, total)
        )
    finally:
        writing.close()
        reading.close()


# -- PostgreSQL --------------------------------------------------------------------------------


def _dump_postgresql(engine: sa.Engine, to: Path, progress: Progress) -> DatabaseFacts:
    program = _program("pg_dump")
    schema = ", ".join(sorted(schema_of(engine)))
    frozen = engine.connect().execution_options(
        isolation_level="REPEATABLE READ", postgresql_readonly=True
    )
    with frozen as connection, connection.begin():
        size = int(connection.scalar(sa.text("select pg_database_size(current_database())")))
        insist_on_room(to.parent, size)
        snapshot = str(connection.scalar(sa.text("select pg_export_snapshot()")))
        options = ("--format=custom", "--compress=0", "--no-owner", "--no-privileges")
        command = [program, *options, f"--snapshot={snapshot}", f"--file={to}"]
        _run(command, engine.url, lambda: progress(_size_of(to), size))
        return facts_of(connection, schema)


def put_back_postgresql(dump: Path, url: str, progress: Progress) -> None:
    """Put a dump into an empty database, all of it or nothing.

    Raises:
        ConfigurationError: The database is not empty.
        ToolMissing: `pg_restore` is not here.
        CopyFailed: It could not be put back.
        StoreUnavailable: The database is away.
    """
    program = _program("pg_restore")
    _insist_on_empty(url)
    options = ("--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction")
    total = _size_of(dump)
    _run([program, *options, str(dump)], sa.make_url(url), lambda: progress(0, total))
    progress(total, total)


def insist_on_dump(dump: Path, facts: DatabaseFacts) -> None:
    """Insist that a dump can be read and has the rows of every table that it should have.

    Raises:
        ToolMissing: `pg_restore` is not here.
        CopyFailed: It is not so.
    """
    done = subprocess.run(  # noqa: S603 - a program of PostgreSQL's, found on the path
        [_program("pg_restore"), "--list", str(dump)], capture_output=True, text=True, check=False
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    there = {words[6] for words in lines if words[3:5] == ["TABLE", "DATA"]}
    missing = sorted(facts.counts.keys() - there)
    if done.returncode or missing:
        says = f"it lacks {', '.join(missing)}" if missing else "pg_restore can't read it"
        raise CopyFailed(f"The PostgreSQL dump in the backup can't be used: {says}.")


def empty_postgresql(url: str) -> None:
    """Take everything of ours out of a database that was empty before.

    Raises:
        StoreUnavailable: The database is away.
    """
    engine = open_engine(url)
    quote = engine.dialect.identifier_preparer.quote
    try:
        with engine.begin() as connection:
            for name in (*metadata.tables, "alembic_version"):
                connection.exec_driver_sql(f"DROP TABLE IF EXISTS {quote(name)} CASCADE")
            for name in _FUNCTIONS:
                connection.exec_driver_sql(f"DROP FUNCTION IF EXISTS {name}()")
    except DBAPIError as error:
        message = f"The database can't be emptied again ({type(error).__name__})."
        raise StoreUnavailable(message) from error
    finally:
        engine.dispose()


def _insist_on_empty(url: str) -> None:
    engine = open_engine(url)
    try:
        found = sa.inspect(engine).get_table_names()
    except DBAPIError as error:
        message = f"The database can't be reached ({type(error).__name__})."
        raise StoreUnavailable(message) from error
    finally:
        engine.dispose()
    if found:
        raise ConfigurationError(
            f"The PostgreSQL database '{engine.url.database}' is not empty: it has {len(found)} "
            "tables. Name an empty one; nothing was changed."
        )


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ToolMissing(
            f"{name} is not on this machine, and a PostgreSQL database needs it. Install "
            "PostgreSQL's client programs of the server's version or a newer one (Debian and "
            "Ubuntu: apt install postgresql-client), then try again; nothing was written."
        )
    return found


def _run(command: Sequence[str], url: sa.URL, look: Callable[[], None]) -> None:
    """Run a program on a database; its password goes by the environment, not by the command."""
    told = url.translate_connect_args(username="user", database="dbname")
    told.update({name: str(value) for name, value in url.query.items()})
    environment = environment_with(PGPASSWORD=str(told.pop("password", "")))
    whole = [*command, f"--dbname={psycopg.conninfo.make_conninfo(**told)}"]
    with subprocess.Popen(  # noqa: S603 - a program of PostgreSQL's, found on the path
        whole, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        try:
            while process.poll() is None:
                look()
                time.sleep(_LOOK_EVERY_S)
        except BaseException:
            process.kill()
            raise
        says = process.stderr.read().decode(errors="replace") if process.stderr else ""
    if process.returncode:
        _explain(Path(command[0]).name, says)


def _explain(program: str, says: str) -> None:
    if "No space left" in says:
        raise NoRoom("There is no room left for the copy of the database; nothing was written.")
    if "server version mismatch" in says:
        raise ToolMissing(
            f"{program} is older than the server. Install PostgreSQL's client programs of the "
            "server's version or a newer one, then try again; nothing was written."
        )
    lines = [line for line in says.splitlines() if "error:" in line] or says.splitlines()
    says = lines[0].rstrip(".") if lines else f"{program} failed"
    raise CopyFailed(f"{says}. Nothing was written.")


def _size_of(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
