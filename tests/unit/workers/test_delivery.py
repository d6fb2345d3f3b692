from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from adapters.fhir_rest.errors import EhrOverloaded, unreachable
from adapters.obstacles import Obstacle
from gateway.core.delivery import DeliveryState
from gateway.core.findings import RESULT_SYSTEM
from gateway.core.jobs import BusinessStatus, JobState
from gateway.core.write_back import AS_OBSERVATION
from gateway.store.audit_log import AuditFilter
from models.manifest import parse
from tests.hospital import DIGEST, LOINC, MANIFEST, Hospital, away, consent_of, observation
from tests.waiting import due
from workers.delivery import deliver


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    yield made
    made.close()


def with_result(hospital: Hospital, name: str = "p1", value: float = 1.8) -> None:
    hospital.admit_patient(name)
    hospital.push(observation(value, name=f"o-{name}", of=name))
    hospital.infer()
    hospital.ehr.calls.clear()


def states(hospital: Hospital) -> tuple[JobState, BusinessStatus, DeliveryState]:
    job, delivery = hospital.job(), hospital.delivery()
    assert delivery is not None
    return job.state, job.business_status, delivery.state


DONE = (JobState.COMPLETED, BusinessStatus.DELIVERED, DeliveryState.DELIVERED)
WAITING = (JobState.IN_PROGRESS, BusinessStatus.DELIVERY_PENDING, DeliveryState.PENDING)
GIVEN_UP = (JobState.FAILED, BusinessStatus.DELIVERY_FAILED, DeliveryState.FAILED)


def test_a_result_is_written_once_with_its_device_and_provenance(hospital: Hospital) -> None:
    with_result(hospital)

    assert hospital.deliver() == 1

    assert states(hospital) == DONE
    (result,) = hospital.ehr.results()
    (provenance,) = hospital.ehr.of("Provenance")
    assert provenance["meta"]["tag"][0]["code"] == result["identifier"][0]["value"]
    assert hospital.ehr.of("Device")[0]["identifier"][0]["value"] == DIGEST
    assert [each["stage"] for each in hospital.job().decisions] == ["admit", "infer", "deliver"]
    assert hospital.audited()[-3:] == [("consent", "0"), ("deliver", "0"), ("complete", "0")]


def as_risk(hospital: Hospital) -> None:
    """Let the model's answers be RiskAssessments."""
    text = MANIFEST.replace(
        'unit = "1"\nrange', f'outcome = {{ system = "{LOINC}", code = "toy" }}\nunit = "1"\nrange'
    )
    hospital.models.model.manifest = parse(text + '\n[result]\nresource = "RiskAssessment"\n')


def delivered_as(hospital: Hospital) -> tuple[str, dict[str, str]]:
    """Give the type that the AuditEvent of the delivery names, and its details."""
    with hospital.store.read() as uow:
        (row,) = (r for r in uow.audit_log.search(AuditFilter(limit=1000)) if r.event == "deliver")
    named = [e for e in orjson.loads(row.body)["entity"] if "what" in e and "detail" in e]
    entity = next(e for e in named if e["what"]["identifier"]["system"] == RESULT_SYSTEM)
    return entity["what"]["type"], {d["type"]: d["valueString"] for d in entity["detail"]}


def test_a_risk_assessment_is_written_and_audited_under_its_own_type(hospital: Hospital) -> None:
    as_risk(hospital)
    with_result(hospital)

    hospital.deliver()

    assert states(hospital) == DONE
    (risk,) = hospital.ehr.of("RiskAssessment")
    assert risk["prediction"][0]["probabilityDecimal"] == 18.0
    told = {"http-status": "201", "attempt": "1", "rung": "risk-assessment"}
    assert delivered_as(hospital) == ("RiskAssessment", told)


def test_an_ehr_without_risk_assessments_is_told_of_in_answer_and_audit(
    hospital: Hospital,
) -> None:
    as_risk(hospital)
    hospital.ehr.types = ("Observation", "Device", "Provenance")
    with_result(hospital)

    hospital.deliver()

    assert states(hospital) == DONE
    delivery = hospital.delivery()
    assert delivery is not None
    assert delivery.last_answer == f"201 {AS_OBSERVATION}"
    assert len(hospital.ehr.results()) == 1
    kind, details = delivered_as(hospital)
    assert (kind, details["changed"]) == ("Observation", AS_OBSERVATION)


def test_many_results_go_in_one_transaction(hospital: Hospital) -> None:
    for number in range(4):
        with_result(hospital, f"p{number}")

    hospital.deliver()

    look = "read Observation/observation-1"  # at one of them, which was kept whole
    assert hospital.ehr.calls == ["capabilities", "search Device True", "transaction 9", look]
    assert {job.state for job in hospital.jobs()} == {JobState.COMPLETED}


def test_where_the_result_is_kept_is_sealed_with_the_delivery(hospital: Hospital) -> None:
    with_result(hospital)

    hospital.deliver()

    delivery = hospital.delivery()
    assert delivery is not None
    with hospital.store.read() as uow:
        assert uow.deliveries.location(delivery) == "Observation/observation-1"


def test_consent_withdrawn_before_the_write_back_cancels_it(hospital: Hospital) -> None:
    with_result(hospital)
    hospital.push(consent_of("p1", "deny", version="2"))
    with hospital.store.write() as uow:
        # as if the consent had arrived unseen: only the third asking stands between
        uow.connection.exec_driver_sql(
            "update jobs set state='in-progress', business_status='delivery-pending'"
        )
        uow.connection.exec_driver_sql("update deliveries set state='pending', next_attempt_ms=0")

    hospital.deliver()

    assert states(hospital) == (
        JobState.CANCELLED,
        BusinessStatus.CONSENT_WITHDRAWN,
        DeliveryState.CANCELLED,
    )
    assert hospital.ehr.calls == []


@pytest.mark.parametrize(("attempts", "is_doubtful"), [(0, False), (1, True)])
def test_a_consent_that_arrives_cancels_a_result_that_waits_for_the_ehr(
    hospital: Hospital, attempts: int, is_doubtful: bool
) -> None:
    with_result(hospital)
    hospital.ehr.away = away()
    for _ in range(attempts):
        hospital.deliver()

    hospital.push(consent_of("p1", "deny", version="2"))

    assert states(hospital) == (
        JobState.CANCELLED,
        BusinessStatus.CONSENT_WITHDRAWN,
        DeliveryState.CANCELLED,
    )
    assert ("earlier attempt" in hospital.job().reason) == is_doubtful
    assert hospital.job().decisions[-1]["stage"] == "withdraw"
    assert [event for event, _ in hospital.audited()[-2:]] == ["consent", "cancel"]


def test_a_consent_that_arrives_leaves_a_result_in_flight_to_its_worker(
    hospital: Hospital,
) -> None:
    with_result(hospital)
    with hospital.store.write() as uow:
        ((delivery_id, _),) = due(uow.deliveries, 10)
        uow.deliveries.claim([delivery_id], "worker", lease_ms=60_000)

    hospital.push(consent_of("p1", "deny", version="2"))

    assert states(hospital) == (
        JobState.IN_PROGRESS,
        BusinessStatus.DELIVERY_PENDING,
        DeliveryState.IN_FLIGHT,
    )


def test_a_result_of_a_version_that_is_no_longer_current_is_not_written(
    hospital: Hospital,
) -> None:
    with_result(hospital)
    hospital.push(observation(2.8, name="o-p1", version="2"))

    hospital.deliver()

    old, _ = hospital.jobs()
    assert (old.state, old.business_status) == (JobState.CANCELLED, BusinessStatus.SUPERSEDED)
    assert hospital.ehr.results() == []


def test_an_answer_that_was_lost_does_not_make_a_second_observation(hospital: Hospital) -> None:
    hospital.ehr.ignores_conditions = True
    with_result(hospital)
    hospital.ehr.loses_answers = 1

    hospital.deliver()
    assert states(hospital) == WAITING
    hospital.pass_time(60)
    hospital.deliver()

    assert states(hospital) == DONE
    assert len(hospital.ehr.results()) == 1
    assert len(hospital.ehr.of("Provenance")) == 1


def test_a_worker_that_died_after_writing_does_not_make_a_second_observation(
    hospital: Hospital,
) -> None:
    hospital.ehr.ignores_conditions = True
    with_result(hospital)
    delivery = hospital.delivery()
    assert delivery is not None
    hospital.deliver()
    with hospital.store.write() as uow:
        uow.connection.exec_driver_sql("update deliveries set state='pending', next_attempt_ms=0")
        uow.connection.exec_driver_sql(
            "update jobs set state='in-progress', business_status='delivery-pending'"
        )

    hospital.deliver()

    assert states(hospital) == DONE
    assert len(hospital.ehr.results()) == 1


def test_an_ehr_that_is_away_is_tried_again_and_later_gets_everything_once(
    hospital: Hospital,
) -> None:
    with_result(hospital, "p1")
    hospital.ehr.away = away()

    for _ in range(30):
        hospital.deliver()
        hospital.pass_time(40)
    assert states(hospital) == WAITING
    hospital.ehr.away = None
    hospital.pass_time(40)
    hospital.deliver()

    assert states(hospital) == DONE
    assert len(hospital.ehr.results()) == 1


def test_an_open_circuit_leaves_results_untried(hospital: Hospital) -> None:
    with_result(hospital)
    hospital.ehr.away = EhrOverloaded(retry_after_s=120)
    hospital.deliver()
    hospital.ehr.away = None
    hospital.ehr.calls.clear()
    before = hospital.delivery()
    assert before is not None

    hospital.pass_time(100)
    assert deliver([before.id], hospital.ports) == 0
    assert hospital.ehr.calls == []
    hospital.pass_time(21)
    hospital.deliver()

    after = hospital.delivery()
    assert after is not None
    assert (before.attempt, after.attempt) == (1, 2)
    assert states(hospital) == DONE


def test_only_one_probe_goes_through_a_half_open_circuit_and_its_success_wakes_the_rest(
    hospital: Hospital,
) -> None:
    for number in range(3):
        with_result(hospital, f"p{number}")
    hospital.ehr.away = EhrOverloaded(retry_after_s=120)
    hospital.deliver()
    hospital.ehr.away = None
    hospital.pass_time(121)

    assert hospital.deliver() == 1
    assert hospital.deliver() == 2

    assert len(hospital.ehr.results()) == 3


def test_a_probe_that_was_not_sent_lets_another_go_at_once(hospital: Hospital) -> None:
    for number in range(2):
        with_result(hospital, f"p{number}")
    hospital.ehr.away = EhrOverloaded(retry_after_s=120)
    hospital.deliver()
    hospital.ehr.away = None
    with hospital.store.write() as uow:
        uow.connection.exec_driver_sql(
            "update events set is_current = 0 where id = (select min(event_id) from jobs)"
        )
    hospital.pass_time(121)

    assert hospital.deliver() == 1
    assert hospital.ehr.results() == []
    assert hospital.deliver() == 1

    assert len(hospital.ehr.results()) == 1


def test_a_result_the_ehr_refuses_is_given_up_at_once_and_its_neighbours_arrive(
    hospital: Hospital,
) -> None:
    for number in range(3):
        with_result(hospital, f"p{number}")
    hospital.ehr.refused["Observation"] = 422

    hospital.deliver()

    assert {job.business_status for job in hospital.jobs()} == {BusinessStatus.DELIVERY_FAILED}
    assert {job.reason for job in hospital.jobs()} == {"The EHR refused the result: HTTP 422."}
    with hospital.store.read() as uow:
        assert uow.deliveries.circuits() == {}


def test_a_result_older_than_the_budget_is_given_up(hospital: Hospital) -> None:
    with_result(hospital)
    hospital.ehr.away = away()
    hospital.pass_time(3601)

    hospital.deliver()

    assert states(hospital) == GIVEN_UP
    says = "The EHR can't be reached, or closed the connection without an answer."
    reason = f"Given up after 1 attempts; the last: EhrUnreachable: {says}"
    assert hospital.job().reason == reason


def test_why_an_ehr_can_t_be_reached_is_logged_and_on_record_with_what_to_do(
    hospital: Hospital, logs: list[dict[str, object]]
) -> None:
    with_result(hospital)
    hospital.ehr.away = unreachable(Obstacle.NAME_UNKNOWN)

    hospital.deliver()

    says = f"EhrNameUnknown: The EHR {Obstacle.NAME_UNKNOWN.says}"
    (line,) = (each for each in logs if each["event"] == "ehr-away")
    assert (line["system"], line["error"]) == ("ehr", says)
    with hospital.store.read() as uow:
        written = [each.body for each in uow.audit_log.search(AuditFilter(limit=9))]
    assert any(f"The EHR did not take it: {says}" in str(body) for body in written)


def test_a_system_the_site_forgot_keeps_its_results_waiting(hospital: Hospital) -> None:
    with_result(hospital)
    hospital.ehrs.known = None

    hospital.deliver()

    assert states(hospital) == WAITING


def test_an_error_nobody_expected_keeps_the_results_waiting(hospital: Hospital) -> None:
    with_result(hospital)
    hospital.ehr.away = ZeroDivisionError()

    hospital.deliver()

    assert states(hospital) == WAITING
    with hospital.store.read() as uow:
        assert uow.deliveries.circuits() == {}


def test_a_result_whose_seal_is_broken_is_given_up(hospital: Hospital) -> None:
    with_result(hospital)
    with hospital.store.write() as uow:
        uow.connection.exec_driver_sql("update deliveries set body = zeroblob(64)")

    hospital.deliver()

    assert states(hospital) == GIVEN_UP
    assert hospital.ehr.calls == []


def test_a_route_that_was_removed_cancels_its_results(hospital: Hospital) -> None:
    with_result(hospital)
    hospital.remove_routes()

    hospital.deliver()

    assert states(hospital) == (
        JobState.CANCELLED,
        BusinessStatus.STOPPED,
        DeliveryState.CANCELLED,
    )


def test_a_refusal_that_is_told_leaves_its_job_refused(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, refusals="observation")
    with_result(hospital, value=0.01)

    hospital.deliver()

    assert states(hospital) == (
        JobState.REJECTED,
        BusinessStatus.INPUT_IMPLAUSIBLE,
        DeliveryState.DELIVERED,
    )
    assert "dataAbsentReason" in hospital.ehr.results()[0]
    hospital.close()


def test_a_delivery_that_was_cancelled_meanwhile_stays_so(hospital: Hospital) -> None:
    with_result(hospital)
    ehr = hospital.ehr

    class Canceller:
        """Cancels while the EHR is written to."""

        def __getattr__(self, name: str) -> object:
            with hospital.store.write() as uow:
                uow.connection.exec_driver_sql("update deliveries set state = 'cancelled'")
                uow.connection.exec_driver_sql("update jobs set state = 'cancelled'")
            return getattr(ehr, name)

    known = hospital.ehrs.known
    assert known is not None
    known.recipient._recipient._ehr = Canceller()

    hospital.deliver()

    assert hospital.job().state is JobState.CANCELLED
    assert "complete" not in [event for event, _ in hospital.audited()]
