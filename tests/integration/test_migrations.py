"""A filled database of every earlier schema comes to the newest one with all its rows and its log;
one of a newer schema is left as it is."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core.audit import Source, Step, noted
from gateway.core.audit_rights import changed
from gateway.core.clock import new_id
from gateway.core.errors import ConfigurationError
from gateway.core.ledger import verifier_key
from gateway.settings import Settings
from gateway.store.engine import _alembic, migrate, newest_schema
from gateway.store.erasing import Order, erase
from gateway.store.erasures import LegalHold
from gateway.store.installation import open_installation, record_start
from gateway.store.packing import unpacked
from gateway.store.sealing import Sealer
from gateway.store.tables import metadata
from gateway.store.unit_of_work import Store
from gateway.store.verification import verify
from tests.hospital import Hospital, observation
from tests.registered import ACTOR

pytestmark = pytest.mark.integration

SIGNING = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
ORIGIN = "nadi.health/audit/migrations"
REVISIONS = sorted(
    each.revision for each in ScriptDirectory.from_config(_alembic("")).walk_revisions()
)
#: The schemas from which on rows of these kinds can be there.
WITH_RIGHTS = "0007"
#: The one before the register of models: its rows can't be what the log says of models.
WITHOUT_REGISTER = "0001"

Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Filled:
    """What a hospital's database held, and the key under which it is sealed."""

    rows: Rows
    sealer: Sealer


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Filled]:
    """The rows of two hospitals: one that erased and kept for the law, one of before that."""
    made = {}
    for has_rights in (False, True):
        hospital = Hospital(tmp_path_factory.mktemp("hospital"))
        work(hospital)
        if has_rights:
            keep_and_erase(hospital)
        integrate(hospital.store)
        made[has_rights] = Filled(rows_of(hospital.store.engine), hospital.store.sealer)
        hospital.close()
    return made


def work(hospital: Hospital) -> None:
    """Deliver one result, refuse one, leave one waiting."""
    hospital.store.check_key()
    for name, consent in (("p1", "permit"), ("p2", "deny"), ("p3", "permit")):
        hospital.admit_patient(name, consent)
    for name in ("p1", "p2"):
        hospital.ehr.put(observation(of=name, name=f"o-{name}"))
        hospital.push(observation(of=name, name=f"o-{name}"))
    hospital.infer()
    hospital.deliver()
    integrate(hospital.store)
    hospital.push(observation(of="p3", name="o-p3"))
    with hospital.store.write() as uow:
        record_start(uow, Source("site", "relay"))
        # Enough for an inner node of the tree.
        steps = (Step(id=new_id(), recorded=uow.now, source=ACTOR.source) for _ in range(256))
        uow.audit(*(noted(step, "note") for step in steps))


def keep_and_erase(hospital: Hospital) -> None:
    store = hospital.store
    kept, erased = (store.sealer.patient_key("ehr", f"Patient/{name}") for name in ("p1", "p2"))
    with store.write() as uow:
        hold = LegalHold(
            id=new_id(),
            patient_key=kept,
            placed_ms=uow.now_ms,
            placed_by=ACTOR.name,
            reason="Case pending",
            law="Order 12",
        )
        uow.erasures.place(hold)
        step = Step(id=new_id(), recorded=uow.now, source=ACTOR.source, patient_key=kept)
        uow.audit(changed(step, "hold", by=ACTOR.by, about=hold.id, details={"what": "placed"}))
        erase(uow, Order(patient_key=erased, reason="She asked.", law="s.12"), frozenset(), ACTOR)


def integrate(store: Store) -> None:
    with store.write() as uow:
        uow.audit_log.integrate(SIGNING, ORIGIN)


def rows_of(engine: sa.Engine) -> Rows:
    """Read every row of every table, in one order; AuditEvents plain, as they once were."""
    there = set(sa.inspect(engine).get_table_names())
    with engine.connect() as connection:
        return {
            name: sorted(
                (plain(name, row) for row in connection.execute(sa.select(table)).mappings()),
                key=repr,
            )
            for name, table in metadata.tables.items()
            if name in there
        }


def plain(table: str, row: sa.RowMapping) -> dict[str, Any]:
    return {**row, "body": unpacked(row["body"])} if table == "audit_events" else dict(row)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'nadi.db'}"
    url: str = request.getfixturevalue("postgresql_url")
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("drop schema public cascade; create schema public")
    engine.dispose()
    return url


def fill(url: str, revision: str, rows: Rows) -> Rows:
    """Make a database of an earlier schema with these rows, as far as it has their tables."""
    command.upgrade(_alembic(url), revision)
    engine = sa.create_engine(url)
    asked = sa.inspect(engine)
    there = {name: columns_of(asked, name) for name in asked.get_table_names()}
    kept = {
        name: [{column: row[column] for column in row if column in there[name]} for row in found]
        for name, found in rows.items()
        if name in there and found
    }
    with engine.begin() as connection:
        for name, found in kept.items():
            connection.execute(sa.insert(metadata.tables[name]), found)
        if engine.dialect.name == "postgresql":
            last = max(row["seq"] for row in rows["audit_events"])
            connection.exec_driver_sql(
                f"select setval(pg_get_serial_sequence('audit_events', 'seq'), {last})"
            )
    engine.dispose()
    return kept


def columns_of(asked: sa.Inspector, table: str) -> set[str]:
    return {column["name"] for column in asked.get_columns(table)}


def parts(rows: list[dict[str, Any]], like: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give the columns that other rows have."""
    return [{column: row[column] for column in like[0]} for row in rows]


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_a_filled_database_of_each_earlier_schema_keeps_its_rows_and_its_log(
    revision: str, filled: dict[bool, Filled], empty_url: str
) -> None:
    hospital = filled[revision >= WITH_RIGHTS]
    kept = fill(empty_url, revision, hospital.rows)
    assert {"events", "jobs", "deliveries", "audit_events", "patient_keys"} <= kept.keys()

    migrate(empty_url)

    store = Store(empty_url, hospital.sealer)
    after = rows_of(store.engine)
    assert {name: parts(after[name], found) for name, found in kept.items()} == kept
    # What later schemas work out of the log is there as if it had been from the first.
    assert after["audit_nodes"] == hospital.rows["audit_nodes"]
    assert after["audit_terms"] == hospital.rows["audit_terms"]
    store.check_key()
    verifier = verifier_key(ORIGIN, SIGNING.public_key())
    with store.read() as uow:
        report = verify(
            uow,
            verifier,
            outside=[],
            progress=lambda *_: None,
            is_log_only=revision == WITHOUT_REGISTER,
        )
    assert (report.holds, report.findings) == (True, [])
    append(store)
    store.close()


def append(store: Store) -> None:
    """Let the log go on from where it was."""
    with store.write() as uow:
        size = uow.audit_proofs.newest()[0]
        uow.audit(noted(Step(id=new_id(), recorded=uow.now, source=ACTOR.source), "note"))
    integrate(store)
    with store.read() as uow:
        assert uow.audit_proofs.newest()[0] == size + 1


def test_a_database_of_a_newer_schema_is_refused_and_left_as_it_is(
    database_url: str, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path / "nadi", database_url=database_url)
    opened = open_installation(settings)
    with opened.store.write() as uow:
        record_start(uow, Source("site", "relay"))
    with opened.store.engine.begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9001'")
        connection.exec_driver_sql("create table of_the_future (id integer)")
    before, files = rows_of(opened.store.engine), digests(tmp_path / "nadi")
    opened.store.close()

    with pytest.raises(ConfigurationError) as refused:
        open_installation(settings)

    says = refused.value.message
    assert "its schema is 9001, last used by Nadi 0.1.0" in says
    assert f"knows schemas up to {newest_schema()}. Nothing was changed." in says
    assert "docs/recovery.md" in says
    engine = sa.create_engine(database_url)
    assert rows_of(engine) == before
    assert digests(tmp_path / "nadi") == files
    engine.dispose()


def test_a_newer_database_without_a_readable_log_is_refused_too(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nadi.db'}"
    migrate(url)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9001'")
        connection.exec_driver_sql("drop table audit_events")

    with pytest.raises(ConfigurationError, match=r"its schema is 9001\. This is Nadi"):
        migrate(url)

    engine.dispose()


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
