"""On PostgreSQL the processes' role can add to the audit log and never change it."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from gateway.core.errors import ConfigurationError, StoreUnavailable
from gateway.store.engine import migrate, open_engine
from gateway.store.privileges import APPEND_ONLY, KEPT, grant_service_role, rewritable

pytestmark = pytest.mark.integration


@pytest.fixture
def service_url(postgresql_url: str) -> str:
    """The URL of a role of its own for this database: roles belong to the whole cluster."""
    number = postgresql_url.rpartition("/nadi_")[2].partition("?")[0]
    return postgresql_url.replace("nadi@", f"Service {number}@")


@pytest.fixture
def service(postgresql_url: str, service_url: str) -> Iterator[sa.Engine]:
    grant_service_role(postgresql_url, service_url)
    engine = open_engine(service_url)
    yield engine
    engine.dispose()


def test_the_tables_are_those_that_triggers_keep_append_only(postgresql_url: str) -> None:
    engine = open_engine(postgresql_url)

    with engine.connect() as connection:
        query = "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname ~ 'append_only'"
        assert set(APPEND_ONLY) == set(connection.exec_driver_sql(query).scalars())
    engine.dispose()


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {} SET size = size",
        "DELETE FROM {}",
        "TRUNCATE {}",
        "DROP TABLE {}",
        "ALTER TABLE {} DISABLE TRIGGER ALL",
    ],
)
def test_no_table_of_the_log_can_be_changed(service: sa.Engine, table: str, statement: str) -> None:
    column = sa.inspect(service).get_columns(table)[0]["name"]

    with (
        service.begin() as connection,
        pytest.raises(DBAPIError, match=r"permission denied|must be owner"),
    ):
        connection.exec_driver_sql(statement.format(table).replace("size", column))


def test_the_log_can_be_read_and_added_to(service: sa.Engine) -> None:
    with service.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO audit_leaves (leaf_index, audit_seq, leaf_hash) VALUES (0, 1, '\\x00')"
        )
        count = connection.exec_driver_sql("SELECT count(*) FROM audit_leaves").scalar_one()

    assert count == 1


@pytest.mark.parametrize("table", KEPT)
def test_what_is_never_removed_can_not_be_by_the_service(service: sa.Engine, table: str) -> None:
    for statement in (f"DELETE FROM {table}", f"TRUNCATE {table}"):  # noqa: S608
        with pytest.raises(DBAPIError, match="permission denied"), service.begin() as connection:
            connection.exec_driver_sql(statement)


def test_the_service_needs_no_more_to_start_again(service: sa.Engine, service_url: str) -> None:
    migrate(service_url)

    with service.connect() as connection:
        assert rewritable(connection) == ()


def test_an_owner_is_told_that_it_could_rewrite_the_log(postgresql_url: str) -> None:
    engine = open_engine(postgresql_url)

    with engine.connect() as connection:
        assert rewritable(connection) == APPEND_ONLY
    engine.dispose()


def test_rights_that_somebody_gave_beyond_are_told_of_and_taken_back(
    service: sa.Engine, postgresql_url: str, service_url: str
) -> None:
    owner = open_engine(postgresql_url)
    role = sa.make_url(service_url).username
    with owner.begin() as connection:
        connection.exec_driver_sql(f'GRANT DELETE ON audit_leaves TO "{role}"')
    owner.dispose()

    with service.connect() as connection:
        assert rewritable(connection) == ("audit_leaves",)
    grant_service_role(postgresql_url, service_url)
    with service.connect() as connection:
        assert rewritable(connection) == ()


@pytest.mark.parametrize("service", ["nadi@", "@"])
def test_owner_and_service_have_to_be_two_roles(postgresql_url: str, service: str) -> None:
    with pytest.raises(ConfigurationError, match="two roles"):
        grant_service_role(postgresql_url, postgresql_url.replace("nadi@", service))


def test_sqlite_has_no_roles(sqlite_url: str) -> None:
    engine = open_engine(sqlite_url)

    with engine.connect() as connection:
        assert rewritable(connection) == ()
    engine.dispose()
    with pytest.raises(ConfigurationError, match="PostgreSQL"):
        grant_service_role(sqlite_url, sqlite_url)


@pytest.mark.usefixtures("service")
def test_who_may_not_grant_is_told_so(service_url: str) -> None:
    role = sa.make_url(service_url).username or ""

    with pytest.raises(StoreUnavailable, match="can't be given its rights"):
        grant_service_role(service_url, service_url.replace(role, f"{role} other"))
