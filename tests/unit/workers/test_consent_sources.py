"""Consents that staff record and take back, through the life of a job: no result after a no."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.consent.local import LocalConsent, Notice
from gateway.core.jobs import BusinessStatus
from gateway.store.consenting import record, revoke
from gateway.withdrawal import withdraw
from tests.hospital import Hospital, observation
from tests.registered import ACTOR

PATIENT = "Patient/p1"


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    yield made
    made.close()


def written(hospital: Hospital) -> list[Any]:
    return hospital.ehr.resources.get("Observation", [])


def say(hospital: Hospital, decision: Any, **changed: Any) -> str:
    """Record what the patient says, as the command does."""
    key = hospital.store.sealer.patient_key("ehr", PATIENT)
    consent = LocalConsent(
        patient=PATIENT,
        system="ehr",
        decision=decision,
        purposes=("TREAT",) if decision != "ai-opt-out" else (),
        notice=Notice(version="1", language="en"),
        means="verbal",
        recorded_at=hospital.now.isoformat(),
        recorded_by="os-user:tester",
        **changed,
    )
    with hospital.store.write() as uow:
        consent_id = record(uow, consent, key, ACTOR)
        withdraw(uow, hospital.site, ACTOR.source, {key: PATIENT})
    return consent_id


def take_back(hospital: Hospital, consent_id: str) -> None:
    key = hospital.store.sealer.patient_key("ehr", PATIENT)
    with hospital.store.write() as uow:
        revoke(uow, consent_id, "She asked for it.", ACTOR)
        withdraw(uow, hospital.site, ACTOR.source, {key: PATIENT})


def test_what_staff_recorded_lets_a_result_reach_the_ehr(hospital: Hospital):
    hospital.admit_patient(consent=None)
    say(hospital, "permit")

    hospital.push(observation())
    hospital.infer()
    hospital.deliver()

    assert hospital.job().business_status == BusinessStatus.DELIVERED
    assert len(written(hospital)) == 1


@pytest.mark.parametrize("stage", ["queued", "inferred"])
@pytest.mark.parametrize("how", ["taken back", "refusal of AI", "denial"])
def test_after_a_no_nothing_reaches_the_ehr(hospital: Hospital, stage: str, how: str):
    hospital.admit_patient(consent=None)
    permit = say(hospital, "permit")
    hospital.push(observation())
    if stage == "inferred":
        hospital.infer()

    if how == "taken back":
        take_back(hospital, permit)
    else:
        say(hospital, "ai-opt-out" if how == "refusal of AI" else "deny")

    hospital.infer()
    hospital.deliver()
    assert hospital.job().business_status == BusinessStatus.CONSENT_WITHDRAWN
    assert written(hospital) == []


def test_a_refusal_of_ai_is_above_a_permit_that_the_ehr_sent(
    hospital: Hospital,
):
    hospital.admit_patient()
    say(hospital, "ai-opt-out")

    hospital.push(observation())

    job = hospital.job()
    assert job.business_status == BusinessStatus.CONSENT_DENIED
    assert job.decisions[0]["ai_refused"] is True


def test_a_consent_that_ends_while_the_job_waits_is_noticed_before_data_is_read(
    hospital: Hospital,
):
    hospital.admit_patient(consent=None)
    say(hospital, "permit", ends=hospital.now.date().isoformat())
    hospital.push(observation())

    hospital.pass_time(24 * 3600)
    hospital.infer()
    hospital.deliver()

    assert hospital.job().business_status == BusinessStatus.CONSENT_WITHDRAWN
    assert written(hospital) == []
