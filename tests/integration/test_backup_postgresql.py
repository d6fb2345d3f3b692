"""Backups of a PostgreSQL database: proven in a scratch one, put into an empty one or nowhere."""

import json
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import Result
from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.cli.prepare import prepare_data
from gateway.core.audit import Step, noted
from gateway.core.clock import new_id
from gateway.settings import Settings
from gateway.store.installation import open_installation
from tests.registered import ACTOR

pytestmark = pytest.mark.integration

_numbers = count(1)


def run(*arguments: str, code: int = 0, **environment: str) -> Result:
    done = CliRunner().invoke(app, list(arguments), env=environment)
    assert done.exit_code == code, (done.output, done.stderr, done.exception)
    return done


@pytest.fixture
def empty(postgresql: str) -> Iterator[str]:
    """An empty database."""
    name = f"backup_{os.getpid()}_{next(_numbers)}"
    engine = sa.create_engine(postgresql, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"create database {name} template template1"))
    yield postgresql.replace("/postgres?", f"/{name}?")
    with engine.connect() as connection:
        connection.execute(sa.text(f"drop database {name} with (force)"))
    engine.dispose()


@pytest.fixture
def backup(postgresql_url: str, tmp_path: Path) -> Path:
    """A backup of an installation with a log of some entries."""
    settings = Settings(data_dir=tmp_path / "nadi", database_url=postgresql_url)
    prepare_data(settings, sandbox=True)
    nadi = open_installation(settings)
    for number in range(3):
        with nadi.store.write() as uow:
            step = Step(id=new_id(), recorded=uow.now, source=ACTOR.source)
            uow.audit(noted(step, "note", details={"number": str(number)}))
        with nadi.store.write() as uow:
            uow.audit_log.integrate(nadi.keys.signing, nadi.keys.origin)
    nadi.store.close()
    where = {"NADI_DATA_DIR": str(tmp_path / "nadi"), "NADI_DATABASE_URL": postgresql_url}
    run("backup", "key", "--out", str(tmp_path / "backup.key"), **where)
    run("backup", str(tmp_path / "b"), **where)
    return tmp_path / "b"


def tables_of(url: str) -> set[str]:
    engine = sa.create_engine(url)
    try:
        return set(sa.inspect(engine).get_table_names())
    finally:
        engine.dispose()


def functions_of(url: str) -> int:
    engine = sa.create_engine(url)
    asked = "select count(*) from pg_proc where pronamespace = 'public'::regnamespace"
    try:
        with engine.connect() as connection:
            return int(connection.exec_driver_sql(asked).scalar_one())
    finally:
        engine.dispose()


def test_it_is_proven_in_a_scratch_database_that_is_empty_again_afterwards(
    backup: Path, empty: str
) -> None:
    key = str(backup.with_name("backup.key"))

    dump = json.loads(run("backup", "verify", str(backup), "--key", key, "--json").stdout)
    told = json.loads(
        run("backup", "verify", str(backup), "--key", key, "--database-url", empty, "--json").stdout
    )

    assert (dump["holds"], dump["is_log_verified"]) == (True, False)
    assert "--database-url" in dump["notes"][0]
    assert (told["holds"], told["is_log_verified"], told["findings"]) == (True, True, [])
    assert told["backup"]["database"] == "postgresql"
    assert (tables_of(empty), functions_of(empty)) == (set(), 0)


def test_it_comes_back_in_an_empty_database_and_can_be_worked_with(
    backup: Path, empty: str, tmp_path: Path
) -> None:
    key, where = str(backup.with_name("backup.key")), {"NADI_DATABASE_URL": empty}
    new = ("--data-dir", str(tmp_path / "new"))

    run("restore", str(backup), "--key", key, *new, **where)

    assert "The log holds" in run("audit", "verify", *new, **where).stdout
    assert not (tmp_path / "new" / "nadi.dump").exists()
    # The log refuses to be changed as before, and goes on behind its last number.
    nadi = open_installation(Settings(data_dir=tmp_path / "new", database_url=empty))
    with (
        pytest.raises(sa.exc.DBAPIError, match="append-only"),
        nadi.store.engine.begin() as connection,
    ):
        connection.exec_driver_sql("update audit_events set outcome = '8'")
    with nadi.store.write() as uow:
        uow.audit(noted(Step(id=new_id(), recorded=uow.now, source=ACTOR.source), "note"))
    nadi.store.close()


def test_the_role_of_the_processes_gets_its_rights_where_the_owner_restores(
    backup: Path, empty: str, tmp_path: Path
) -> None:
    key, new = str(backup.with_name("backup.key")), ("--data-dir", str(tmp_path / "new"))
    service = empty.replace("nadi@", f"service_{new_id()[-12:]}@")
    where = {"NADI_DATABASE_URL": service}

    run("restore", str(backup), "--key", key, *new, NADI_DATABASE_OWNER_URL=empty, **where)

    assert "The log holds" in run("audit", "verify", *new, **where).stdout
    owner, role = sa.create_engine(empty), sa.make_url(service).username
    with owner.begin() as connection:
        connection.exec_driver_sql(f"revoke all on all tables in schema public from {role}")
    assert "`nadi prepare`" in run("audit", "verify", *new, code=1, **where).stderr
    with owner.begin() as connection:
        connection.exec_driver_sql(f"drop owned by {role}")
        connection.exec_driver_sql(f"drop role {role}")
    owner.dispose()


def test_a_database_that_is_not_empty_is_left_as_it_is(
    backup: Path, postgresql_url: str, tmp_path: Path
) -> None:
    key, before = str(backup.with_name("backup.key")), tables_of(postgresql_url)
    new, where = ("--data-dir", str(tmp_path / "new")), {"NADI_DATABASE_URL": postgresql_url}

    refused = run("restore", str(backup), "--key", key, *new, code=1, **where)

    assert "is not empty" in refused.stderr
    assert tables_of(postgresql_url) == before
    assert not (tmp_path / "new").exists()


def test_without_a_postgresql_database_it_is_told_what_is_needed(
    backup: Path, tmp_path: Path
) -> None:
    key, new = str(backup.with_name("backup.key")), ("--data-dir", str(tmp_path / "new"))

    refused = run("restore", str(backup), "--key", key, *new, code=1)

    assert "name an empty one by NADI_DATABASE_URL" in refused.stderr
    assert not (tmp_path / "new").exists()


def test_what_fails_after_the_rows_are_back_leaves_the_database_empty(
    backup: Path, empty: str, tmp_path: Path
) -> None:
    key = str(backup.with_name("backup.key"))
    nowhere = ("--erasures", str(tmp_path / "none.log"))
    arguments = ("--data-dir", str(tmp_path / "new"), *nowhere)

    refused = run("restore", str(backup), "--key", key, *arguments, code=1, NADI_DATABASE_URL=empty)

    assert "none.log can't be used" in refused.stderr
    assert (tables_of(empty), functions_of(empty)) == (set(), 0)
    assert not (tmp_path / "new").exists()


def test_without_the_programs_of_postgresql_the_remedy_is_told(
    backup: Path, postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = {"NADI_DATA_DIR": str(tmp_path / "nadi"), "NADI_DATABASE_URL": postgresql_url}
    monkeypatch.setenv("PATH", str(tmp_path))

    made = run("backup", str(tmp_path / "c"), code=1, **where)
    key = str(backup.with_name("backup.key"))
    proven = run("backup", "verify", str(backup), "--key", key, code=1)

    assert "pg_dump is not on this machine" in made.stderr
    assert "apt install postgresql-client" in made.stderr
    assert "pg_restore is not on this machine" in proven.stderr
    assert not (tmp_path / "c").exists()


def test_a_role_that_may_only_add_to_the_log_can_make_a_backup(
    postgresql_url: str, tmp_path: Path
) -> None:
    role = f"backup_{os.getpid()}_{next(_numbers)}"
    service = postgresql_url.replace("nadi@", f"{role}@")
    where = {"NADI_DATA_DIR": str(tmp_path / "nadi"), "NADI_DATABASE_URL": service}
    run("prepare", "--sandbox", NADI_DATABASE_OWNER_URL=postgresql_url, **where)
    run("backup", "key", "--out", str(tmp_path / "backup.key"), **where)

    told = json.loads(run("backup", str(tmp_path / "b"), "--json", **where).stdout)

    assert told["counts"]["credentials"] > 0
