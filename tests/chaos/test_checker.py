"""The checker finds what it is there for: each invariant is shown a spoilt outcome."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.case import RESULT_SYSTEM
from tests.chaos.checker import INVARIANTS, check
from tests.chaos.evidence import TABLES, Evidence
from tests.chaos.expected import MARK, Acknowledged, Expected
from tests.simulators import SIMULATORS

AT = "2026-11-26T08:00:00+05:30"
LOST = "meta.security, identifier, device, note, method, text, interpretation, derivedFrom"
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
    told = {"id": f"event-{name}", "resource_type": "Observation", "patient_key": key}
    return {**told, "effective_ms": None}


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
        "attempt": 1,
        "rung": "observation" if state == "delivered" else "",
        "lost": "",
    }


def _audit(event: str, **about: str) -> Row:
    told = ("state", "lost", "changed")
    detail = [{"type": name, "valueString": about[name]} for name in told if name in about]
    return {
        "event": event,
        "outcome": about.get("outcome", "0"),
        "job_id": f"job-{about['job']}" if "job" in about else None,
        "event_id": about.get("of"),
        "body": json.dumps({"entity": [{"detail": detail}]}).encode(),
    }


def _acknowledged(name: str, expected: Expected) -> Acknowledged:
    return Acknowledged(f"event-{name}", name, expected, AT)


def _result(name: str, *, at: str = "", of: str = "", without: str = "", **more: Any) -> Row:
    resource = {
        "resourceType": "Observation",
        "id": f"obs-{name}{at}",
        "meta": {"security": [{"code": "AIAST"}]},
        "identifier": [{"system": RESULT_SYSTEM, "value": f"result-{name}"}],
        "subject": {"reference": f"Patient/{of or name}"},
        # Another spelling of the same instant.
        "effectiveDateTime": "2026-11-26T02:30:00Z",
        "valueQuantity": {"value": 0.5},
        "device": {"reference": "Device/1"},
        **dict.fromkeys(("note", "method", "text", "interpretation", "derivedFrom"), "told"),
        **more,
    }
    for dropped in filter(None, without.split(", ")):
        resource.pop(dropped.partition(".")[0])
    return {"type": "Observation", "id": resource["id"], "version": 1, "resource": resource}


def _provenance(name: str) -> Row:
    resource = {"target": [{"reference": f"Observation/obs-{name}/_history/1"}]}
    return {"type": "Provenance", "id": f"p-{name}", "version": 1, "resource": resource}


def _marker(name: str) -> Row:
    resource = {"subject": {"reference": f"Patient/{name}"}}
    return {"type": MARK, "id": f"mark-{name}", "version": 1, "resource": resource}


def where_nothing_but_the_value_is_kept() -> Evidence:
    """The lawful outcome at an EHR that drops identifiers and every label."""
    lawful = a_lawful_outcome()
    words = {"valueString": "AI, preliminary: high, 73 %"}
    audit = [
        {**_audit("deliver", job="one", lost=LOST, changed="value as text"), "seq": row["seq"]}
        if row["event"] == "deliver" and row["outcome"] == "0"
        else row
        for row in lawful.tables["audit_events"]
    ]
    deliveries = [{**_delivery("one", "delivered"), "lost": LOST}, _delivery("maybe", "cancelled")]
    return replace(
        lawful,
        simulator=SIMULATORS["openmrs"],
        tables={**lawful.tables, "audit_events": audit, "deliveries": deliveries},
        ehr=[_result("one", without=f"{LOST}, valueQuantity", **words), _marker("maybe")],
    )


def where_no_result_is_taken() -> Evidence:
    """The lawful outcome at an EHR that takes no result: it is on Nadi's worklist."""
    lawful = a_lawful_outcome()
    audit = [
        {**row, "outcome": "4"} if row["event"] == "deliver" else row
        for row in lawful.tables["audit_events"]
    ]
    deliveries = [
        {**_delivery("one", "delivered"), "rung": "worklist"},
        _delivery("maybe", "cancelled"),
    ]
    return replace(
        lawful,
        simulator=SIMULATORS["care"],
        tables={**lawful.tables, "audit_events": audit, "deliveries": deliveries},
        worklist=[_result("one")["resource"]],
        ehr=[_marker("maybe")],
    )


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
ONCE = "written once"
TOLD = "what was dropped is told"
LEGIBLE = "a result says that an AI made it"

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
    "a result is there in a second form": (ELSE, in_ehr({**_result("one"), "type": "Task"})),
    "what nobody wrote is there": (ONCE, in_ehr(_result("none"))),
    "a dropped label is not told": (TOLD, changed(ehr=[_result("one", without="device")])),
    "a label is said to be dropped and is there": (
        TOLD,
        having("deliveries", "delivery-one", lost="device"),
    ),
    "a result does not say who made it": (
        LEGIBLE,
        changed(ehr=[_result("one", without="meta.security")]),
    ),
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


SPOILT_WITHOUT_IDENTIFIERS: dict[str, tuple[str, Spoil]] = {
    "a result is gone": (ONCE, changed(ehr=[])),
    "a result is there twice": (ONCE, in_ehr(_result("one", at="again", without=LOST))),
    "who was refused has a result": (RESULT, in_ehr(_result("none", without=LOST))),
    "a result is of another time": (
        RESULT,
        changed(ehr=[_result("one", without=LOST, effectiveDateTime="2026-11-26T09:00:00Z")]),
    ),
    "a result came after the withdrawal": (WITHDRAWN, in_ehr(_result("maybe", without=LOST))),
    "one loss is not told": (TOLD, having("deliveries", "delivery-one", lost="meta.security")),
    "a number does not say who made it": (LEGIBLE, changed(ehr=[_result("one", without=LOST)])),
    "a text is not told": (
        TOLD,
        having("audit_events", "deliver", body=_audit("deliver", lost=LOST)["body"]),
    ),
}


def test_what_is_lawful_at_an_ehr_that_drops_everything_has_no_violation() -> None:
    assert check(where_nothing_but_the_value_is_kept()) == []


@pytest.mark.parametrize(
    ("invariant", "spoil"),
    SPOILT_WITHOUT_IDENTIFIERS.values(),
    ids=SPOILT_WITHOUT_IDENTIFIERS.keys(),
)
def test_a_spoilt_outcome_is_found_without_identifiers_too(invariant: str, spoil: Spoil) -> None:
    found = {each.invariant for each in check(spoil(where_nothing_but_the_value_is_kept()))}

    assert invariant in found


def test_what_a_cancelled_delivery_may_have_written_is_no_violation() -> None:
    evidence = where_nothing_but_the_value_is_kept()
    words = {"valueString": "AI, preliminary: low, 3 %"}
    written = _result("maybe", without=f"{LOST}, valueQuantity", **words)

    assert check(changed(ehr=[written, *evidence.ehr])(evidence)) == []


def test_what_a_withdrawal_took_off_the_worklist_is_no_violation() -> None:
    lawful = where_no_result_is_taken()
    taken_off = [
        *(row for row in lawful.tables["audit_events"] if row["job_id"] != "job-maybe"),
        *(
            {**_audit(event, job="maybe", state=state), "seq": seq}
            for event, state, seq in (
                ("admit", "ready", 12),
                ("complete", "completed", 13),
                ("cancel", "cancelled", 14),
            )
        ),
    ]
    deliveries = [{**_delivery(name, "delivered"), "rung": "worklist"} for name in ("one", "maybe")]
    tables = {**lawful.tables, "audit_events": taken_off, "deliveries": deliveries}
    places = [{"leaf_index": n, "audit_seq": row["seq"]} for n, row in enumerate(taken_off)]

    assert check(changed(tables={**tables, "audit_leaves": places})(lawful)) == []
    assert AUDITED in {
        each.invariant
        for each in check(
            changed(tables={**tables, "audit_leaves": places}, simulator=SIMULATORS["generic"])(
                lawful
            )
        )
    }


def test_results_on_the_worklist_count_where_the_ehr_takes_none() -> None:
    lawful = where_no_result_is_taken()

    assert check(lawful) == []
    for worklist in ([], [_result("one")["resource"]] * 2, [_result("none")["resource"]]):
        assert RESULT in {each.invariant for each in check(changed(worklist=worklist)(lawful))}
    assert ELSE in {each.invariant for each in check(in_ehr(_result("one"))(lawful))}


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
