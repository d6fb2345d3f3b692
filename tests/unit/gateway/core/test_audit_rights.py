"""What is recorded of patients' rights is sound, canonical, and names nobody."""

import json
from datetime import UTC, datetime

import pytest
from fhir.resources.R4B.auditevent import AuditEvent

from gateway.core.audit import AgentKind, AuditAgent, AuditRecord, Source, Step, read_record
from gateway.core.audit_rights import (
    ERASURE_SYSTEM,
    changed,
    removed,
    reopened,
)
from tests import balp

STAFF = AuditAgent("os-user:clerk", "clerk", AgentKind.USER, role="operator")
STEP = Step(
    id="event-1",
    recorded=datetime(2026, 11, 23, tzinfo=UTC),
    source=Source("ward", "cli@host"),
    patient_key="a" * 64,
)
TOLD = {"why": "She asked.", "law": "DPDP Act 2023, s.12(3)", "events": "3"}
RECORDS = {
    "erase": removed(STEP, "erase", by=STAFF, erasure_id="e-1", details=TOLD),
    "expire": removed(STEP, "expire", by=None, erasure_id="e-2", details=TOLD),
    "reopen": reopened(STEP, erasure_id="e-1"),
    "hold": changed(STEP, "hold", by=STAFF, about="h-1", details={"what": "placed", **TOLD}),
    "rectify": changed(STEP, "rectify", by=STAFF, about="b" * 64, details=TOLD),
    "request": changed(STEP, "request", by=STAFF, about="r-1", details={"what": "received"}),
}


@pytest.mark.parametrize(("event", "record"), RECORDS.items(), ids=RECORDS.keys())
def test_each_is_a_sound_event_that_can_be_read_back(event: str, record: AuditRecord) -> None:
    body = json.loads(record.body)

    assert read_record(record.body) == record
    assert balp.violations(body) == []
    AuditEvent.model_validate_json(record.body)
    assert (record.event, record.patient_key) == (event, "a" * 64)


@pytest.mark.parametrize("event", ["erase", "expire"])
def test_what_is_removed_is_told_as_permanent_erasure(event: str) -> None:
    entity = json.loads(RECORDS[event].body)["entity"][-1]

    assert entity["lifecycle"]["code"] == "15"
    assert entity["what"]["identifier"]["system"] == ERASURE_SYSTEM
    assert json.loads(RECORDS[event].body)["action"] == "D"
    assert {each["type"] for each in entity["detail"]} == set(TOLD)
