"""What a restored database forgot is looked for in the EHR before it is written."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.core.audit import Step, noted
from gateway.core.clock import new_id
from tests.hospital import NOW, Hospital, Json, observation
from tests.registered import ACTOR


@pytest.fixture
def lost(tmp_path: Path) -> Iterator[Hospital]:
    """A hospital whose database is lost later; its EHR ignores conditions, as some do."""
    (tmp_path / "lost").mkdir()
    made = Hospital(tmp_path / "lost")
    made.ehr.ignores_conditions = True
    yield made
    made.close()


@pytest.fixture
def restored(lost: Hospital, tmp_path: Path) -> Iterator[Hospital]:
    """The same hospital after a restore of a backup from before everything."""
    (tmp_path / "restored").mkdir()
    made = Hospital(tmp_path / "restored")
    made.ehr.resources, made.ehr.ignores_conditions = lost.ehr.resources, True
    with made.store.write() as uow:
        step = Step(id=new_id(), recorded=uow.now, source=ACTOR.source)
        uow.audit(noted(step, "restore", agents=[ACTOR.by], details={"backup": "b"}))
    yield made
    made.close()


def work(hospital: Hospital, resource: Json) -> list[str]:
    """Let the EHR send a chart; give what was asked of the EHR in delivering its result."""
    hospital.admit_patient()
    hospital.push(resource)
    hospital.infer()
    hospital.ehr.calls.clear()
    assert hospital.deliver() == 1
    return [call for call in hospital.ehr.calls if call.startswith("search Observation")]


def updated(hours: float) -> Json:
    at = (NOW + timedelta(hours=hours)).isoformat()
    resource = observation()
    return {**resource, "meta": {**resource["meta"], "lastUpdated": at}}


@pytest.mark.parametrize(
    "resource", [observation(), updated(-1)], ids=["of no time", "of before the restore"]
)
def test_what_was_delivered_before_a_restore_is_found_and_not_written_again(
    lost: Hospital, restored: Hospital, resource: Json
) -> None:
    assert work(lost, resource) == [], "a first attempt looks for nothing"

    assert work(restored, resource) != []

    assert len(restored.ehr.results()) == 1
    delivery = restored.delivery()
    assert delivery is not None
    assert delivery.last_answer.startswith("200")


def test_what_changed_after_the_restore_costs_no_search(restored: Hospital) -> None:
    restored.pass_time(72 * 3600)

    assert work(restored, updated(48)) == []
    assert len(restored.ehr.results()) == 1


def test_a_database_knows_when_it_was_last_restored(lost: Hospital, restored: Hospital) -> None:
    with lost.store.read() as uow:
        assert uow.audit_log.restored_ms() is None
    with restored.store.read() as uow:
        assert uow.audit_log.restored_ms() == int(NOW.timestamp() * 1000)
        plan = uow.connection.exec_driver_sql(
            "explain query plan select max(recorded_ms) from audit_events where event = 'restore' "
            "and event not in ('receive', 'consent', 'admit', 'fetch', 'infer', 'deliver', "
            "'complete')"
        )
        assert "ix_audit_events_rare" in " ".join(row.detail for row in plan)
