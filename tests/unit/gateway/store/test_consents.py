import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.core.consent import READ, About, Asks, ConsentRecord, ConsentTerms, Model, question
from gateway.core.consent.local import LocalConsent
from gateway.core.errors import NotFound
from gateway.store.consenting import record, revoke
from gateway.store.consents import ConsentCache
from gateway.store.erasing import Order, erase
from gateway.store.unit_of_work import Store
from tests.arriving import add, arrival
from tests.consenting import CONSENT_KEY
from tests.factories import consent, creatinine
from tests.pcf import labels
from tests.registered import ACTOR

ANA = "Patient/p1"
LIMITED = {"provision": {**consent()["provision"], "securityLabel": labels("N")}}
NORMAL = ConsentTerms(unlabelled_is_normal=True)


def key_of(store: Store) -> str:
    return store.sealer.patient_key("ehr", ANA)


def is_permitted(store: Store) -> bool:
    """Decide as a process does: what is foreseen, then of the data, in one transaction."""
    with store.read() as uow:
        known = uow.consents.of([key_of(store)])[key_of(store)]
        asks = Asks("TREAT", "deny", NORMAL)
        asked = question(asks, About(ANA, None, uow.now), known, Model("toy@1", "d" * 64), READ)
        return asked.foresee().is_permitted and asked.decide(creatinine(1)).is_permitted


def said(decision: Any) -> LocalConsent:
    return LocalConsent(
        patient=ANA,
        system="ehr",
        decision=decision,
        purposes=("TREAT",) if decision == "permit" else (),
        means="verbal",
        recorded_at="2026-11-20T08:00:00Z",
        recorded_by="os-user:clerk",
    )


def recorded(store: Store, decision: Any) -> str:
    with store.write() as uow:
        return record(uow, said(decision), key_of(store), ACTOR)


def taken_back(store: Store, consent_id: str) -> None:
    with store.write() as uow:
        revoke(uow, consent_id, "She asked for it.", ACTOR)


def replaced(store: Store, **changed: Any) -> None:
    """A newer version of her Consent arrives."""
    with store.write() as uow:
        uow.connection.execute(sa.text("update events set is_current = false"))
    add(store, consent(1, **LIMITED, **changed))


@pytest.fixture
def other(store: Store) -> Iterator[Store]:
    """Another process on the same database, with a cache of its own."""
    opened = Store(
        store.engine.url.render_as_string(hide_password=False), store.sealer, consents=CONSENT_KEY
    )
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda other: replaced(other, status="inactive"), id="newer version"),
        pytest.param(lambda other: recorded(other, "ai-opt-out"), id="refusal"),
        pytest.param(lambda other: recorded(other, "deny"), id="denial"),
    ],
)
def test_what_another_process_changed_holds_in_the_next_transaction(
    store: Store, other: Store, change: Callable[[Store], object]
):
    add(store, consent(1, **LIMITED))
    assert [is_permitted(store) for _ in range(2)] == [True, True]

    change(other)

    assert not is_permitted(store)
    assert not is_permitted(other)


def test_what_another_process_took_back_no_longer_permits_here(store: Store, other: Store):
    permit = recorded(store, "permit")
    assert [is_permitted(store), is_permitted(other)] == [True, True]

    taken_back(other, permit)

    assert [is_permitted(store), is_permitted(other)] == [False, False]


def test_of_an_erased_patient_no_process_holds_a_consent_that_it_read(store: Store):
    (sent,) = add(store, consent(1, **LIMITED))
    assert is_permitted(store)
    assert sent.id in held_in_memory()

    with store.write() as uow:
        erase(uow, Order(patient_key=key_of(store), reason="x", law="y"), set(), ACTOR)
    store.forget_opened()

    assert sent.id not in held_in_memory()


def held_in_memory() -> set[str]:
    gc.collect()
    found = [each for each in gc.get_objects() if isinstance(each, ConsentRecord)]
    return {each.ref.removeprefix("Consent/") for each in found}


def test_the_consents_of_patients_are_read_once_and_by_patient(store: Store):
    ana, ben = add(store, consent(1), consent(2, "Patient/p2", status="inactive"))
    add(store, consent(3, status="rejected"), is_current=False)
    keys = [str(ana.patient_key), str(ben.patient_key), "c" * 64]

    with store.read() as uow:
        first = uow.consents.of(keys)
        assert uow.consents.of(keys) == first

    assert [record.ref for record in first[keys[0]]] == [f"Consent/{ana.id}"]
    assert (first[keys[0]][0].patient, first[keys[1]][0].status) == ("Patient/p1", "inactive")
    assert first[keys[2]] == []


def test_a_consent_read_before_it_was_rolled_back_is_never_used(store: Store):
    """The cache keeps it, harmlessly: its event id exists no more and is never given again."""
    lost = arrival(store, consent(1))

    def interrupted() -> None:
        with store.write() as uow:
            uow.events.add([(lost, True)])
            assert len(uow.consents.of([str(lost.patient_key)])[str(lost.patient_key)]) == 1
            raise NotFound

    with pytest.raises(NotFound):
        interrupted()

    with store.read() as uow:
        assert uow.consents.of([str(lost.patient_key)]) == {lost.patient_key: []}
    (again,) = add(store, consent(1, status="inactive"))
    with store.read() as uow:
        (record,) = uow.consents.of([str(lost.patient_key)])[str(lost.patient_key)]
        assert (record.ref, record.status) == (f"Consent/{again.id}", "inactive")


def test_a_consent_that_was_tampered_with_permits_nothing(store: Store):
    (sent,) = add(store, consent(1))
    with store.write() as uow:
        uow.connection.execute(sa.text("update events set payload = patient_ref"))

    with store.read() as uow:
        (record,) = uow.consents.of([str(sent.patient_key)])[str(sent.patient_key)]
    assert not record.is_readable


def test_the_consent_cache_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.store.consents._REMEMBERED", 2)
    cache = ConsentCache()

    for number in range(3):
        cache.put(str(number), number)

    assert [cache.get(str(number)) for number in range(3)] == [None, 1, 2]
