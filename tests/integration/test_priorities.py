"""A stat order under a routine backlog, with every process of Nadi and a slow EHR."""

import time
from pathlib import Path

import pytest

from tests.people import Json, Person, person
from tests.running import RunningNadi, push_chart, running_nadi, wait_until

pytestmark = pytest.mark.integration

BACKLOG, PER_BUNDLE = 600, 200


def order(patient: Person, priority: str) -> Json:
    return {
        "resourceType": "ServiceRequest",
        "id": f"{patient.id}-order",
        "status": "active",
        "intent": "order",
        "priority": priority,
        "subject": {"reference": patient.reference},
    }


def answer(patient: Person) -> Json:
    reference = f"ServiceRequest/{patient.id}-order"
    return patient.creatinine(basedOn=[{"reference": reference}])


def open_jobs(nadi: RunningNadi) -> int:
    (found,) = nadi.rows("select count(*) as n from jobs where state in ('ready', 'in-progress')")
    return int(found["n"])


def test_a_stat_result_is_in_the_ehr_while_the_routine_backlog_still_waits(tmp_path: Path) -> None:
    with running_nadi(tmp_path / "nadi", environment={"NADI_BATCH_SIZE": "16"}) as nadi:
        routine, urgent = person("routine"), person("stat")
        push_chart(nadi, *routine.chart(routine.consent()))
        push_chart(nadi, *urgent.chart(urgent.consent()), order(urgent, "stat"))
        nadi.faults(slow_ms=100)
        with nadi.frozen("infer"):
            for start in range(0, BACKLOG, PER_BUNDLE):
                push_chart(
                    nadi,
                    *(
                        routine.creatinine(id=f"{routine.id}-{number}")
                        for number in range(start, start + PER_BUNDLE)
                    ),
                )
        wait_until(
            lambda: open_jobs(nadi) <= BACKLOG - 16, within_s=60, what="the backlog is worked on"
        )

        began = time.monotonic()
        (task,) = push_chart(nadi, answer(urgent))
        nadi.wait_for_status(task, "delivered", within_s=60)
        took_s, still_open = time.monotonic() - began, open_jobs(nadi)

        assert still_open > BACKLOG // 2, f"{still_open} open after {took_s:.1f} s"
        assert len(nadi.results_of(urgent.id)) == 1
        (job,) = nadi.jobs_of(task)
        assert job["lane"] == 0
