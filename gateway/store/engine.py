"""How a process reaches the database: SQLite in the data folder, or PostgreSQL by URL.

Durability is fixed here and nowhere else: SQLite runs in WAL mode with `synchronous=FULL`,
PostgreSQL with `synchronous_commit=on`. A write transaction on SQLite begins IMMEDIATE, so that
it waits for the other writer at once instead of failing when it first writes.
"""

import importlib.metadata
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from gateway.core.errors import ConfigurationError, StoreUnavailable
from gateway.store.packing import teach, unpacked

if TYPE_CHECKING:
    from alembic.config import Config

# Alembic is loaded when it is used: workers and the relay never do, and it costs 9 MB.

WRITES = "nadi_writes"
RELAXED = "nadi_relaxed"
_BUSY_TIMEOUT_MS = 15_000
#: Most that a connection keeps of the database; the one used last is used next, so few are full.
_CACHE_KIB = 8192
#: To this size the write-ahead log is cut once all of it is in the database.
_LOG_BYTES = 64 * 2**20
#: How often a writer looks whether another's transaction has ended, in seconds, and how many times.
_LOOK_EVERY_S = 0.0005
_MOST_LOOKS = 200
#: SQLSTATE of what a role lacks the right to.
_NOT_PERMITTED = "42501"
_NO_RIGHTS = (
    "This role may not read the tables of the database. Their owner gives it its rights: run "
    "`nadi prepare` with NADI_DATABASE_OWNER_URL."
)
_MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


class SchemaTooNew(ConfigurationError):
    """The database was made by a newer version of Nadi."""


def open_engine(url: str) -> sa.Engine:
    """Open the database with the durability Nadi promises.

    Args:
        url: SQLAlchemy URL, `sqlite:///…` or `postgresql+psycopg://…`.
    """
    if url.startswith("sqlite"):
        return _open_sqlite(url)
    return _open_postgresql(url)


def _open_sqlite(url: str) -> sa.Engine:
    engine = sa.create_engine(url, pool_size=8, max_overflow=24, pool_use_lifo=True)
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - sqlite3 or a shim
    teach(connection)
    # The driver's own transaction control would begin too late and never IMMEDIATE.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={_BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        f"cache_size=-{_CACHE_KIB}",
        f"journal_size_limit={_LOG_BYTES}",
        "temp_store=MEMORY",
        # What is deleted is overwritten: an erased patient's key, above all.
        "secure_delete=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    options = connection.get_execution_options()
    if not options.get(WRITES, False):
        connection.exec_driver_sql("BEGIN")
        return
    level = "NORMAL" if options.get(RELAXED, False) else "FULL"
    if connection.info.get("synchronous", "FULL") != level:
        connection.exec_driver_sql(f"PRAGMA synchronous={level}")
        connection.info["synchronous"] = level
    if not _begins_soon(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begins_soon(connection: sa.Connection) -> bool:
    """Begin to write as soon as the transaction under way has ended; give up after a while.

    SQLite itself waits in ever longer naps, up to a tenth of a second: where writers take turns of
    a few milliseconds, each would sleep long after the lock is free.
    """
    driver: Any = connection.connection.dbapi_connection
    driver.execute("PRAGMA busy_timeout=0")
    try:
        for _ in range(_MOST_LOOKS):
            with suppress(sqlite3.OperationalError):
                driver.execute("BEGIN IMMEDIATE")
                return True
            time.sleep(_LOOK_EVERY_S)
    finally:
        driver.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
    return False


def _open_postgresql(url: str) -> sa.Engine:
    engine = sa.create_engine(
        url,
        pool_size=8,
        max_overflow=24,
        pool_pre_ping=True,
        connect_args={"options": "-c synchronous_commit=on -c lock_timeout=15s"},
    )
    sa.event.listen(engine, "begin", _begin_postgresql)
    return engine


def _begin_postgresql(connection: sa.Connection) -> None:
    if connection.get_execution_options().get(RELAXED, False):
        connection.exec_driver_sql("SET LOCAL synchronous_commit TO OFF")


def insert_all(
    connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, object]]
) -> None:
    """Insert many rows of plain values, see `execute_all`.

    Args:
        connection: In a transaction.
        table: Where to.
        rows: All with the same columns.
    """
    execute_all(connection, _insert_into(table), rows)


def execute_all(
    connection: sa.Connection,
    statement: sa.Insert | sa.Update,
    rows: Sequence[Mapping[str, object]],
) -> int:
    """Execute a statement for many rows of plain values; give how many rows it changed.

    Plain are text, bytes, whole numbers, booleans and None. The driver takes these as they are, so
    that nothing has to be converted value by value.

    Args:
        connection: In a transaction.
        statement: One that stays, since it is compiled once.
        rows: Its parameters; all with the same names.
    """
    if not rows:
        return 0
    compiled = _compiled(statement, connection.dialect, tuple(rows[0]))
    whole = [{**compiled.constants, **row} for row in rows]
    order = compiled.order
    if order is None:
        return connection.exec_driver_sql(compiled.sql, whole).rowcount
    in_order = [tuple([row[name] for name in order]) for row in whole]
    return connection.exec_driver_sql(compiled.sql, in_order).rowcount


class _Compiled(NamedTuple):
    """A statement in a database's own words.

    Attributes:
        order: Of its parameters, where they have no names.
        constants: The parameters that are the same for every row.
    """

    sql: str
    order: list[str] | None
    constants: Mapping[str, object]


@lru_cache(maxsize=64)
def _insert_into(table: sa.Table) -> sa.Insert:
    return sa.insert(table)


@lru_cache(maxsize=64)
def _compiled(
    statement: sa.Insert | sa.Update, dialect: sa.Dialect, names: tuple[str, ...]
) -> _Compiled:
    # An INSERT says nowhere which columns it fills; what an UPDATE sets stands in it.
    columns = list(names) if isinstance(statement, sa.Insert) else None
    compiled = statement.compile(dialect=dialect, column_keys=columns)
    constants = {name: value for name, value in compiled.params.items() if name not in names}
    return _Compiled(compiled.string, compiled.positiontup, constants)


def migrate(url: str) -> None:
    """Bring the database to the newest schema. Safe to repeat and to run from several processes.

    Raises:
        SchemaTooNew: Its schema is one that this version of Nadi does not know.
        StoreUnavailable: The database is away or locked; nothing was changed.
    """
    from alembic import command  # noqa: PLC0415

    if insist_on_known_schema(url):
        return
    try:
        command.upgrade(_alembic(url), "head")
    except DBAPIError as error:
        # The driver's text can quote values: the class says enough.
        message = f"The database can't be prepared ({type(error).__name__})."
        raise StoreUnavailable(message) from error


def is_at_head(engine: sa.Engine) -> bool:
    """Say whether the database has the schema that this version of Nadi needs.

    Raises:
        SchemaTooNew: It is one that this version of Nadi does not know.
        StoreUnavailable: The database is away, or is none any more.
    """
    present = schema_of(engine)
    if not present <= known_schemas():
        raise SchemaTooNew(_too_new(engine, present))
    return present == _heads()


def insist_on_known_schema(url: str) -> bool:
    """Insist that no newer Nadi made this database; one that is not there yet is none.

    Returns:
        Whether it has the newest schema already.

    Raises:
        SchemaTooNew: A newer one did. Nothing was changed.
        StoreUnavailable: The database is away, or is none any more.
    """
    address = sa.make_url(url)
    if address.get_backend_name() == "sqlite" and not Path(address.database or "").exists():
        return False
    engine = open_engine(url)
    try:
        return is_at_head(engine)
    finally:
        engine.dispose()


def schema_of(engine: sa.Engine) -> frozenset[str]:
    """Give the revision of a database's schema; none where there are no tables yet.

    Raises:
        ConfigurationError: This role may not read it.
        StoreUnavailable: The database is away, or is none any more.
    """
    from alembic.migration import MigrationContext  # noqa: PLC0415

    try:
        with engine.connect() as connection:
            return frozenset(MigrationContext.configure(connection).get_current_heads())
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == _NOT_PERMITTED:
            raise ConfigurationError(_NO_RIGHTS) from error
        message = f"The database can't be read ({type(error).__name__})."
        raise StoreUnavailable(message) from error


@lru_cache(maxsize=1)
def known_schemas() -> frozenset[str]:
    """Give every revision that this version of Nadi knows."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    script = ScriptDirectory.from_config(_alembic(""))
    return frozenset(each.revision for each in script.walk_revisions())


def newest_schema() -> str:
    """Give the revision that this version of Nadi works with."""
    return max(_heads())


def _too_new(engine: sa.Engine, present: frozenset[str]) -> str:
    mine, made_by = importlib.metadata.version("nadi"), _last_version(engine)
    by = f", last used by Nadi {made_by}" if made_by else ""
    wanted = f"Nadi {made_by} or newer" if made_by else "the Nadi that made it, or a newer one,"
    return (
        f"A newer Nadi made this database: its schema is {', '.join(sorted(present))}{by}. This "
        f"is Nadi {mine}, which knows schemas up to {newest_schema()}. Nothing was changed. Start "
        f"{wanted} on it; to stay with this version, restore the backup from before the upgrade "
        "(docs/recovery.md)."
    )


def _last_version(engine: sa.Engine) -> str:
    """Read which Nadi last started on a database; its tables may be others by now."""
    newest = "select body from audit_events where event = 'start' order by seq desc limit 1"
    try:
        with engine.connect() as connection:
            body = orjson.loads(unpacked(connection.exec_driver_sql(newest).scalar_one()))
        told = [each for entity in body["entity"] for each in entity["detail"]]
        return next(str(each["valueString"]) for each in told if each["type"] == "version")
    except (DBAPIError, sa.exc.NoResultFound, ValueError, TypeError, KeyError, StopIteration):
        return ""


@lru_cache(maxsize=1)
def _heads() -> frozenset[str]:
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    return frozenset(ScriptDirectory.from_config(_alembic("")).get_heads())


def _alembic(url: str) -> "Config":
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["url"] = url
    return config
