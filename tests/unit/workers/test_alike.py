"""Results that look alike in an EHR without identifiers: each has a place of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.delivery import Delivery, DeliveryState
from gateway.core.findings import Report
from gateway.core.jobs import BusinessStatus
from tests.hospital import Hospital, away, observation
from workers.alike import told_apart
from workers.fates import Fate, NotReached, Withheld, Written

LEASE_MS = 300_000
DOUBT = NotReached("LooksLikeAnother", is_of_system=False)


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    """Two results of one patient that differ in nothing that the EHR keeps; both wait."""
    made = Hospital(tmp_path)
    made.ehr.drops["Observation"] = ("identifier",)
    made.ehr.ignores_conditions = made.ehr.is_unlabelled = True
    made.admit_patient()
    made.push(observation(name="one"))
    made.push(observation(name="other"))
    made.infer()
    yield made
    made.close()


def deliveries(hospital: Hospital) -> list[Delivery]:
    with hospital.store.read() as uow:
        known = uow.deliveries.of_jobs([job.id for job in hospital.jobs()])
    return [known[job.id] for job in hospital.jobs()]


def take(hospital: Hospital, delivery: Delivery) -> None:
    """Let another worker hold a delivery."""
    with hospital.store.write() as uow:
        assert uow.deliveries.claim([delivery.id], "worker@two", lease_ms=LEASE_MS)


def results(hospital: Hospital) -> int:
    return sum("valueQuantity" in each and "device" in each for each in hospital.ehr.of(
        "Observation"))  # fmt: skip


def test_what_another_worker_just_wrote_is_not_taken_for_one_s_own(hospital: Hospital) -> None:
    other, _ = deliveries(hospital)
    take(hospital, other)
    hospital.ehr.away = away()
    hospital.deliver()
    hospital.ehr.away = None
    hospital.pass_time(20)
    with hospital.store.read() as uow:
        uow.patient_keys.load({other.patient_key})
        written = Report.from_json(uow.deliveries.body(other)).result
    hospital.ehr.put({**written, "id": "of-two", "identifier": []})

    hospital.deliver()

    waits = deliveries(hospital)[1]
    assert (waits.state, waits.last_answer) == (DeliveryState.PENDING, "LooksLikeAnother")
    hospital.pass_time(LEASE_MS / 1000)
    with hospital.store.write() as uow:
        uow.deliveries.rescue()
    hospital.deliver()
    assert results(hospital) == 2
    assert {job.business_status for job in hospital.jobs()} == {BusinessStatus.DELIVERED}


def told(hospital: Hospital, *fates: Fate) -> list[Fate]:
    mine = deliveries(hospital)
    named = {each.identifier: fate for each, fate in zip(mine, fates, strict=True)}
    return list(told_apart(named, mine, hospital.store).values())


def found(place: str) -> Written:
    return Written(place, 200, is_by_looks=True)


def test_what_the_ledger_knows_as_another_s_is_not_taken_for_one_s_own(hospital: Hospital) -> None:
    hospital.deliver()
    with hospital.store.read() as uow:
        (key,) = {each.patient_key for each in deliveries(hospital)}
        uow.patient_keys.load({key})
        known, _ = sorted(uow.deliveries.places_of(key))

    assert told(hospital, found(known), found("Observation/new")) == [
        DOUBT,
        found("Observation/new"),
    ]


def test_two_of_one_batch_are_not_found_in_one_place(hospital: Hospital) -> None:
    written = Written("Observation/1", 201)

    assert told(hospital, found("Observation/1"), found("Observation/1")) == [
        found("Observation/1"),
        DOUBT,
    ]
    assert told(hospital, found("Observation/1"), written) == [DOUBT, written]
    assert told(hospital, found("Observation/1"), found("Observation/2")) == [
        found("Observation/1"),
        found("Observation/2"),
    ]


def test_what_was_found_by_its_identifier_is_believed(hospital: Hospital) -> None:
    take(hospital, deliveries(hospital)[0])
    sure = Written("Observation/1", 200)

    assert told(hospital, sure, Withheld()) == [sure, Withheld()]


def test_what_nobody_can_tell_now_is_asked_again_later(hospital: Hospital) -> None:
    mine = deliveries(hospital)
    fates = {each.identifier: found(f"Observation/{each.id}") for each in mine}
    hospital.store.close()
    Path(hospital.url.removeprefix("sqlite:///")).write_bytes(b"no database any more")

    assert set(told_apart(fates, mine, hospital.store).values()) == {DOUBT}
