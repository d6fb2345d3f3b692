"""A result that waits for its EHR says why, and what to do about it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.fhir_rest.errors import unreachable
from adapters.obstacles import Obstacle
from gateway.cli.jobs import facts_of
from tests.hospital import Hospital, observation


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    yield made
    made.close()


def test_a_job_whose_ehr_is_away_is_shown_with_what_to_do(hospital: Hospital) -> None:
    hospital.admit_patient("p1")
    hospital.push(observation(1.8, name="o1", of="p1"))
    hospital.infer()
    hospital.ehr.away = unreachable(Obstacle.NO_ROUTE)
    hospital.deliver()
    waiting = dict(facts_of(hospital.job(), hospital.delivery()))
    hospital.ehr.away = None
    hospital.pass_time(600)
    hospital.deliver()
    done = dict(facts_of(hospital.job(), hospital.delivery()))

    assert "last answer EhrNoRoute" in waiting["delivery"]
    assert waiting["what to do"].startswith("Look at routes, VPN and firewall.")
    assert "what to do" not in done
