from datetime import UTC, datetime, timedelta

import orjson
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.core.audit import AuditRecord, Outcome, Source, Step, job_changed, noted
from gateway.core.clock import new_id, to_ms
from gateway.core.errors import StoreConflict
from gateway.core.ledger import Frontier, leaf_hash, root
from gateway.store import audit_log
from gateway.store.audit_log import AuditFilter
from gateway.store.unit_of_work import Store

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
ORIGIN = "nadi.test/log"


def step(minutes: int = 0, **changed: object) -> Step:
    moment = NOW + timedelta(minutes=minutes)
    return Step(id=new_id(), recorded=moment, source=Source("site", "test"), **changed)


def note(minutes: int = 0, **changed: object) -> AuditRecord:
    return noted(step(minutes, **changed), "note")


def add(store: Store, *records: AuditRecord) -> None:
    with store.write() as uow:
        uow.audit(*records)


def integrate(store: Store):
    with store.write() as uow:
        return uow.audit_log.integrate(KEY, ORIGIN)


def test_records_are_kept_byte_for_byte_and_found_newest_first(store: Store):
    records = [note(n) for n in range(3)]
    add(store, *records)

    with store.read() as uow:
        found = uow.audit_log.search(AuditFilter())

    assert [row.body for row in found] == [record.body for record in reversed(records)]
    assert {row.leaf_index for row in found} == {None}


def test_the_checkpoint_is_over_the_leaves_in_the_order_of_the_log(store: Store):
    first, second = [note(n) for n in range(3)], [note(n) for n in range(4)]
    add(store, *first)
    one = integrate(store)
    add(store, *second)

    two = integrate(store)

    hashes = [leaf_hash(record.body) for record in (*first, *second)]
    assert one is not None
    assert two is not None
    assert (one.size, one.root) == (3, root(Frontier().extend(hashes[:3])))
    assert (two.size, two.root) == (7, root(Frontier().extend(hashes)))
    with store.read() as uow:
        leaves = [row.leaf_index for row in uow.audit_log.search(AuditFilter())]
        note_text = uow.audit_log.newest_checkpoint()
    assert sorted(leaves) == [0, 1, 2, 3, 4, 5, 6]
    assert note_text is not None
    assert note_text.startswith(f"{ORIGIN}\n7\n")


def test_without_anything_new_there_is_no_new_checkpoint(store: Store):
    with store.read() as uow:
        assert uow.audit_log.newest_checkpoint() is None
    assert integrate(store) is None
    add(store, note())
    assert integrate(store) is not None
    assert integrate(store) is None


def test_a_long_queue_is_integrated_in_parts(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(audit_log, "INTEGRATION_LIMIT", 2)
    add(store, *(note(n) for n in range(5)))

    sizes = [checkpoint.size for checkpoint in (integrate(store) for _ in range(3)) if checkpoint]

    assert sizes == [2, 4, 5]
    assert integrate(store) is None


def test_a_second_integrator_changes_nothing(store: Store):
    add(store, note())
    integrate(store)
    with store.engine.connect() as connection:
        leaves = connection.execute(sa.text("select * from audit_leaves")).all()

    def again() -> None:
        with store.write() as uow:
            uow.connection.execute(
                sa.text("insert into audit_leaves values (0, 99, :hash)"), {"hash": b"x"}
            )

    with pytest.raises(StoreConflict):
        again()
    with store.engine.connect() as connection:
        assert connection.execute(sa.text("select * from audit_leaves")).all() == leaves


@pytest.mark.integration
def test_a_record_whose_number_shows_late_is_integrated_too(postgresql_url: str):
    """PostgreSQL gives numbers before the commit: the second writer may be visible first."""
    from gateway.store.sealing import Sealer
    from tests.conftest import MASTER

    store = Store(postgresql_url, Sealer(MASTER))
    late, early = note(), note(1)
    with store.write() as slow:
        slow.audit(late)
        slow.flush_audit()
        add(store, early)
        first = integrate(store)
    second = integrate(store)

    assert first is not None
    assert second is not None
    assert (first.size, second.size) == (1, 2)
    with store.read() as uow:
        leaves = {row.body: row.leaf_index for row in uow.audit_log.search(AuditFilter())}
    assert leaves == {early.body: 0, late.body: 1}
    store.close()


def test_a_search_finds_by_everything_it_can_be_narrowed_with(store: Store):
    job = job_changed(
        step(5, job_id="job-1", patient_key="a" * 64, outcome=Outcome.MINOR_FAILURE),
        "refuse",
        state="rejected",
        business_status="consent-denied",
    )
    add(store, note(0), job, note(10))

    def found(**wanted: object) -> int:
        with store.read() as uow:
            count = uow.audit_log.count(AuditFilter(**wanted))
            assert count == len(uow.audit_log.search(AuditFilter(**wanted)))
            return count

    assert found() == 3
    assert found(patient_key="a" * 64) == 1
    assert found(patient_key="b" * 64) == 0
    assert found(job_id="job-1") == 1
    assert found(outcome="4") == 1
    assert found(agent="test") == 3
    assert found(agent="tes") == 0
    assert found(event="refuse") == 1
    assert found(since_ms=to_ms(NOW + timedelta(minutes=5))) == 2
    assert found(until_ms=to_ms(NOW + timedelta(minutes=5))) == 1
    assert found(since_ms=0, until_ms=0) == 0


def test_what_has_a_place_is_streamed_in_the_order_of_the_log(store: Store):
    add(store, *(note(n) for n in range(5)))
    integrate(store)
    add(store, note(9))

    with store.read() as uow:
        rows = list(uow.audit_log.placed(AuditFilter(), size=4))

    assert [row.leaf_index for row in rows] == [0, 1, 2, 3]


def test_pages_follow_each_other_without_gap_or_repeat(store: Store):
    add(store, *(note(n) for n in range(5)))

    with store.read() as uow:
        first = uow.audit_log.search(AuditFilter(limit=2))
        second = uow.audit_log.search(AuditFilter(limit=9, before_seq=first[-1].seq))

    seen = [orjson.loads(row.body)["id"] for row in (*first, *second)]
    assert len(seen) == len(set(seen)) == 5


def test_the_lag_is_how_many_wait_and_since_when(store: Store):
    with store.read() as uow:
        assert uow.audit_log.lag() == (0, None)
    add(store, note(1), note(0))
    with store.read() as uow:
        assert uow.audit_log.lag() == (2, to_ms(NOW))
    integrate(store)
    with store.read() as uow:
        assert uow.audit_log.lag() == (0, None)
