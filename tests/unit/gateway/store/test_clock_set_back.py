"""What was written under a clock that was ahead does not wait until the clock gets there again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.core.audit import Source
from gateway.core.clock import to_ms
from gateway.core.delivery import Circuit
from gateway.store.clock_set_back import LONGEST_LEASE_MS, bring_forward, newest_moment_ms
from gateway.store.jobs import rescue
from gateway.store.tables import deliveries
from tests.hospital import LEASE_MS, Hospital, away, busy, observation
from workers.rescue import put_back

AHEAD_S = 3600.0


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    """A hospital whose clock is an hour ahead."""
    made = Hospital(tmp_path)
    made.admit_patient()
    made.pass_time(AHEAD_S)
    yield made
    made.close()


def set_back(hospital: Hospital) -> int:
    hospital.pass_time(-AHEAD_S)
    with hospital.store.write() as uow:
        return bring_forward(uow, int(AHEAD_S * 1000))


def test_a_job_that_was_ready_is_ready_again(hospital: Hospital) -> None:
    hospital.push(observation(at=hospital.now))
    hospital.pass_time(-AHEAD_S)
    assert hospital.infer() == 0
    hospital.pass_time(AHEAD_S)

    set_back(hospital)

    assert hospital.infer() == 1


def test_a_result_that_was_due_is_due_again(hospital: Hospital) -> None:
    hospital.push(observation(at=hospital.now))
    hospital.infer()

    set_back(hospital)

    assert hospital.deliver() == 1
    assert len(hospital.ehr.results()) == 1


def test_what_an_ehr_asked_for_still_holds(hospital: Hospital) -> None:
    hospital.push(observation(at=hospital.now))
    hospital.infer()
    hospital.ehr.away = busy(30)
    hospital.deliver()
    hospital.ehr.away = None

    set_back(hospital)

    with hospital.store.read() as uow:
        opens_in_ms = uow.deliveries.circuits()["ehr"].open_until_ms - uow.now_ms
    assert 30_000 <= opens_in_ms < 32_000
    assert hospital.deliver() == 0
    hospital.pass_time(33)
    assert hospital.deliver() == 1


def test_an_open_circuit_does_not_stay_open_for_hours(hospital: Hospital) -> None:
    with hospital.store.write() as uow:
        uow.deliveries.set_circuit("ehr", Circuit(5, uow.now_ms + 20_000))

    set_back(hospital)

    with hospital.store.read() as uow:
        assert uow.deliveries.circuits()["ehr"].open_until_ms == uow.now_ms + 20_000


def test_a_dead_worker_s_lease_runs_out_in_time(hospital: Hospital) -> None:
    hospital.push(observation(at=hospital.now))
    with hospital.store.write() as uow:
        uow.jobs.claim([job.id for job in hospital.jobs()], "dead", lease_ms=LEASE_MS)

    set_back(hospital)

    hospital.pass_time(LONGEST_LEASE_MS / 1000 + 1)
    with hospital.store.read() as uow:
        assert len(uow.jobs.expired()) == 1


def test_a_job_whose_worker_dies_after_the_clock_was_set_back_runs_again_at_once(
    hospital: Hospital,
) -> None:
    hospital.push(observation(at=hospital.now))
    set_back(hospital)
    with hospital.store.write() as uow:
        uow.jobs.claim([job.id for job in hospital.jobs()], "dead", lease_ms=LEASE_MS)
    hospital.pass_time(LEASE_MS / 1000 + 1)

    with hospital.store.write() as uow:
        lost = uow.jobs.expired()
        put_back(uow, rescue(lost, now_ms=uow.now_ms, budget_s=3600), Source("site", "relay"))

    assert hospital.infer() == 1


def test_a_result_whose_worker_dies_after_the_clock_was_set_back_is_due_again_at_once(
    hospital: Hospital,
) -> None:
    hospital.push(observation(at=hospital.now))
    hospital.infer()
    with hospital.store.write() as uow:
        ids = uow.connection.scalars(sa.select(deliveries.c.id)).all()
        uow.deliveries.claim(ids, "dead", lease_ms=LEASE_MS)
    set_back(hospital)
    hospital.pass_time(LONGEST_LEASE_MS / 1000 + 1)

    with hospital.store.write() as uow:
        assert uow.deliveries.rescue() == 1

    assert hospital.deliver() == 1


def test_a_lease_that_a_clock_of_today_may_have_given_is_left_alone(hospital: Hospital) -> None:
    hospital.pass_time(-AHEAD_S)
    hospital.push(observation(at=hospital.now))
    with hospital.store.write() as uow:
        uow.jobs.claim([job.id for job in hospital.jobs()], "slow", lease_ms=LONGEST_LEASE_MS)
        count = bring_forward(uow, int(AHEAD_S * 1000))

    assert count == 0


def test_nothing_that_is_due_already_is_touched(hospital: Hospital) -> None:
    hospital.pass_time(-AHEAD_S)
    hospital.push(observation(at=hospital.now))
    hospital.ehr.away = away()

    with hospital.store.write() as uow:
        assert bring_forward(uow, int(AHEAD_S * 1000)) == 0


def test_the_newest_moment_is_that_of_the_newest_record(hospital: Hospital) -> None:
    hospital.push(observation(at=hospital.now))

    with hospital.store.read() as uow:
        assert newest_moment_ms(uow) == to_ms(hospital.now)
