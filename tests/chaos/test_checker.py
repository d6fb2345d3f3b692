"""The checker finds what it is there for: each invariant is shown a spoilt outcome."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.checker import INVARIANTS, MARKER, RESULT_SYSTEM, check
from tests.chaos.evidence import TABLES, Evidence
from tests.chaos.expected import Acknowledged, Expected

Row = dict[str, Any]
Spoil = Callable[[Evidence], Evidence]


def a_lawful_outcome() -> Evidence:
    """Four patients: one result, one refused, one without a route, one who withdrew in between."""
    events = [_event(n) for n in ("one", "none", "other", "maybe", "consent")]
    jobs = [_job("one", "completed"), _job("none", "rejected"), _job("maybe", "cancelled")]
    deliveries = [_delivery("one", "delivered"), _delivery("maybe", "cancelled")]
    audit = [
        *(_audit("receive", of=row["id"]) for row in events),
        _audit("admit", job="one", state="ready"),
        _audit("rescue", job="one", state="ready"),
        _audit("deliver", job="one", outcome="4"),
        _audit("deliver", job="one"),
        _audit("complete", job="one", state="completed"),
        _audit("refuse", job="none", state="rejected"),
        _audit("admit", job="maybe", state="ready"),
        _audit("cancel", job="maybe", state="cancelled"),
    ]
    numbered = [{**row, "seq": seq} for seq, row in enumerate(audit, 1)]
    return Evidence(
        acknowledged=[
            _acknowledged("one", Expected.ONE),
            _acknowledged("none", Expected.NONE),
            _acknowledged("other", Expected.NO_JOB),
            _acknowledged("maybe", Expected.MAYBE),
            Acknowledged("event-consent", "maybe", Expected.NO_JOB),
        ],
        answers={"Observation/one/1": {"event-one"}, "Observation/none/1": {"event-none"}},
        tables={
            "events": events,
            "jobs": jobs,
            "deliveries": deliveries,
            "patient_keys": [
                {"patient_key": f"key-{n}"} for n in ("one", "none", "other", "maybe")
            ],
            "audit_events": numbered,
            "audit_leaves": [
                {"leaf_index": n, "audit_seq": row["seq"]} for n, row in enumerate(numbered)
            ],
        },
        ehr=[_result("one"), _provenance("one"), _marker("maybe")],
        texts={"api.log": b"event stored job_id=1"},
        marks=[b"qz123456"],
        files=["nadi.db", "nadi.db-wal", "logs/api.log", "run/nadi.lock", "keys/master.key"],
    )


def _event(name: str) -> Row:
    key = "key-maybe" if name == "consent" else f"key-{name}"
    return {"id": f"event-{name}", "resource_type": "Observation", "patient_key": key}


def _job(name: str, state: str) -> Row:
    return {
        "id": f"job-{name}",
        "event_id": f"event-{name}",
        "state": state,
        "business_status": "",
        "lease_owner": None,
    }


def _delivery(name: str, state: str) -> Row:
    return {
        "id": f"delivery-{name}",
        "job_id": f"job-{name}",
        "identifier": f"result-{name}",
        "state": state,
        "lease_owner": None,
    }


def _audit(event: str, **about: str) -> Row:
    detail = [{"type": "state", "valueString": about["state"]}] if "state" in about else []
    return {
        "event": event,
        "outcome": about.get("outcome", "0"),
        "job_id": f"job-{about['job']}" if "job" in about else None,
        "event_id": about.get("of"),
        "body": json.dumps({"entity": [{"detail": detail}]}).encode(),
    }


def _acknowledged(name: str, expected: Expected) -> Acknowledged:
    return Acknowledged(f"event-{name}", name, expected)


def _result(name: str, *, at: str = "", of: str = "") -> Row:
    resource = {
        "id": f"obs-{name}{at}",
        "identifier": [{"system": RESULT_SYSTEM, "value": f"result-{name}"}],
        "subject": {"reference": f"Patient/{of or name}"},
    }
    return {"type": "Observation", "id": resource["id"], "version": 1, "resource": resource}


def _provenance(name: str) -> Row:
    resource = {"target": [{"reference": f"Observation/obs-{name}/_history/1"}]}
    return {"type": "Provenance", "id": f"p-{name}", "version": 1, "resource": resource}


def _marker(name: str) -> Row:
    return {"type": "Basic", "id": f"{MARKER}{name}", "version": 1, "resource": {"id": name}}


def without(table: str, **wanted: object) -> Spoil:
    """Lose the rows of a table that have these values."""

    def spoil(evidence: Evidence) -> Evidence:
        kept = [row for row in evidence.tables[table] if not wanted.items() <= row.items()]
        return replace(evidence, tables={**evidence.tables, table: kept})

    return spoil


def having(table: str, key: str, **changed: object) -> Spoil:
    """Change the row of a table whose first column has a value."""

    def spoil(evidence: Evidence) -> Evidence:
        rows = [
            {**row, **changed} if next(iter(row.values())) == key else row
            for row in evidence.tables[table]
        ]
        return replace(evidence, tables={**evidence.tables, table: rows})

    return spoil


def more(table: str, row: Mapping[str, object]) -> Spoil:
    """Add a row to a table."""

    def spoil(evidence: Evidence) -> Evidence:
        return replace(evidence, tables={**evidence.tables, table: [*evidence.tables[table], row]})

    return spoil


def in_ehr(*rows: Row) -> Spoil:
    """Write more into the EHR."""
    return lambda evidence: replace(evidence, ehr=[*evidence.ehr, *rows])


def changed(**fields: Any) -> Spoil:
    return lambda evidence: replace(evidence, **fields)


def deleted(kind: str, name: str) -> Row:
    return {"type": kind, "id": name, "version": 2, "resource": None}


KEPT = "acknowledged events are kept once"
ANSWERS = "answers are 2xx or come again"
TERMINAL = "one final state"
RESULT = "one result where permitted, none elsewhere"
ELSE = "nothing else in the EHR"
WITHDRAWN = "nothing after a withdrawal"
AUDITED = "every change is audited"
LEDGER = "the ledger verifies"
ORPHANS = "no orphans"
HELD = "nothing held or waiting"
PRIVATE = "no patient value outside"

SPOILT: dict[str, tuple[str, Spoil]] = {
    "an acknowledged event is lost": (KEPT, without("events", id="event-one")),
    "an event is stored twice": (KEPT, more("events", _event("one"))),
    "a repeat became an event of its own": (
        KEPT,
        changed(answers={"Observation/one/1": {"event-one", "event-two"}}),
    ),
    "a sender got a 500": (ANSWERS, changed(strange=["1 times 500 to PUT"])),
    "an event has no job": (TERMINAL, without("jobs", id="job-none")),
    "an event has two jobs": (TERMINAL, more("jobs", {**_job("one", "completed"), "id": "job-2"})),
    "an event that no route wants has a job": (TERMINAL, more("jobs", _job("other", "rejected"))),
    "a job hangs": (TERMINAL, having("jobs", "job-none", state="in-progress")),
    "a result was never written": (RESULT, changed(ehr=[])),
    "a result is gone from the EHR": (RESULT, in_ehr(deleted("Observation", "obs-one"))),
    "a result was written twice": (RESULT, in_ehr(_result("one", at="again"))),
    "who was refused has a result": (RESULT, in_ehr(_result("none"))),
    "a result is about another patient": (RESULT, changed(ehr=[_result("one", of="none")])),
    "one identifier is in the EHR twice": (ELSE, in_ehr(_result("one", at="again"))),
    "nobody knows of a result": (ELSE, in_ehr(_result("stranger"), _provenance("stranger"))),
    "a job says completed too early": (ELSE, changed(ehr=[_marker("maybe")])),
    "a Provenance is missing": (ELSE, changed(ehr=[_result("one")])),
    "a Provenance is there twice": (ELSE, in_ehr({**_provenance("one"), "id": "p-2"})),
    "a result came after the withdrawal": (WITHDRAWN, in_ehr(_result("maybe"))),
    "a receipt is not audited": (AUDITED, without("audit_events", event_id="event-other")),
    "an ending is not audited": (AUDITED, without("audit_events", event="complete")),
    "an ending is audited twice": (
        AUDITED,
        more("audit_events", {**_audit("complete", job="one", state="completed"), "seq": 99}),
    ),
    "a final state was left": (
        AUDITED,
        more("audit_events", {**_audit("rescue", job="none", state="ready"), "seq": 99}),
    ),
    "a job was changed behind the log": (AUDITED, having("jobs", "job-none", state="cancelled")),
    "a job was never audited": (
        AUDITED,
        without("audit_events", job_id="job-none"),
    ),
    "a delivery is not audited": (
        AUDITED,
        without("audit_events", event="deliver", outcome="0"),
    ),
    "a delivery is audited twice": (
        AUDITED,
        more("audit_events", {**_audit("deliver", job="one"), "seq": 99}),
    ),
    "the verification fails": (LEDGER, changed(verified=(1, "leaf 7 was changed"))),
    "an AuditEvent has no place": (LEDGER, without("audit_leaves", audit_seq=13)),
    "the log has a gap": (LEDGER, without("audit_leaves", leaf_index=3)),
    "a job has lost its event": (ORPHANS, without("events", id="event-none")),
    "a delivery has lost its job": (ORPHANS, without("jobs", id="job-maybe")),
    "a patient's key is gone": (ORPHANS, without("patient_keys", patient_key="key-none")),
    "a process outlived the stop": (ORPHANS, changed(processes=["python -m workers.relay"])),
    "a stranger's file was left": (ORPHANS, changed(files=["core.1234"])),
    "a copy of the database was left": (ORPHANS, changed(files=["nadi.db-before"])),
    "a draft was left": (ORPHANS, changed(files=["credentials/ehr.draft"])),
    "a lease is still held": (HELD, having("jobs", "job-none", lease_owner="infer@vm")),
    "a delivery still waits": (HELD, having("deliveries", "delivery-maybe", state="pending")),
    "a name stands in a log": (PRIVATE, changed(texts={"api.log": b"Given qz123456"})),
}


def test_a_lawful_outcome_has_no_violation() -> None:
    assert check(a_lawful_outcome()) == []


@pytest.mark.parametrize(("invariant", "spoil"), SPOILT.values(), ids=SPOILT.keys())
def test_a_spoilt_outcome_is_found(invariant: str, spoil: Spoil) -> None:
    found = {each.invariant for each in check(spoil(a_lawful_outcome()))}

    assert invariant in found


def test_a_result_may_lack_its_provenance_where_a_withdrawal_came_between_both() -> None:
    ehr = [_result("one"), _provenance("one"), _result("maybe"), _marker("maybe")]

    assert check(changed(ehr=ehr)(a_lawful_outcome())) == []


def test_a_failed_verification_is_told_without_its_warnings() -> None:
    said = "✗ leaf 7 was changed\n" + "! the clock was set back\n" * 1000

    (found,) = check(changed(verified=(1, said))(a_lawful_outcome()))

    assert "leaf 7 was changed" in found.what
    assert "clock" not in found.what


def test_every_invariant_has_a_spoilt_outcome() -> None:
    assert {invariant for invariant, _ in SPOILT.values()} == INVARIANTS.keys()


def test_the_lawful_outcome_has_every_column_that_is_read() -> None:
    tables = a_lawful_outcome().tables

    for table, columns in TABLES.items():
        assert all(set(row) == set(columns.split(", ")) for row in tables[table]), table


def test_many_breaches_of_one_invariant_are_told_in_few_lines() -> None:
    evidence = replace(a_lawful_outcome(), strange=[f"answer {n}" for n in range(100)])

    found = [each for each in check(evidence) if each.invariant == ANSWERS]

    assert len(found) == 21
    assert found[-1].what == "and 80 more"
