import pytest
import sqlalchemy as sa

from gateway.core.errors import Unsealable
from gateway.store.patient_keys import NOBODY
from gateway.store.sealing import Place
from gateway.store.unit_of_work import Store

PLACE = Place("events", "payload", "1")
ANA, BEN = "a" * 64, "b" * 64


def sealed(store: Store, patient: str | None, text: bytes = b"creatinine") -> bytes:
    with store.write() as uow:
        uow.patient_keys.load([patient], create=True)
        return uow.patient_keys.seal(patient, PLACE, text)


def test_what_was_sealed_opens_in_another_transaction(store: Store):
    kept = sealed(store, ANA)

    with store.read() as uow:
        assert uow.patient_keys.unseal(ANA, PLACE, kept) == b"creatinine"
    assert b"creatinine" not in kept


def test_what_names_no_patient_has_a_key_of_its_own(store: Store):
    kept = sealed(store, None)

    with store.read() as uow:
        assert uow.patient_keys.unseal(None, PLACE, kept) == b"creatinine"
        assert uow.patient_keys.unseal(NOBODY, PLACE, kept) == b"creatinine"


def test_a_patient_has_one_key_for_ever(store: Store):
    first = sealed(store, ANA)
    sealed(store, ANA)

    with store.read() as uow:
        assert uow.patient_keys.unseal(ANA, PLACE, first) == b"creatinine"
        assert uow.connection.scalar(sa.text("select count(*) from patient_keys")) == 1


@pytest.mark.parametrize(
    ("patient", "place"), [(BEN, PLACE), (ANA, Place("events", "payload", "2"))]
)
def test_it_opens_for_no_other_patient_and_in_no_other_place(
    store: Store, patient: str, place: Place
):
    kept = sealed(store, ANA)
    sealed(store, BEN)

    with store.read() as uow, pytest.raises(Unsealable):
        uow.patient_keys.unseal(patient, place, kept)


def test_without_its_key_nothing_of_a_patient_opens_again(store: Store):
    kept = sealed(store, ANA)
    with store.write() as uow:
        uow.connection.execute(sa.text("delete from patient_keys"))

    with store.read() as uow, pytest.raises(Unsealable, match="no erasure is on record"):
        uow.patient_keys.unseal(ANA, PLACE, kept)


def test_a_key_is_made_only_where_that_was_asked_for(store: Store):
    with store.write() as uow:
        uow.patient_keys.load([ANA])

        with pytest.raises(Unsealable):
            uow.patient_keys.seal(ANA, PLACE, b"x")


def test_a_key_that_another_process_made_a_moment_ago_is_taken_over(store: Store):
    with store.write() as uow:
        keys = uow.patient_keys
        made = uow.sealer.new_data_key(ANA)
        uow.connection.execute(
            sa.text("insert into patient_keys values (:key, :wrapped, 0)"),
            {"key": ANA, "wrapped": made},
        )

        keys._create([ANA])

        assert keys._wrapped(ANA) == made


def test_many_keys_are_fetched_by_one_query(store: Store):
    people = [f"{number:064d}" for number in range(1, 51)]
    with store.write() as uow:
        uow.patient_keys.load(people, create=True)
    queries: list[str] = []
    with store.read() as uow:
        sa.event.listen(uow.connection, "before_cursor_execute", lambda *a: queries.append(a[2]))

        uow.patient_keys.load(people)
        uow.patient_keys.load(people)

        assert len(queries) == 1
