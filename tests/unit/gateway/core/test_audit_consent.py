import json
from datetime import UTC, datetime

import pytest

from gateway.core.audit import AgentKind, AuditAgent, Source, Step, read_record
from gateway.core.audit_consent import EVENTS, ConsentAct, consent_changed
from tests import balp

STAFF = AuditAgent("os-user:clerk", "clerk", AgentKind.USER, role="operator")


@pytest.mark.parametrize("kind", EVENTS)
def test_what_is_done_about_a_consent_is_a_sound_event_that_names_nobody(kind: str):
    act = ConsentAct(kind=kind, id="act-1", consent_id="consent-1", sha256="0" * 64)
    step = Step(
        id="event-1",
        recorded=datetime(2026, 11, 23, tzinfo=UTC),
        source=Source("ward", "cli@host"),
        patient_key="a" * 64,
    )

    record = consent_changed(step, act, by=STAFF, details={"form": "local", "notice": ""})

    body = json.loads(record.body)
    assert read_record(record.body) == record
    assert balp.violations(body) == []
    assert (record.event, record.patient_key) == (EVENTS[kind], "a" * 64)
    consent = body["entity"][-1]
    assert consent["what"]["reference"] == "Consent/consent-1"
    assert {each["type"] for each in consent["detail"]} == {"sha256", "form"}
