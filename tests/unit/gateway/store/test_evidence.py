"""What the log says of a job's consent decisions, and what is kept with the job beside it."""

import dataclasses
from datetime import UTC, datetime

import orjson
import pytest

from gateway.core import audit
from gateway.core.audit import AgentKind, AuditAgent, AuditRecord
from gateway.core.consent.decision import ConsentDecision, Obligation
from gateway.store.evidence import JobEvidence, read_claim

AT = datetime(2026, 3, 1, 12, 30, 5, 123000, UTC)
STEP = audit.Step(
    id="a1", recorded=AT, source=audit.Source("site", "api"), patient_key="p1", job_id="j1"
)
MODEL = AuditAgent("ckd-risk@1", "ckd-risk@1", AgentKind.USER)
PERMIT = ConsentDecision(
    True,
    "TREAT",
    ("Consent/e1: permits TREAT.",),
    ("Consent/e1",),
    obligations=(Obligation("REDACT", "Consent/e1", "provision"),),
    basis="consent",
)
DENY = ConsentDecision(False, "TREAT", ("No.",), ("Consent/e1",), is_ai_refused=True)
KEPT = PERMIT.as_json("infer", AT)
#: What a record said of a decision before it told what it rests on.
EARLY = ("stage", "purpose", "job")


def evidence(decision: ConsentDecision, *, is_early: bool = False) -> JobEvidence:
    record = audit.consent_decided(STEP, decision, stage="infer", user=MODEL)
    claim = read_claim(1, _without_basis(record) if is_early else record)
    known = JobEvidence(first=claim, last=claim)
    known.add(claim)
    return known


def _without_basis(record: AuditRecord) -> AuditRecord:
    body = orjson.loads(record.body)
    patient = body["entity"][0]
    patient["detail"] = [each for each in patient["detail"] if each["type"] in EARLY]
    return dataclasses.replace(record, body=orjson.dumps(body))


@pytest.mark.parametrize("decision", [PERMIT, DENY], ids=["permit", "deny"])
@pytest.mark.parametrize("is_early", [False, True], ids=["now", "early"])
def test_a_decision_is_known_as_it_was_kept(decision: ConsentDecision, is_early: bool) -> None:
    assert evidence(decision, is_early=is_early).knows(decision.as_json("infer", AT))


@pytest.mark.parametrize(
    "changed",
    [
        {"decision": "deny"},
        {"stage": "deliver"},
        {"purpose": "HPAYMT"},
        {"reasons": ["Because."]},
        {"consents": []},
        {"at": "2026-03-01T12:30:05.124+00:00"},
        {"basis": "contract"},
        {"obligations": []},
        {"obligations": [{"code": "REDACT", "rule": "Consent/e1 provision.provision[0]"}]},
        {"ai_refused": True},
        {"what": "nobody ever wrote"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_decision_of_which_anything_was_changed_is_not(changed: dict[str, object]) -> None:
    assert not evidence(PERMIT).knows({**KEPT, **changed})


def test_that_all_ai_was_refused_can_not_be_taken_away() -> None:
    kept = DENY.as_json("infer", AT)

    del kept["ai_refused"]

    assert not evidence(DENY).knows(kept)
