"""What has had its time is removed to the day, in short transactions; the log still verifies."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from gateway.core.audit import AgentKind, AuditAgent, Source, Step
from gateway.core.audit_rights import changed
from gateway.core.clock import new_id, utc_now
from gateway.core.errors import Erased
from gateway.core.retention import DAY_MS, Retention, RetentionClass
from gateway.store import retaining
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.erasing import Order, erase
from gateway.store.erasures import LegalHold
from gateway.store.registering import Actor
from gateway.store.retaining import Run, due, expire
from gateway.store.tables import CURRENT_CONSENT, REPLACED_CONSENT, events
from gateway.store.unit_of_work import Store
from gateway.store.verification import verify
from tests.arriving import add, arrival
from tests.hospital import Hospital, consent_of, observation
from tests.installation import Installation, consent, creatinine, installation

BY = AuditAgent("os-user:ada", "ada", AgentKind.USER, role="operator")
SOURCE = Source("site", "relay")
RULES = Retention(is_in_force=True)
DAY_S = DAY_MS / 1000


def run() -> Run:
    return Run(SOURCE, BY, new_id())


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    made.admit_patient()
    made.push(observation())
    made.infer()
    made.deliver()
    yield made
    made.close()


def removed(hospital: Hospital) -> dict[str, int]:
    done = expire(hospital.store, RULES, run())
    return {name.value: count for name, count in done.items() if count}


def test_on_day_364_all_is_kept_and_on_day_366_it_is_removed(hospital: Hospital) -> None:
    hospital.pass_time(364 * DAY_S)
    assert removed(hospital) == {}

    hospital.pass_time(2 * DAY_S)

    assert removed(hospital) == {"payloads": 2}, "the patient and her measurement"
    assert removed(hospital) == {}
    assert ("expire", "0") in hospital.audited()


def test_each_class_has_its_own_time(hospital: Hospital) -> None:
    hospital.push(consent_of(version="2"))
    hospital.pass_time(1096 * DAY_S)

    with hospital.store.read() as uow:
        counts = {each.name.value: each.count for each in due(uow, RULES)}

    assert counts == {"payloads": 2, "consents": 1, "results": 1, "undelivered": 0}
    assert removed(hospital) == {"payloads": 2, "consents": 1, "results": 1}


def test_the_consent_in_force_is_never_removed(hospital: Hospital) -> None:
    hospital.pass_time(4000 * DAY_S)
    removed(hospital)

    with hospital.store.read() as uow:
        kinds = uow.erasures.by_type(hospital.store.sealer.patient_key("ehr", "Patient/p1"))
    assert kinds == {"Consent": 1}


def test_a_consent_that_is_replaced_years_later_is_removed_then(hospital: Hospital) -> None:
    hospital.pass_time(1500 * DAY_S)
    assert "consents" not in removed(hospital)

    hospital.push(consent_of(version="2"))

    assert removed(hospital) == {"consents": 1}


def test_a_result_that_was_given_up_after_its_time_is_removed_then(hospital: Hospital) -> None:
    statement = "update deliveries set state = '{}'"
    with hospital.store.write() as uow:
        uow.connection.execute(sa.text(statement.format("pending")))
    hospital.pass_time(400 * DAY_S)
    assert removed(hospital) == {"payloads": 2}
    with hospital.store.write() as uow:
        uow.connection.execute(sa.text(statement.format("failed")))

    assert removed(hospital) == {"undelivered": 1}


@pytest.mark.parametrize(
    ("these", "index"),
    [
        ([sa.text(REPLACED_CONSENT)], "ix_events_replaced_consents"),
        ([sa.text(CURRENT_CONSENT), events.c.system == "ehr"], "ix_events_current_consents"),
    ],
    ids=["replaced", "current"],
)
def test_consents_are_found_by_their_index(
    hospital: Hospital, these: list[sa.ColumnElement[bool]], index: str
) -> None:
    with hospital.store.read() as uow:
        query = str(
            sa.select(events.c.id)
            .where(*these, events.c.id > "")
            .order_by(events.c.id)
            .limit(5)
            .compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
        )
        plan = uow.connection.exec_driver_sql(f"explain query plan {query}").all()
    assert index in str(plan)


def test_what_was_removed_says_so_and_what_comes_later_works(hospital: Hospital) -> None:
    hospital.pass_time(366 * DAY_S)
    removed(hospital)
    with hospital.store.read() as uow:
        [gone] = [
            e for e in uow.events.recent(principal_id=None, limit=9) if "Obs" in e.resource_type
        ]
        with pytest.raises(Erased):
            uow.events.content(gone)

    hospital.push({"resourceType": "Patient", "id": "p1", "birthDate": "1970-01-01"})
    hospital.push(observation(1.7, name="o2", at=hospital.now - timedelta(hours=1)))

    assert hospital.infer() == 1
    assert hospital.deliver() == 1


def test_a_legal_hold_keeps_a_row_until_it_is_lifted(hospital: Hospital) -> None:
    hospital.push({"resourceType": "Patient", "id": "p2", "birthDate": "1980-01-01"})
    key = hospital.store.sealer.patient_key("ehr", "Patient/p1")
    hold = place_hold(hospital, key)
    hospital.pass_time(366 * DAY_S)

    with hospital.store.read() as uow:
        [payloads] = [each for each in due(uow, RULES) if each.name is RetentionClass.PAYLOADS]
    assert (payloads.count, payloads.on_hold) == (3, 2)
    assert removed(hospital) == {"payloads": 1}
    assert removed(hospital) == {}

    with hospital.store.write() as uow:
        uow.erasures.lift(hold.id, "ada")

    assert removed(hospital) == {"payloads": 2}


def place_hold(hospital: Hospital, key: str) -> LegalHold:
    with hospital.store.write() as uow:
        hold = LegalHold(
            id=new_id(),
            patient_key=key,
            placed_ms=uow.now_ms,
            placed_by="ada",
            reason="A case is pending.",
            law="Order 12/2026",
        )
        uow.erasures.place(hold)
        step = Step(id=new_id(), recorded=uow.now, source=SOURCE, patient_key=key)
        uow.audit(changed(step, "hold", by=BY, about=hold.id, details={"what": "placed"}))
    return hold


def test_what_an_open_job_needs_stays(hospital: Hospital) -> None:
    hospital.push(observation(2.0, name="o2"))
    hospital.pass_time(366 * DAY_S)

    assert removed(hospital) == {"payloads": 2}

    with hospital.store.write() as uow:
        uow.connection.execute(sa.text("update jobs set state = 'failed' where state = 'ready'"))
    assert removed(hospital) == {"payloads": 1}


def test_a_result_that_is_still_to_be_marked_stays(hospital: Hospital) -> None:
    delivery = hospital.delivery()
    with hospital.store.write() as uow:
        uow.retractions.add(delivery.id, delivery.patient_key, "Consent was withdrawn.")
    hospital.pass_time(1100 * DAY_S)

    assert removed(hospital) == {"payloads": 2}

    with hospital.store.write() as uow:
        uow.connection.execute(sa.text("update retractions set state = 'done'"))
    assert removed(hospital) == {"results": 1}


def test_a_transaction_looks_at_a_few_rows_only(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital.push(*(observation(1.0, name=f"x{n}", code="1751-7") for n in range(25)))
    hospital.pass_time(366 * DAY_S)
    monkeypatch.setattr(retaining, "AT_ONCE", 10)
    stops: list[int] = []

    def between() -> bool:
        stops.append(1)
        return False

    done = expire(hospital.store, RULES, run(), has_to_stop=between)

    assert done[RetentionClass.PAYLOADS] == 27
    assert len(stops) >= 3


def test_a_run_that_was_stopped_is_taken_up_by_the_next(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    hospital.push(*(observation(1.0, name=f"x{n}", code="1751-7") for n in range(25)))
    hospital.pass_time(366 * DAY_S)
    monkeypatch.setattr(retaining, "AT_ONCE", 10)

    first = expire(hospital.store, RULES, run(), has_to_stop=lambda: True)

    assert sum(first.values()) < 27
    assert sum(removed(hospital).values()) + sum(first.values()) == 27


@pytest.fixture
def nadi(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path / "nadi") as made:
        made.receive(consent("p1"), creatinine("p1"), creatinine("p2"))
        made.receive_bundle(consent("p3"), creatinine("p3"), creatinine("p1", 2))
        made.receive_bundle(creatinine("p1"))
        made.receive(consent("p1", rule="deny", version="2"))
        made.integrate()
        yield made


def findings(nadi: Installation) -> list[str]:
    outside = CheckpointFile(nadi.folder).notes()
    with nadi.store.read() as uow:
        found = verify(uow, nadi.keys.verifier, outside=outside, progress=lambda *_: None).findings
    return [f"{each.table} {each.what}" for each in found]


def later(nadi: Installation, days: int) -> None:
    nadi.store._clock = lambda: utc_now() + timedelta(days=days)


def test_the_log_verifies_after_retention_and_an_erasure_after_it(nadi: Installation) -> None:
    with nadi.store.write() as uow:
        uow.connection.execute(sa.text("update jobs set state = state"))
    later(nadi, 1100)
    # Jobs that nobody runs here are still open: they hold their events.
    key = nadi.store.sealer.patient_key("ehr", "Patient/p1")
    done = expire(nadi.store, RULES, run())
    assert done[RetentionClass.CONSENTS] == 1
    assert findings(nadi) == []

    actor = Actor(SOURCE, BY, "ada")
    with nadi.store.write() as uow:
        erase(uow, Order(patient_key=key, reason="She asked.", law="s.12"), set(), actor)
    nadi.integrate()

    assert findings(nadi) == []


def test_a_row_emptied_before_its_time_is_found(nadi: Installation) -> None:
    later(nadi, 1100)
    expire(nadi.store, RULES, run())
    with nadi.store.write() as uow:
        query = "select id from events where length(payload) > 0 and resource_type = 'Consent'"
        name = uow.connection.scalar(sa.text(query))
        emptied = sa.text("update events set payload = x'' where id = :id")
        uow.connection.execute(emptied, {"id": name})

    assert any("events" in each and "on record" in each for each in findings(nadi))


def test_both_databases_remove_the_same(store: Store) -> None:
    add(store, observation(), consent_of(kind="deny"))
    with store.write() as uow:
        first = consent_of(version="9")
        uow.events.add([(arrival(store, first), False)])
    store._clock = lambda: utc_now() + timedelta(days=1100)

    with store.read() as uow:
        counts = {each.name.value: each.count for each in due(uow, RULES)}
    done = expire(store, RULES, run())

    assert counts == {"payloads": 1, "consents": 1, "results": 0, "undelivered": 0}
    assert {name.value: count for name, count in done.items()} == counts
    assert sum(expire(store, RULES, run()).values()) == 0
