"""How urgent a job is: what its trigger says, and what the order says that it was made for."""

from pathlib import Path

import pytest

from gateway.core.lanes import Lane
from tests.hospital import Hospital, Json, observation


@pytest.fixture
def hospital(tmp_path: Path):
    made = Hospital(tmp_path)
    made.admit_patient("p1")
    yield made
    made.close()


def order(priority: str | None, *, name: str = "order-1", version: str = "1") -> Json:
    return {
        "resourceType": "ServiceRequest",
        "id": name,
        "meta": {"versionId": version},
        "status": "active",
        "intent": "order",
        "subject": {"reference": "Patient/p1"},
        **({"priority": priority} if priority else {}),
    }


def answer(*references: str, **more: object) -> Json:
    made = observation(**more)
    return {**made, "basedOn": [{"reference": each} for each in references]}


def test_a_result_is_as_urgent_as_its_order_all_the_way_to_the_ehr(hospital: Hospital) -> None:
    hospital.push(order("stat"))
    hospital.push(answer("ServiceRequest/order-1"))

    assert hospital.job().lane is Lane.STAT
    hospital.infer()
    with hospital.store.read() as uow:
        assert uow.deliveries.lines() == [(Lane.STAT, "ehr/ehr")]
    hospital.deliver()
    assert len(hospital.ehr.results()) == 1


def test_the_most_urgent_of_several_orders_holds(hospital: Hospital) -> None:
    hospital.push(order("routine"), order("asap", name="order-2"), order(None, name="order-3"))
    hospital.push(
        answer(*(f"ServiceRequest/order-{n}" for n in (1, 2, 3)), "http://else.where/fhir/X/1")
    )

    assert hospital.job().lane is Lane.ASAP


def test_the_newest_version_of_an_order_holds(hospital: Hospital) -> None:
    hospital.push(order("stat"))
    hospital.push(order("urgent", version="2"))
    hospital.push(answer("http://ehr.test/fhir/ServiceRequest/order-1/_history/2"))

    assert hospital.job().lane is Lane.URGENT


def test_an_order_may_come_in_the_same_bundle_under_an_address_of_its_own(
    hospital: Hospital,
) -> None:
    urn = "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"

    hospital.push_bundle((urn, order("stat")), (None, answer(urn)))

    assert hospital.job().lane is Lane.STAT


def test_an_order_that_is_not_here_leaves_the_result_routine(hospital: Hospital) -> None:
    hospital.push(answer("ServiceRequest/unknown"))

    assert hospital.job().lane is Lane.ROUTINE
