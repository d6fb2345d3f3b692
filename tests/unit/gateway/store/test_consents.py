import pytest
import sqlalchemy as sa

from gateway.core.errors import NotFound
from gateway.store.consents import ConsentCache
from gateway.store.unit_of_work import Store
from tests.arriving import add, arrival
from tests.factories import consent


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
