"""What is not on the register, retired or expired does not run, and its results do not go."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.core.delivery import DeliveryState
from gateway.core.jobs import BusinessStatus, JobState
from tests.hospital import DIGEST, MANIFEST, Hospital, away, observation

STOPPED = (JobState.CANCELLED, BusinessStatus.MODEL_RETIRED)


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    yield made
    made.close()


def queued(hospital: Hospital) -> None:
    hospital.admit_patient()
    hospital.push(observation())


def behind_its_back(hospital: Hospital, statement: str, *values: object) -> None:
    with hospital.store.write() as uow:
        uow.connection.exec_driver_sql(statement, values)


def state(hospital: Hospital) -> tuple[JobState, BusinessStatus]:
    job = hospital.job()
    return job.state, job.business_status


def nothing_was_read(hospital: Hospital) -> bool:
    return not hospital.models.model.batches and not hospital.ehr.calls


def test_a_retired_model_admits_nothing(hospital: Hospital) -> None:
    hospital.retire_model()

    queued(hospital)

    assert state(hospital) == (JobState.REJECTED, BusinessStatus.MODEL_UNAVAILABLE)
    assert hospital.job().reason == "Model toy@1 is not in service."


def test_retiring_stops_what_is_queued(hospital: Hospital) -> None:
    queued(hospital)

    assert hospital.retire_model() == 1

    assert hospital.infer() == 0
    assert state(hospital) == STOPPED
    assert hospital.job().reason == "Model toy@1 was retired: It was found wanting."
    assert hospital.audited()[-2:] == [("model", "0"), ("cancel", "4")]


def test_a_job_that_was_claimed_when_its_model_was_retired_is_not_run(hospital: Hospital) -> None:
    queued(hospital)
    behind_its_back(hospital, "update jobs set state = 'in-progress', business_status = 'running'")
    hospital.retire_model()
    behind_its_back(hospital, "update jobs set state = 'ready', business_status = 'queued'")

    assert hospital.infer() == 1

    assert state(hospital) == STOPPED
    assert nothing_was_read(hospital)
    assert hospital.audited()[-1] == ("cancel", "4")


def test_a_digest_that_is_not_on_the_register_is_refused_before_anything_is_unsealed(
    hospital: Hospital,
) -> None:
    queued(hospital)
    behind_its_back(hospital, "delete from models")

    assert hospital.infer() == 1

    assert state(hospital) == (JobState.REJECTED, BusinessStatus.MODEL_UNAVAILABLE)
    assert "is not on the register" in hospital.job().reason
    assert nothing_was_read(hospital)


@pytest.mark.parametrize("column", ["not_after", "not_before"])
def test_a_model_outside_its_days_is_refused(hospital: Hospital, column: str) -> None:
    queued(hospital)
    day = hospital.now + timedelta(days=-1 if column == "not_after" else 1)
    behind_its_back(hospital, f"update models set {column} = ?", str(day.date()))  # noqa: S608

    assert hospital.infer() == 1

    assert state(hospital) == (JobState.REJECTED, BusinessStatus.MODEL_EXPIRED)
    assert nothing_was_read(hospital)


class RetiredMeanwhile:
    """The toy model, retired while it computes."""

    def __init__(self, hospital: Hospital) -> None:
        self._hospital = hospital
        self._model = hospital.models.model
        self.manifest, self.facts = self._model.manifest, self._model.facts
        self.batches = self._model.batches
        self.breaks_at = None

    def predict(self, tensors: Any) -> Any:
        answer = self._model.predict(tensors)
        self._hospital.retire_model()
        return answer


def test_an_answer_of_a_model_that_was_retired_meanwhile_is_not_kept(hospital: Hospital) -> None:
    queued(hospital)
    hospital.models.model = RetiredMeanwhile(hospital)

    hospital.infer()

    assert state(hospital) == STOPPED
    assert hospital.delivery() is None
    assert [event for event, _ in hospital.audited()[-3:]] == ["fetch", "infer", "cancel"]


def test_the_refusal_of_a_model_that_was_retired_meanwhile_stays_but_is_not_sent(
    tmp_path: Path,
) -> None:
    hospital = Hospital(tmp_path, refusals="observation")
    hospital.admit_patient()
    hospital.push(observation(value=99.0))
    hospital.infer()
    assert hospital.delivery() is not None
    hospital.retire_model()

    hospital.deliver()

    delivery = hospital.delivery()
    assert delivery is not None
    assert delivery.state is DeliveryState.CANCELLED
    assert hospital.job().state is JobState.REJECTED
    assert hospital.ehr.results() == []
    hospital.close()


def test_a_result_that_waits_is_stopped_with_its_model(hospital: Hospital) -> None:
    queued(hospital)
    hospital.infer()
    hospital.ehr.away = away()
    hospital.deliver()

    assert hospital.retire_model() == 1

    hospital.ehr.away = None
    hospital.pass_time(3600)
    assert hospital.deliver() == 0
    assert state(hospital) == STOPPED
    assert "may have reached the EHR" in hospital.job().reason
    assert hospital.ehr.results() == []


def test_a_result_that_a_worker_took_up_again_is_not_sent_after_the_retirement(
    hospital: Hospital,
) -> None:
    queued(hospital)
    hospital.infer()
    behind_its_back(hospital, "update deliveries set state = 'in-flight'")
    assert hospital.retire_model() == 0
    behind_its_back(hospital, "update deliveries set state = 'pending'")

    hospital.deliver()

    assert state(hospital) == STOPPED
    assert hospital.ehr.results() == []
    assert nothing_was_sent(hospital)


def nothing_was_sent(hospital: Hospital) -> bool:
    return not any(call.startswith(("create", "transaction")) for call in hospital.ehr.calls)


def test_a_result_is_sent_although_the_days_of_its_model_are_over(hospital: Hospital) -> None:
    queued(hospital)
    hospital.infer()
    behind_its_back(hospital, "update models set not_after = '2026-01-01'")

    hospital.deliver()

    assert state(hospital) == (JobState.COMPLETED, BusinessStatus.DELIVERED)


def test_of_a_batch_only_the_jobs_of_the_retired_model_are_stopped(hospital: Hospital) -> None:
    queued(hospital)
    hospital.push(observation(2.0, name="o2"))
    other = hospital.jobs()[0].id
    behind_its_back(hospital, "update jobs set model_digest = 'e' where id = ?", other)

    hospital.infer()

    assert [job.business_status for job in hospital.jobs()] == [
        BusinessStatus.MODEL_UNAVAILABLE,
        BusinessStatus.DELIVERY_PENDING,
    ]


def test_the_register_knows_the_toy_model_as_its_manifest_says(hospital: Hospital) -> None:
    with hospital.store.read() as uow:
        line = uow.models.get(DIGEST)

    assert line is not None
    assert line.card.title in MANIFEST
