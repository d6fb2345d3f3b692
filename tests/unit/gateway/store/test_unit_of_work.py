from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from gateway.core.audit import Source, Step, noted
from gateway.core.clock import new_id
from gateway.core.errors import (
    ConfigurationError,
    Forbidden,
    StoreConflict,
    StoreRefused,
    StoreUnavailable,
)
from gateway.store.audit_log import AuditFilter
from gateway.store.sealing import MasterKey, Sealer
from gateway.store.tables import sites
from gateway.store.unit_of_work import Store
from gateway.store.witnesses import WitnessState
from tests.conftest import MASTER

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def note() -> object:
    return noted(Step(id=new_id(), recorded=NOW, source=Source("site", "test")), "note")


def test_what_a_block_wrote_is_there_afterwards_with_its_audit(store: Store):
    with store.write() as uow:
        uow.sites.apply("site: a", "me")
        uow.audit(note())

    with store.read() as uow:
        assert uow.sites.version() == 1
        assert uow.audit_log.count(AuditFilter()) == 1


def test_a_block_that_raises_leaves_neither_change_nor_audit(store: Store):
    def interrupted() -> None:
        with store.write() as uow:
            uow.sites.apply("site: a", "me")
            uow.audit(note())
            raise Forbidden

    with pytest.raises(Forbidden):
        interrupted()

    with store.read() as uow:
        assert (uow.sites.version(), uow.audit_log.count(AuditFilter())) == (0, 0)


def test_a_change_whose_audit_cannot_be_written_does_not_happen(store: Store):
    same = note()

    def written() -> None:
        with store.write() as uow:
            uow.sites.apply("site: a", "me")
            uow.audit(same, same)

    with pytest.raises(StoreConflict):
        written()

    with store.read() as uow:
        assert uow.sites.version() == 0


def test_a_unit_of_work_has_one_moment(sqlite_url: str):
    store = Store(sqlite_url, Sealer(MASTER), clock=lambda: NOW)

    with store.read() as uow:
        assert (uow.now, uow.now_ms) == (NOW, 1_795_435_200_000)
    store.close()


def test_a_repository_belongs_to_its_unit_of_work(store: Store):
    with store.read() as uow:
        assert uow.events is uow.events
        assert uow.deliveries is uow.deliveries
        assert uow.credentials is uow.credentials


def test_a_database_that_is_away_is_told_without_its_words(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/no/such/ZZCANARY.db", Sealer(MASTER))

    for opened in (store.read, store.write):
        with pytest.raises(StoreUnavailable) as told, opened():
            pass
        assert "ZZCANARY" not in told.value.message
    store.close()


def test_a_disk_that_is_full_is_told_as_such(sqlite_url: str):
    store = Store(sqlite_url, Sealer(MASTER))

    with pytest.raises(StoreUnavailable, match="disk of the database is full"):
        _fill(store)
    store.close()


def _fill(store: Store) -> None:
    """Write more than a file takes that may not grow: SQLite says the same of a full disk."""
    with store.write() as uow:
        uow.connection.exec_driver_sql("pragma max_page_count = 1")
        uow.listener_state.put("lab/mllp", {"key": "x" * 2_000_000})


def test_the_first_master_key_of_a_database_stays_the_only_one(store: Store, database_url: str):
    other = Store(database_url, Sealer(MasterKey(bytes(32))))
    store.check_key()
    store.check_key()

    with pytest.raises(ConfigurationError, match="not the master key of this data folder"):
        other.check_key()

    other.close()


def test_of_two_keys_that_begin_at_once_the_later_is_refused(store: Store, database_url: str):
    other = Store(database_url, Sealer(MasterKey(bytes(32))))
    store.check_key()

    with pytest.raises(ConfigurationError), other.write() as uow:
        uow.key_check.keep()

    store.check_key()
    other.close()


def test_two_who_make_the_same_are_told_apart(store: Store):
    with store.write() as uow:
        first = uow.sites.apply("site: a", "me")

    def again() -> None:
        with store.write() as uow:
            uow.connection.execute(sa.insert(sites), {**vars(first), "yaml": "ZZCANARY"})

    with pytest.raises(StoreConflict) as told:
        again()
    assert "ZZCANARY" not in told.value.message


@pytest.mark.integration
def test_what_a_database_cannot_hold_is_refused_for_good(postgresql_url: str):
    store = Store(postgresql_url, Sealer(MASTER))

    def stored() -> None:
        with store.write() as uow:
            uow.sites.apply("ZZCANARY \x00", "me")

    with pytest.raises((StoreRefused, StoreUnavailable)) as told:
        stored()
    assert isinstance(told.value, StoreRefused)
    assert "ZZCANARY" not in told.value.message
    store.close()


@pytest.mark.integration
def test_two_that_block_each_other_are_told_to_try_again(postgresql_url: str):
    from threading import Barrier, Thread

    store = Store(postgresql_url, Sealer(MASTER))
    with store.write() as uow:
        for name in ("1", "2"):
            uow.witnesses.keep(WitnessState(name))
    barrier, outcomes = Barrier(2), []

    def cross(first: str, second: str) -> None:
        try:
            with store.write() as uow:
                change = sa.text("update witness_states set size = 1 where name = :name")
                uow.connection.execute(change, {"name": first})
                barrier.wait(10)
                uow.connection.execute(change, {"name": second})
            outcomes.append("done")
        except StoreConflict:
            outcomes.append("conflict")

    threads = [Thread(target=cross, args=order) for order in (("1", "2"), ("2", "1"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert sorted(outcomes) == ["conflict", "done"]
    store.close()
