"""What is sealed opens in its own place, and nowhere else."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.errors import ConfigurationError, Unsealable
from gateway.store.sealing import MasterKey, Place, Sealer

MASTER = MasterKey(bytes(range(32)))
SEALER = Sealer(MASTER)
PLACE = Place("events", "payload", "row-1")
PATIENT = SEALER.patient_key("ehr", "Patient/1")
WRAPPED = SEALER.new_data_key(PATIENT)

_text = st.text(max_size=12)
_places = st.builds(Place, _text, _text, _text)


@given(st.binary(max_size=300), _places, _text)
def test_a_sealed_value_opens_in_its_place(plaintext: bytes, place: Place, patient: str) -> None:
    wrapped = SEALER.new_data_key(patient)

    sealed = SEALER.seal(wrapped, patient, place, plaintext)

    assert SEALER.unseal(wrapped, patient, place, sealed) == plaintext
    assert len(sealed) == len(plaintext) + 29


@given(st.binary(max_size=40), st.data())
def test_a_value_with_any_bit_flipped_does_not_open(plaintext: bytes, data: st.DataObject) -> None:
    sealed = bytearray(SEALER.seal(WRAPPED, PATIENT, PLACE, plaintext))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(Unsealable):
        SEALER.unseal(WRAPPED, PATIENT, PLACE, bytes(sealed))


@given(st.data())
def test_a_wrapped_key_with_any_bit_flipped_opens_nothing(data: st.DataObject) -> None:
    sealed = SEALER.seal(WRAPPED, PATIENT, PLACE, b"value")
    wrapped = bytearray(WRAPPED)
    wrapped[data.draw(st.integers(0, len(wrapped) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(Unsealable):
        SEALER.unseal(bytes(wrapped), PATIENT, PLACE, sealed)


@given(st.integers(0, 32))
def test_a_value_cut_short_does_not_open(length: int) -> None:
    sealed = SEALER.seal(WRAPPED, PATIENT, PLACE, b"value")

    with pytest.raises(Unsealable):
        SEALER.unseal(WRAPPED, PATIENT, PLACE, sealed[:length])


@given(_places.filter(lambda place: place != PLACE))
def test_a_value_moved_to_another_place_does_not_open(place: Place) -> None:
    sealed = SEALER.seal(WRAPPED, PATIENT, PLACE, b"value")

    with pytest.raises(Unsealable):
        SEALER.unseal(WRAPPED, PATIENT, place, sealed)


@pytest.mark.parametrize("part", ["table", "column", "row_id"])
def test_each_part_of_the_place_counts(part: str) -> None:
    sealed = SEALER.seal(WRAPPED, PATIENT, PLACE, b"value")
    elsewhere = dataclasses.replace(PLACE, **{part: "other"})

    with pytest.raises(Unsealable):
        SEALER.unseal(WRAPPED, PATIENT, elsewhere, sealed)


def test_a_place_is_not_taken_for_one_with_shifted_borders() -> None:
    sealed = SEALER.seal(WRAPPED, PATIENT, Place("a", "bc", "d"), b"value")

    with pytest.raises(Unsealable):
        SEALER.unseal(WRAPPED, PATIENT, Place("ab", "c", "d"), sealed)


@given(_text.filter(lambda patient: patient != PATIENT))
def test_the_key_of_one_patient_opens_nothing_of_another(other: str) -> None:
    sealed = SEALER.seal(WRAPPED, PATIENT, PLACE, b"value")

    for wrapped in (WRAPPED, SEALER.new_data_key(other)):
        with pytest.raises(Unsealable):
            SEALER.unseal(wrapped, other, PLACE, sealed)


def test_another_master_key_opens_nothing() -> None:
    sealed = SEALER.seal(WRAPPED, PATIENT, PLACE, b"value")

    with pytest.raises(Unsealable):
        Sealer(MasterKey(bytes(32))).unseal(WRAPPED, PATIENT, PLACE, sealed)


def test_equal_values_are_sealed_differently() -> None:
    assert SEALER.seal(WRAPPED, PATIENT, PLACE, b"x") != SEALER.seal(WRAPPED, PATIENT, PLACE, b"x")
    assert SEALER.new_data_key(PATIENT) != SEALER.new_data_key(PATIENT)


def test_a_second_process_with_the_same_master_key_opens_it() -> None:
    sealed = SEALER.seal(WRAPPED, PATIENT, PLACE, b"value")

    assert Sealer(MASTER).unseal(WRAPPED, PATIENT, PLACE, sealed) == b"value"


def test_threads_may_share_a_sealer() -> None:
    def there_and_back(number: int) -> bool:
        patient = SEALER.patient_key("ehr", f"Patient/{number % 7}")
        wrapped = SEALER.new_data_key(patient)
        value = b"%d" % number
        sealed = SEALER.seal(wrapped, patient, PLACE, value)
        return SEALER.unseal(wrapped, patient, PLACE, sealed) == value

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(there_and_back, range(400)))


@given(st.lists(_text, max_size=4), st.lists(_text, max_size=4))
def test_keyed_hashes_are_equal_only_for_equal_parts(one: list[str], two: list[str]) -> None:
    assert (SEALER.keyed_hash("p", *one) == SEALER.keyed_hash("p", *two)) is (one == two)


def test_the_purpose_keeps_equal_values_apart() -> None:
    assert SEALER.keyed_hash("a", "x") != SEALER.keyed_hash("b", "x")
    assert SEALER.keyed_hash("a", "b", "c") != SEALER.keyed_hash("a", "bc")


def test_a_patient_key_never_changes_between_releases() -> None:
    # Worked out apart from the code, from RFC 5869 and RFC 2104 with plain HMAC-SHA256.
    known = "417b3b15821768aabd1dc8658756d18c217bb886c6aad79f5a8cb74164ae1d1f"

    assert SEALER.patient_key("ehr", "Patient/1") == known


def test_what_an_earlier_release_hashed_and_sealed_is_found_and_opened() -> None:
    wrapped = bytes.fromhex(
        "012ffd3d95fa017b19889b407438839018729c9be74d1c3d92e791a28224fd0b"
        "0044eb4e24ebc26b85ce479b46a8f896f81fca3d0598ed0b223f6257a4"
    )
    sealed = bytes.fromhex("01a23db763383283d1f3b80bad48c678a7ea31a380769675df7ebe6805ca8c8f54")

    assert SEALER.unseal(wrapped, PATIENT, PLACE, sealed) == b"kept"
    assert SEALER.audit_tag("an-id", b"{}").hex() == "bddfd16665895edf5c036aad817bf85f"
    assert SEALER.keyed_hash("resource", "ehr", "Observation", "grün") == (
        "564885e775c4ece4169d807b4e8daf2cb0ac093b903ed308c46af904815916c5"
    )


def test_a_patient_key_depends_on_the_master_key_and_on_the_system() -> None:
    elsewhere = Sealer(MasterKey(bytes(32))).patient_key("ehr", "Patient/1")
    other_system = SEALER.patient_key("lab", "Patient/1")

    assert len({PATIENT, elsewhere, other_system}) == 3


def test_a_master_key_shows_nowhere() -> None:
    assert repr(MASTER) == "MasterKey()"
    assert f"{MASTER}" == "MasterKey()"


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_master_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ConfigurationError):
        MasterKey(bytes(length))
