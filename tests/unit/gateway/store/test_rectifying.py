"""What a wrong value led to is found by trigger and by what models read, then marked or stopped."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.audit import AgentKind, AuditAgent, Source
from gateway.core.errors import NotFound, OnHold
from gateway.core.jobs import BusinessStatus, JobState
from gateway.store.erasing import Order, erase
from gateway.store.rectifying import Affected, affected, rectify, wrong_versions
from gateway.store.registering import Actor
from gateway.store.retractions import RetractionState
from tests.hospital import UREA, Hospital, observation

ACTOR = Actor(Source("site", "cli"), AuditAgent("os-user:ada", "ada", AgentKind.USER), "ada")
GROUND = ("The sample was mixed up.", "DPDP Act 2023, s.12(2)")


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    made.admit_patient()
    yield made
    made.close()


def run(
    hospital: Hospital, name: str, version: str | None = None
) -> tuple[Affected, tuple[int, int]]:
    with hospital.store.write() as uow:
        wrong = wrong_versions(uow, "ehr", ("Observation", name), version)
        found = affected(uow, wrong)
        return found, rectify(uow, found, GROUND, ACTOR)


def test_a_result_of_a_wrong_trigger_is_put_on_the_list_to_be_marked(hospital: Hospital) -> None:
    hospital.push(observation())
    hospital.infer()
    hospital.deliver()
    hospital.push(observation(0.9, version="2"))

    found, done = run(hospital, "o1")

    assert done == (1, 0)
    assert found.wrong.is_corrected
    assert [job.business_status for job in found.jobs] == [BusinessStatus.DELIVERED]
    with hospital.store.read() as uow:
        assert uow.retractions.counts() == {RetractionState.PENDING: 1}
    assert ("rectify", "0") in hospital.audited()


def test_a_result_whose_model_read_the_wrong_value_is_found_too(hospital: Hospital) -> None:
    hospital.push(observation(50.0, name="u1", code=UREA))
    hospital.push(observation())
    hospital.infer()
    hospital.deliver()

    found, done = run(hospital, "u1")

    assert done == (1, 0)
    assert len(found.jobs) == 1
    assert not found.wrong.is_corrected


def test_a_result_that_waits_is_cancelled_and_never_sent(hospital: Hospital) -> None:
    hospital.push(observation(50.0, name="u1", code=UREA))
    hospital.push(observation())
    hospital.infer()

    _, done = run(hospital, "u1")

    assert done == (0, 1)
    assert hospital.deliver() == 0
    assert (hospital.job().state, hospital.job().business_status) == (
        JobState.CANCELLED,
        BusinessStatus.SUPERSEDED,
    )


def test_what_had_nothing_to_do_with_it_is_left_alone(hospital: Hospital) -> None:
    hospital.push(observation())
    hospital.infer()
    hospital.deliver()
    hospital.push(observation(7.0, name="x1", code="1751-7"))

    found, done = run(hospital, "x1")

    assert (found.jobs, done) == ([], (0, 0))


def test_only_the_version_that_is_named_is_taken_for_wrong(hospital: Hospital) -> None:
    hospital.push(observation())
    hospital.infer()
    hospital.deliver()
    hospital.push(observation(0.9, version="2"))
    hospital.infer()
    hospital.deliver()

    found, done = run(hospital, "o1", version="2")

    assert done == (1, 0)
    assert [job.id for job in found.jobs] == [hospital.jobs()[-1].id]


def test_marking_again_changes_nothing(hospital: Hospital) -> None:
    hospital.push(observation())
    hospital.infer()
    hospital.deliver()
    run(hospital, "o1")

    assert run(hospital, "o1")[1] == (0, 0)


@pytest.mark.parametrize(("name", "version"), [("o9", None), ("o1", "7")])
def test_what_was_never_received_is_not_found(
    hospital: Hospital, name: str, version: str | None
) -> None:
    hospital.push(observation())

    with pytest.raises(NotFound):
        run(hospital, name, version)


def test_nobody_is_erased_while_results_are_still_to_be_marked(hospital: Hospital) -> None:
    hospital.push(observation())
    hospital.infer()
    hospital.deliver()
    run(hospital, "o1")
    key = hospital.store.sealer.patient_key("ehr", "Patient/p1")

    with pytest.raises(OnHold, match="still to be marked"), hospital.store.write() as uow:
        erase(uow, Order(patient_key=key, reason="x", law="y"), set(), ACTOR)
