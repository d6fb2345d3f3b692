import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from gateway.core.errors import StoreUnavailable
from gateway.store.engine import (
    WRITES,
    execute_all,
    insert_all,
    is_at_head,
    migrate,
    open_engine,
)
from gateway.store.tables import metadata
from gateway.store.unit_of_work import Store


def test_the_migrations_give_the_tables_of_the_code(store: Store):
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})

        assert compare_metadata(context, metadata) == []


def test_migrating_again_changes_nothing(database_url: str):
    migrate(database_url)

    engine = open_engine(database_url)
    assert is_at_head(engine)
    engine.dispose()


def test_an_empty_database_is_not_at_head(tmp_path: Path):
    engine = open_engine(f"sqlite:///{tmp_path / 'empty.db'}")

    assert not is_at_head(engine)

    engine.dispose()


def test_migrating_down_leaves_no_table(tmp_path: Path):
    from alembic import command

    from gateway.store.engine import _alembic

    url = f"sqlite:///{tmp_path / 'nadi.db'}"
    migrate(url)

    command.downgrade(_alembic(url), "base")

    engine = sa.create_engine(url)
    assert sa.inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()


def test_a_log_begun_before_inner_nodes_were_kept_gets_them(tmp_path: Path):
    from alembic import command

    from gateway.core.ledger import Frontier, leaf_hash, root
    from gateway.store.engine import _alembic
    from gateway.store.sealing import Sealer
    from tests.conftest import MASTER

    url = f"sqlite:///{tmp_path / 'nadi.db'}"
    command.upgrade(_alembic(url), "0002")
    hashes = [leaf_hash(n.to_bytes(4, "big")) for n in range(700)]
    store = Store(url, Sealer(MASTER))
    leaves = [{"index": n, "hash": digest} for n, digest in enumerate(hashes)]
    with store.write() as uow:
        uow.connection.execute(
            sa.text("insert into audit_leaves values (:index, :index, :hash)"), leaves
        )

    migrate(url)

    with store.read() as uow:
        assert uow.audit_proofs.root(700) == root(Frontier().extend(hashes))
    store.close()


def test_a_database_that_is_away_cannot_be_migrated(tmp_path: Path):
    with pytest.raises(StoreUnavailable, match="can't be prepared"):
        migrate(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder.db'}")


def test_sqlite_is_durable_and_waits_for_the_other_writer(sqlite_url: str):
    engine = open_engine(sqlite_url)
    with engine.connect() as connection:

        def pragma(name: str) -> object:
            return connection.exec_driver_sql(f"PRAGMA {name}").scalar()

        assert (pragma("journal_mode"), pragma("synchronous")) == ("wal", 2)
        assert pragma("busy_timeout") == 15_000
    engine.dispose()


def test_a_log_that_a_reader_let_grow_is_cut_when_it_is_written_anew(tmp_path: Path):
    engine = open_engine(f"sqlite:///{tmp_path / 'nadi.db'}")
    log = tmp_path / "nadi.db-wal"
    with engine.begin() as connection:
        connection.exec_driver_sql("create table blobs (body blob)")
        connection.exec_driver_sql("insert into blobs values (zeroblob(1))")

    def write(mib: int) -> None:
        with engine.execution_options(**{WRITES: True}).begin() as connection:
            connection.exec_driver_sql("delete from blobs")
            connection.exec_driver_sql("insert into blobs values (zeroblob(?))", (mib * 2**20,))

    with engine.connect() as reader:
        reader.exec_driver_sql("select count(*) from blobs").scalar_one()
        write(80)
        assert log.stat().st_size > 80 * 2**20
    for _ in range(3):
        write(1)

    assert log.stat().st_size <= 64 * 2**20
    engine.dispose()


@pytest.mark.integration
def test_postgresql_is_durable_and_gives_up_a_lock_in_time(postgresql_url: str):
    engine = open_engine(postgresql_url)
    with engine.connect() as connection:

        def setting(name: str) -> object:
            return connection.exec_driver_sql(f"show {name}").scalar()

        assert (setting("synchronous_commit"), setting("lock_timeout")) == ("on", "15s")
    engine.dispose()


def test_a_write_on_sqlite_takes_its_turn_when_it_begins(sqlite_url: str):
    engine = open_engine(sqlite_url)
    writing = engine.connect().execution_options(**{WRITES: True})
    with writing, writing.begin(), engine.connect() as other:
        other.exec_driver_sql("PRAGMA busy_timeout=0")
        with pytest.raises(sa.exc.OperationalError, match="locked"):
            other.exec_driver_sql("BEGIN IMMEDIATE")
    engine.dispose()


@pytest.mark.parametrize("table", ["audit_events", "audit_leaves", "audit_checkpoints"])
@pytest.mark.parametrize("verb", ["delete from {}", "update {} set {}"])
def test_the_audit_log_refuses_changes(store: Store, table: str, verb: str):
    rows = {
        "audit_events": "(id, recorded_ms, event, action, outcome, body) "
        "values ('a', 1, 'note', 'E', '0', '')",
        "audit_leaves": "(leaf_index, audit_seq, leaf_hash) values (0, 1, '')",
        "audit_checkpoints": "(size, note, frontier, created_ms) values (1, '', '', 1)",
    }
    change = {
        "audit_events": "outcome = '8'",
        "audit_leaves": "audit_seq = 2",
        "audit_checkpoints": "note = 'x'",
    }
    with store.engine.begin() as connection:
        connection.execute(sa.text(f"insert into {table} {rows[table]}"))

    with (
        pytest.raises(sa.exc.DBAPIError, match="append-only"),
        store.engine.begin() as connection,
    ):
        connection.execute(sa.text(verb.format(table, change[table])))


@pytest.mark.integration
def test_the_audit_log_refuses_to_be_emptied(postgresql_url: str):
    engine = open_engine(postgresql_url)

    with (
        pytest.raises(sa.exc.DBAPIError, match="append-only"),
        engine.begin() as connection,
    ):
        connection.execute(sa.text("truncate audit_events"))

    engine.dispose()


def test_only_a_write_that_may_be_lost_does_not_wait_for_the_disk(store: Store):
    asked = {"sqlite": "PRAGMA synchronous", "postgresql": "show synchronous_commit"}
    query = asked[store.engine.dialect.name]
    found = []

    for is_durable in (True, False, True):
        with store.write(is_durable=is_durable) as uow:
            found.append(str(uow.connection.exec_driver_sql(query).scalar()))

    assert found in (["2", "1", "2"], ["on", "off", "on"])


def test_rows_of_plain_values_are_inserted_together(sqlite_url: str):
    table = sa.Table(
        "plain",
        sa.MetaData(),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("is_set", sa.Boolean),
        sa.Column("content", sa.LargeBinary),
        sa.Column("name", sa.String),
    )
    rows = [
        {"name": "a", "content": b"\x00\xff", "is_set": True, "id": 1},
        {"name": None, "content": b"", "is_set": False, "id": 2},
    ]
    engine = open_engine(sqlite_url)
    with engine.begin() as connection:
        table.create(connection)
        insert_all(connection, table, rows)
        insert_all(connection, table, [])
        found = connection.execute(sa.select(table).order_by(table.c.id)).mappings().all()
    engine.dispose()

    assert [dict(row) for row in found] == rows


def test_a_statement_for_many_rows_counts_those_that_it_changed(store: Store):
    table = metadata.tables["witness_states"]
    named = table.c.name == sa.bindparam("which")
    update = sa.update(table).where(named).values(size=sa.bindparam("now"), problem="away")

    with store.engine.connect() as connection, connection.begin():
        insert_all(connection, table, [{"name": "one"}, {"name": "two"}])
        changed = execute_all(
            connection,
            update,
            [{"which": "one", "now": 1}, {"which": "nobody", "now": 2}, {"which": "two", "now": 3}],
        )
        none = execute_all(connection, update, [])
        kept = connection.execute(sa.select(table.c.name, table.c.size, table.c.problem)).all()

    assert (changed, none) == (2, 0)
    assert sorted(map(tuple, kept)) == [("one", 1, "away"), ("two", 3, "away")]


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[sa.Engine]:
    url = f"sqlite:///{tmp_path / 'nadi.db'}"
    migrate(url)
    engine = open_engine(url)
    yield engine
    engine.dispose()


def test_a_writer_begins_as_soon_as_the_one_before_it_has_ended(sqlite: sa.Engine):
    """The driver's own naps grow: whoever waits for 36 ms would sleep until 53 ms have passed."""

    def late_s() -> float:
        with ThreadPoolExecutor(1) as pool, writing(sqlite):
            begun = pool.submit(moment_of_writing, sqlite)
            time.sleep(0.036)
            ended = time.monotonic()
        return begun.result() - ended

    # The third of nine: another process may take the processor from some of them.
    assert sorted(late_s() for _ in range(9))[2] < 0.009


def test_a_writer_waits_long_for_one_that_takes_its_time(sqlite: sa.Engine):
    with ThreadPoolExecutor(1) as pool:
        with writing(sqlite):
            begun = pool.submit(moment_of_writing, sqlite)
            time.sleep(0.3)
            ended = time.monotonic()
        assert begun.result() > ended - 0.01


@contextmanager
def writing(engine: sa.Engine) -> Iterator[None]:
    with (
        engine.connect().execution_options(**{WRITES: True}) as connection,
        connection.begin(),
    ):
        connection.execute(metadata.tables["sites"].select())
        yield


def moment_of_writing(engine: sa.Engine) -> float:
    with writing(engine):
        return time.monotonic()
