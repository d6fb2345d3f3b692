from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from sqlalchemy import select

from adapters.fhir_rest.errors import EhrRefused
from gateway.core.findings import RESULT_SYSTEM, Report
from gateway.core.jobs import BusinessStatus, JobState
from gateway.store.jobs import rescue
from gateway.store.tables import audit_events, deliveries, jobs
from tests.hospital import (
    LEASE_MS,
    NOW,
    UREA,
    Hospital,
    away,
    consent_of,
    observation,
    patient,
)
from workers.inference import infer


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    yield made
    made.close()


@pytest.fixture
def telling(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path, refusals="observation")
    yield made
    made.close()


def report_of(hospital: Hospital) -> Report:
    delivery = hospital.delivery()
    assert delivery is not None
    with hospital.store.read() as uow:
        return Report.from_json(uow.deliveries.body(delivery))


def test_a_ready_job_becomes_a_result_that_waits_for_delivery(hospital: Hospital) -> None:
    hospital.admit_patient()
    hospital.push(observation(1.8))

    assert hospital.infer() == 1

    job = hospital.job()
    assert (job.state, job.business_status) == (
        JobState.IN_PROGRESS,
        BusinessStatus.DELIVERY_PENDING,
    )
    assert [each["stage"] for each in job.decisions] == ["admit", "infer"]
    made = report_of(hospital)
    assert made.observation["valueQuantity"]["value"] == pytest.approx(0.18, abs=1e-6)
    assert made.observation["subject"] == {"reference": "Patient/p1"}
    assert made.observation["encounter"] == {"reference": "Encounter/e1"}
    assert made.observation["effectiveDateTime"] == (NOW - timedelta(hours=1)).isoformat()
    assert made.observation["derivedFrom"] == [{"reference": "Observation/o1/_history/1"}]
    assert made.observation["identifier"][0]["system"] == RESULT_SYSTEM
    assert ("infer", "0") in hospital.audited()


def test_many_jobs_share_one_run_of_the_model(hospital: Hospital) -> None:
    for number in range(5):
        hospital.admit_patient(f"p{number}")
        hospital.push(observation(1 + number, name=f"o{number}", of=f"p{number}"))

    assert hospital.infer() == 5

    assert hospital.models.model.batches == [5]


def test_a_job_that_another_worker_has_is_left_alone(hospital: Hospital) -> None:
    hospital.admit_patient()
    hospital.push(observation())
    with hospital.store.write() as uow:
        uow.jobs.claim([hospital_job.id for hospital_job in hospital.jobs()], "x", lease_ms=1000)

    assert infer([hospital.job().id], hospital.ports) == 0
    assert hospital.models.model.batches == []


def test_consent_withdrawn_while_queued_cancels_before_anything_is_unsealed(
    hospital: Hospital,
) -> None:
    hospital.admit_patient()
    hospital.push(observation())
    with hospital.store.write() as uow:
        uow.jobs.claim([hospital.job().id], "infer@dead", lease_ms=1)
    hospital.push(consent_of("p1", "deny", version="2"))
    with hospital.store.write() as uow:
        # as if the consent had arrived while no job was open: only the second asking sees it
        uow.connection.exec_driver_sql(
            "update jobs set state='ready', business_status='queued', available_ms=0"
        )

    assert hospital.infer() == 1

    job = hospital.job()
    assert (job.state, job.business_status) == (
        JobState.CANCELLED,
        BusinessStatus.CONSENT_WITHDRAWN,
    )
    assert job.decisions[-1]["decision"] == "deny"
    assert hospital.delivery() is None
    assert hospital.models.model.batches == []


def test_a_consent_that_cannot_be_read_denies_and_spoils_nobody_else(hospital: Hospital) -> None:
    for name in ("p1", "p2"):
        hospital.admit_patient(name)
        hospital.push(observation(name=f"o-{name}", of=name))
    spoilt = hospital.jobs()[0]
    with hospital.store.write() as uow:
        uow.connection.exec_driver_sql(
            "update events set payload = zeroblob(64) "
            "where resource_type = 'Consent' and patient_key = ?",
            (str(spoilt.patient_key),),
        )
    hospital.forget_consents()

    hospital.infer()

    denied, permitted = hospital.jobs()
    assert denied.business_status is BusinessStatus.CONSENT_WITHDRAWN
    assert denied.reason.endswith("can't be read, and in doubt the answer is no.")
    assert permitted.business_status is BusinessStatus.DELIVERY_PENDING


def test_an_event_that_comes_after_a_consent_was_damaged_is_kept_and_its_job_refused(
    hospital: Hospital,
) -> None:
    hospital.admit_patient("p1")
    with hospital.store.write() as uow:
        uow.connection.exec_driver_sql(
            "update events set payload = zeroblob(64) where resource_type = 'Consent'"
        )
    hospital.forget_consents()

    hospital.push(observation(name="o1", of="p1"))

    (job,) = hospital.jobs()
    assert (job.state, job.business_status) == (JobState.REJECTED, BusinessStatus.CONSENT_DENIED)


def test_an_event_without_id_and_time_is_about_the_moment_it_was_received(
    hospital: Hospital,
) -> None:
    hospital.admit_patient()
    bare = observation()
    del bare["id"], bare["effectiveDateTime"], bare["encounter"]
    hospital.push(observation(2.0, name="earlier"), bare)

    hospital.infer()

    with hospital.store.read() as uow:
        events = uow.events.get_many({job.event_id for job in hospital.jobs()})
        deliveries = uow.deliveries.of_jobs([job.id for job in hospital.jobs()])
        reports = {
            job.event_id: Report.from_json(uow.deliveries.body(deliveries[job.id]))
            for job in hospital.jobs()
        }
    of_bare = next(reports[each.id] for each in events.values() if each.effective_ms is None)
    assert of_bare.observation["effectiveDateTime"] == NOW.isoformat()
    assert "encounter" not in of_bare.observation
    assert of_bare.observation["derivedFrom"] == [{"reference": "Observation/earlier/_history/1"}]


def test_each_of_two_results_of_one_time_gives_a_result_made_of_itself(
    hospital: Hospital,
) -> None:
    hospital.admit_patient()
    issued_last = observation(2.8, name="a") | {"issued": NOW.isoformat()}
    hospital.push(issued_last, observation(1.8, name="b"), observation(3.8, name="c"))

    hospital.infer()

    with hospital.store.read() as uow:
        kept = uow.deliveries.of_jobs([job.id for job in hospital.jobs()])
        made = [Report.from_json(uow.deliveries.body(each)).observation for each in kept.values()]
    values = {
        each["derivedFrom"][0]["reference"]: round(each["valueQuantity"]["value"], 3)
        for each in made
    }
    assert values == {
        "Observation/a/_history/1": 0.28,
        "Observation/b/_history/1": 0.18,
        "Observation/c/_history/1": 0.38,
    }


def test_what_the_ehr_adds_of_the_same_time_does_not_take_the_triggers_place(
    hospital: Hospital,
) -> None:
    hospital.admit_patient()
    panel = observation(30.0, name="panel", code=UREA) | {"issued": NOW.isoformat()}
    hospital.ehr.put(panel | {"component": [observation(2.8)]})
    hospital.push(observation(1.8))

    hospital.infer()

    made = report_of(hospital).observation
    assert made["valueQuantity"]["value"] == pytest.approx(0.18, abs=1e-6)
    sources = {each["reference"] for each in made["derivedFrom"]}
    assert sources == {"Observation/o1/_history/1", "Observation/panel/_history/1"}


def test_a_correction_of_the_same_time_supersedes_the_job_and_gives_its_own_result(
    hospital: Hospital,
) -> None:
    hospital.admit_patient()
    hospital.push(observation(1.8), observation(9.0, name="other"))
    hospital.push(observation(2.8, version="2"))

    hospital.infer()

    states = [(job.state, job.business_status) for job in hospital.jobs()]
    assert states[0] == (JobState.CANCELLED, BusinessStatus.SUPERSEDED)
    with hospital.store.read() as uow:
        kept = uow.deliveries.of_jobs([hospital.jobs()[-1].id])
        (made,) = [Report.from_json(uow.deliveries.body(each)) for each in kept.values()]
    assert made.observation["derivedFrom"] == [{"reference": "Observation/o1/_history/2"}]


def test_a_newer_version_of_the_resource_supersedes_the_job(hospital: Hospital) -> None:
    hospital.admit_patient()
    hospital.push(observation(1.8))
    hospital.push(observation(2.8, version="2"))

    hospital.infer()

    old, new = hospital.jobs()
    assert (old.state, old.business_status) == (JobState.CANCELLED, BusinessStatus.SUPERSEDED)
    assert new.business_status is BusinessStatus.DELIVERY_PENDING


def test_of_a_system_without_a_fhir_api_nothing_is_asked_and_what_was_received_has_to_do(
    hospital: Hospital,
) -> None:
    hospital.admit_patient()
    speaking = replace(hospital.site.systems["ehr"], kind="hl7v2", address=None)
    hospital.site = replace(hospital.site, systems={"ehr": speaking})
    hospital.ehrs.known = None
    hospital.push(observation(1.8))

    assert hospital.infer() == 1

    assert hospital.job().business_status is BusinessStatus.DELIVERY_PENDING
    assert hospital.ehr.calls == []


def test_what_is_missing_is_asked_of_the_ehr_and_named_as_source(hospital: Hospital) -> None:
    hospital.push(consent_of())
    hospital.push(observation(1.8))
    hospital.ehr.put(patient())
    hospital.ehr.put(patient("p2"))
    hospital.ehr.put(observation(40, name="u1", code=UREA))
    hospital.ehr.put(observation(90, name="u2", code=UREA, of="p2"))

    hospital.infer()

    sources = [each["reference"] for each in report_of(hospital).observation["derivedFrom"]]
    assert sources == ["Observation/o1/_history/1", "Observation/u1/_history/1"]
    assert ("fetch", "0") in hospital.audited()


def test_a_result_of_ours_in_the_chart_is_no_input_whatever_the_ehr_has_left_of_it(
    hospital: Hospital,
) -> None:
    hospital.push(consent_of())
    hospital.push(observation(1.8))
    hospital.ehr.put(patient())
    hospital.ehr.put(observation(40, name="u1", code=UREA))
    hospital.ehr.put(observation(90, name="ours", code=UREA))
    with hospital.store.write() as uow:
        uow.written.add([("ehr", "Observation/ours")])

    hospital.infer()

    sources = [each["reference"] for each in report_of(hospital).observation["derivedFrom"]]
    assert sources == ["Observation/o1/_history/1", "Observation/u1/_history/1"]


def test_the_chart_of_several_patients_is_asked_for_in_one_search(hospital: Hospital) -> None:
    for number in range(3):
        hospital.admit_patient(f"p{number}")
        hospital.push(observation(name=f"o{number}", of=f"p{number}"))

    hospital.infer()

    assert [call.split()[1] for call in hospital.ehr.calls] == ["Observation"]


def test_an_ehr_that_is_away_postpones_the_job_and_does_not_refuse_it(hospital: Hospital) -> None:
    hospital.admit_patient()
    hospital.push(observation())
    hospital.ehr.away = away()

    hospital.infer()

    job = hospital.job()
    assert (job.state, job.business_status) == (JobState.READY, BusinessStatus.QUEUED)
    assert "EhrUnreachable" in job.reason
    assert ("fetch", "4") in hospital.audited()
    assert hospital.infer() == 0
    hospital.ehr.away = None
    hospital.pass_time(60)
    assert hospital.infer() == 1
    assert hospital.job().business_status is BusinessStatus.DELIVERY_PENDING


def test_an_open_circuit_is_not_asked_until_it_lets_one_through(hospital: Hospital) -> None:
    hospital.admit_patient()
    hospital.push(observation())
    hospital.ehr.away = away()
    for _ in range(3):
        hospital.infer()
        hospital.pass_time(2)
    hospital.ehr.calls.clear()
    with hospital.store.write() as uow:
        uow.deliveries.circuit_failed("ehr", delay_s=30, is_asked=True)

    hospital.pass_time(10)
    assert hospital.infer() == 1
    assert hospital.ehr.calls == []
    hospital.ehr.away = None
    hospital.pass_time(60)
    hospital.infer()

    assert hospital.job().business_status is BusinessStatus.DELIVERY_PENDING
    with hospital.store.read() as uow:
        assert not uow.deliveries.circuits()["ehr"].failures


def test_a_job_older_than_the_budget_is_given_up_when_the_ehr_stays_away(
    hospital: Hospital,
) -> None:
    hospital.admit_patient()
    hospital.push(observation())
    hospital.ehr.away = away()
    hospital.pass_time(3601)

    hospital.infer()

    job = hospital.job()
    assert (job.state, job.business_status) == (JobState.FAILED, BusinessStatus.INFERENCE_FAILED)


def test_an_ehr_that_refuses_searches_leaves_what_was_received(hospital: Hospital) -> None:
    hospital.admit_patient()
    hospital.push(observation())
    hospital.ehr.away = EhrRefused(403)

    hospital.infer()

    assert hospital.job().business_status is BusinessStatus.DELIVERY_PENDING


def test_an_ehr_that_is_not_configured_postpones_the_job(hospital: Hospital) -> None:
    hospital.admit_patient()
    hospital.push(observation())
    hospital.ehrs.known = None

    for _ in range(4):
        hospital.infer()
        hospital.pass_time(60)

    assert hospital.job().state is JobState.READY


def test_an_answer_of_the_ehr_that_nobody_expected_ends_only_those_who_asked(
    hospital: Hospital,
) -> None:
    hospital.admit_patient("p1")
    hospital.admit_patient("p2")
    hospital.push(observation(40, name="u2", of="p2", code=UREA))
    hospital.push(observation(name="o1", of="p1"), observation(name="o2", of="p2"))
    hospital.ehr.away = AttributeError()

    hospital.infer()

    statuses = sorted(job.business_status for job in hospital.jobs())
    assert statuses == [BusinessStatus.DELIVERY_PENDING, BusinessStatus.QUEUED]


def test_a_refusal_is_recorded_with_its_reason_and_no_result(hospital: Hospital) -> None:
    hospital.admit_patient()
    hospital.push(observation(0.01))

    hospital.infer()

    job = hospital.job()
    assert (job.state, job.business_status) == (
        JobState.REJECTED,
        BusinessStatus.INPUT_IMPLAUSIBLE,
    )
    assert job.reason.startswith("Creatinine: ")
    assert "0.01" not in job.reason
    assert hospital.delivery() is None


def test_a_route_that_wants_refusals_gets_one_as_an_observation(telling: Hospital) -> None:
    telling.admit_patient()
    telling.push(observation(0.01))

    telling.infer()

    assert telling.job().state is JobState.REJECTED
    made = report_of(telling)
    assert "dataAbsentReason" in made.observation
    assert "valueQuantity" not in made.observation


def test_one_bad_job_does_not_sink_its_batch(hospital: Hospital) -> None:
    hospital.models.model.breaks_at = 2.0
    for number, value in enumerate((1.0, 2.0, 3.0)):
        hospital.admit_patient(f"p{number}")
        hospital.push(observation(value, name=f"o{number}", of=f"p{number}"))

    hospital.infer()

    statuses = [job.business_status for job in hospital.jobs()]
    assert statuses == [
        BusinessStatus.DELIVERY_PENDING,
        BusinessStatus.QUEUED,
        BusinessStatus.DELIVERY_PENDING,
    ]


def test_an_error_nobody_expected_is_final_after_three_attempts_and_names_only_its_class(
    hospital: Hospital,
) -> None:
    hospital.models.model.breaks_at = 2.0
    hospital.admit_patient()
    hospital.push(observation(2.0))

    for _ in range(3):
        hospital.infer()
        hospital.pass_time(60)

    job = hospital.job()
    assert (job.state, job.business_status) == (JobState.FAILED, BusinessStatus.INFERENCE_FAILED)
    assert job.reason == "Given up: RuntimeError."


def test_a_model_that_takes_too_long_for_one_case_ends_it_and_no_other(hospital: Hospital) -> None:
    hospital.models.model.too_slow_above = 2.5
    for number, value in enumerate((1.0, 2.0, 3.0)):
        hospital.admit_patient(f"p{number}")
        hospital.push(observation(value, name=f"o{number}", of=f"p{number}"))

    hospital.infer()

    jobs = hospital.jobs()
    assert [job.business_status for job in jobs] == [
        BusinessStatus.DELIVERY_PENDING,
        BusinessStatus.DELIVERY_PENDING,
        BusinessStatus.INFERENCE_FAILED,
    ]
    assert jobs[2].state is JobState.FAILED
    assert "within the time limit" in jobs[2].reason
    assert hospital.infer() == 0


def test_whom_slow_cases_leave_no_time_for_is_put_back_and_every_round_gets_further(
    hospital: Hospital,
) -> None:
    hospital.models.model.too_slow_above = 2.5
    hospital.models.model.on_slow = lambda: hospital.pass_time(12)
    for number, value in enumerate((3.0, 4.0, 1.0, 5.0)):
        hospital.admit_patient(f"p{number}")
        hospital.push(observation(value, name=f"o{number}", of=f"p{number}"))

    hospital.infer()
    after_one = [job.business_status for job in hospital.jobs()]
    hospital.pass_time(60)
    hospital.infer()

    assert after_one == [
        BusinessStatus.INFERENCE_FAILED,
        BusinessStatus.INFERENCE_FAILED,
        BusinessStatus.QUEUED,
        BusinessStatus.QUEUED,
    ]
    assert [job.business_status for job in hospital.jobs()] == [
        BusinessStatus.INFERENCE_FAILED,
        BusinessStatus.INFERENCE_FAILED,
        BusinessStatus.DELIVERY_PENDING,
        BusinessStatus.INFERENCE_FAILED,
    ]


def test_an_answer_outside_its_range_is_a_fault_and_no_result(hospital: Hospital) -> None:
    hospital.admit_patient()
    hospital.push(observation(11.0))

    hospital.infer()

    job = hospital.job()
    assert (job.state, job.business_status) == (JobState.FAILED, BusinessStatus.INFERENCE_FAILED)
    assert hospital.delivery() is None


def test_a_model_that_is_not_installed_is_waited_for_and_then_refused(hospital: Hospital) -> None:
    hospital.models.is_installed = False
    hospital.admit_patient()
    hospital.push(observation())

    for _ in range(5):
        hospital.infer()
        assert hospital.job().state is JobState.READY
        hospital.pass_time(120)
    hospital.infer()

    job = hospital.job()
    assert (job.state, job.business_status) == (
        JobState.REJECTED,
        BusinessStatus.MODEL_UNAVAILABLE,
    )


def test_a_model_that_was_away_for_a_moment_is_asked_however_often_workers_died(
    hospital: Hospital,
) -> None:
    hospital.admit_patient()
    hospital.push(observation())
    for _ in range(4):
        with hospital.store.write() as uow:
            lost = uow.jobs.claim([hospital.job().id], "dead", lease_ms=LEASE_MS)
            uow.jobs.advance(rescue(lost, now_ms=uow.now_ms, budget_s=3600))
    hospital.models.is_installed = False
    hospital.infer()
    hospital.models.is_installed = True
    hospital.pass_time(11)

    hospital.infer()

    assert hospital.job().business_status is BusinessStatus.DELIVERY_PENDING


def test_a_job_whose_route_was_removed_is_cancelled(hospital: Hospital) -> None:
    hospital.admit_patient()
    hospital.push(observation())
    hospital.remove_routes()

    hospital.infer()

    assert hospital.job().state is JobState.CANCELLED


def test_a_payload_that_was_tampered_with_ends_its_job_alone(hospital: Hospital) -> None:
    for name in ("p1", "p2"):
        hospital.admit_patient(name)
        hospital.push(observation(name=f"o-{name}", of=name))
    event_id = hospital.jobs()[0].event_id
    with hospital.store.write() as uow:
        uow.connection.exec_driver_sql(
            "update events set payload = zeroblob(64) where id = ?", (event_id,)
        )

    hospital.infer()

    broken, whole = hospital.jobs()
    assert broken.state is JobState.FAILED
    assert whole.business_status is BusinessStatus.DELIVERY_PENDING


def test_a_worker_that_lost_its_lease_writes_nothing(hospital: Hospital) -> None:
    hospital.admit_patient()
    hospital.push(observation())
    job_id = hospital.job().id

    class Thief:
        """Takes the job away while the EHR is asked."""

        def search(self, *_: object, **__: object) -> list[dict[str, object]]:
            with hospital.store.write() as uow:
                uow.connection.exec_driver_sql("update jobs set attempt = attempt + 1")
            return []

    known = hospital.ehrs.known
    assert known is not None
    object.__setattr__(known, "client", Thief())

    infer([job_id], hospital.ports)

    assert hospital.job().state is JobState.IN_PROGRESS
    assert hospital.delivery() is None
    assert "infer" not in [event for event, _ in hospital.audited()]


def test_no_patient_value_stands_in_any_plain_column(hospital: Hospital) -> None:
    hospital.admit_patient("canary-patient")
    hospital.push(observation(1.87654, name="canary-observation", of="canary-patient"))

    hospital.infer()

    with hospital.store.read() as uow:
        for table in (jobs, deliveries, audit_events):
            rows = uow.connection.execute(select(table)).all()
            shown = orjson.dumps([[str(value) for value in row] for row in rows])
            assert b"canary" not in shown
            assert b"1.87654" not in shown
