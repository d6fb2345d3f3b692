"""ABDM artefacts through the life of a job: within their scope, counted, and until they end."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.site_consent import AbdmEntry
from gateway.core.consent.importing import documents_in
from gateway.core.jobs import BusinessStatus, Job
from gateway.store.consenting import Owner, Signed, take
from gateway.withdrawal import withdraw
from tests import abdm
from tests.hospital import NOW, UREA, Hospital, observation
from tests.registered import ACTOR

PATIENT = "Patient/p1"
SITE = AbdmEntry(consent_manager="sbx", facilities=["IN0000000002"])
SIGNED = Signed(signer="hie", key="ed25519:x", signature="e..s", sha256="0" * 64)
NEVER = (NOW + timedelta(days=3650)).isoformat()


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    made.site = replace(made.site, abdm=SITE)
    made.admit_patient(consent=None)
    yield made
    made.close()


#: A result is data of the patient like any other: its category is one of a consultation.
BOTH = ("DiagnosticReport", "OPConsultation")


def artefact(
    context: str = "e1",
    repeats: int = 0,
    erase_at: str = NEVER,
    hi_types: tuple[str, ...] = BOTH,
    days: tuple[int, int] = (-30, 30),
) -> abdm.Json:
    first, last = ((NOW + timedelta(days=each)).isoformat() for each in days)
    limits = abdm.permission(
        dateRange={"from": first, "to": last},
        dataEraseAt=erase_at,
        frequency={"unit": "HOUR", "value": 1, "repeats": repeats},
    )
    contexts = [{"patientReference": "MRN-1", "careContextReference": context}]
    return abdm.notification(
        consentDetail=abdm.detail(permission=limits, careContexts=contexts, hiTypes=list(hi_types))
    )


def receive(hospital: Hospital, body: abdm.Json) -> None:
    """Import a notification, as the command does."""
    key = hospital.store.sealer.patient_key("ehr", PATIENT)
    owner = Owner(system="ehr", reference=PATIENT, key=key, identified="by the test")
    (document,) = documents_in(abdm.raw(body))
    with hospital.store.write() as uow:
        take(uow, document, owner, SIGNED, ACTOR)
        withdraw(uow, hospital.site, ACTOR.source, {key: PATIENT})


def status(job: Job) -> BusinessStatus:
    return job.business_status


def work(hospital: Hospital) -> None:
    hospital.infer()
    hospital.deliver()


def written(hospital: Hospital) -> list[Any]:
    return hospital.ehr.resources.get("Observation", [])


def test_what_an_artefact_grants_reaches_the_ehr(hospital: Hospital):
    receive(hospital, artefact())

    hospital.push(observation())
    work(hospital)

    assert status(hospital.job()) == BusinessStatus.DELIVERED, hospital.job().reason


@pytest.mark.parametrize(
    ("days", "ends"),
    [
        # The model reads the patient's age as well: who she is has no date.
        pytest.param((-2, 0), BusinessStatus.DELIVERED, id="both"),
        pytest.param((0, 0), BusinessStatus.MASKED, id="creatinine but not urea"),
        pytest.param((-30, -1), BusinessStatus.CONSENT_DENIED, id="not what sets the model going"),
    ],
)
def test_the_dates_of_an_artefact_say_which_values_a_model_may_read(
    hospital: Hospital, days: tuple[int, int], ends: BusinessStatus
):
    receive(hospital, artefact(days=days))

    yesterday = observation(40, name="urea", code=UREA, at=NOW - timedelta(hours=24))
    hospital.push(yesterday, observation())
    work(hospital)

    assert status(hospital.job()) == ends, hospital.job().reason
    assert len(hospital.models.model.batches) == (ends is BusinessStatus.DELIVERED)


def test_data_of_another_care_context_is_refused(hospital: Hospital):
    receive(hospital, artefact(context="e2"))

    hospital.push(observation())
    work(hospital)

    assert status(hospital.job()) == BusinessStatus.CONSENT_DENIED
    assert written(hospital) == []


def test_a_result_outside_of_the_hi_types_is_not_written_back(hospital: Hospital):
    receive(hospital, artefact(hi_types=("DiagnosticReport",)))

    hospital.push(observation())
    work(hospital)

    assert status(hospital.job()) == BusinessStatus.CONSENT_WITHDRAWN
    assert written(hospital) == []


def test_the_second_event_within_the_hour_is_refused_where_one_is_granted(hospital: Hospital):
    receive(hospital, artefact(repeats=1))

    hospital.push(observation(name="o1"), observation(name="o2"))
    work(hospital)

    first, second = hospital.jobs()
    assert status(first) == BusinessStatus.DELIVERED, first.reason
    assert status(second) == BusinessStatus.CONSENT_DENIED
    assert "as often as it permits" in second.reason
    hospital.pass_time(3601)
    hospital.push(observation(name="o3"))
    work(hospital)
    assert status(hospital.jobs()[-1]) == BusinessStatus.DELIVERED


@pytest.mark.parametrize("final", ["REVOKED", "EXPIRED", "DENIED"])
@pytest.mark.parametrize("stage", ["queued", "inferred"])
def test_after_the_end_of_an_artefact_nothing_reaches_the_ehr(
    hospital: Hospital, final: str, stage: str
):
    receive(hospital, artefact())
    hospital.push(observation())
    if stage == "inferred":
        hospital.infer()

    receive(hospital, abdm.ended(final))
    work(hospital)

    assert status(hospital.job()) == BusinessStatus.CONSENT_WITHDRAWN
    assert written(hospital) == []


def test_another_artefact_does_not_stop_what_the_first_one_grants(hospital: Hospital):
    receive(hospital, artefact())
    hospital.push(observation())

    other = artefact(context="e2")
    other["notification"]["consentId"] = "another"
    other["notification"]["consentDetail"]["consentId"] = "another"
    receive(hospital, other)
    work(hospital)

    assert status(hospital.job()) == BusinessStatus.DELIVERED, hospital.job().reason


def test_its_end_is_noticed_by_our_own_clock_between_inference_and_write_back(hospital: Hospital):
    receive(hospital, artefact(erase_at=(NOW + timedelta(minutes=5)).isoformat()))
    hospital.push(observation())
    hospital.infer()

    hospital.pass_time(301)
    work(hospital)

    assert status(hospital.job()) == BusinessStatus.CONSENT_WITHDRAWN
    assert written(hospital) == []
