"""Every step's AuditEvent is valid R4, of BALP's shape, and tells what is stored beside it."""

import base64
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_args

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fhir.resources.R4B.auditevent import AuditEvent
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import audit, balp, ledger
from gateway.core.audit import AgentKind, AuditAgent, AuditedModel, AuditRecord, Outcome, Step
from gateway.core.consent import ConsentDecision
from gateway.core.consent.decision import Obligation
from gateway.core.fhir import parse_resource

BALP_EXAMPLES = Path(__file__).resolve().parents[4] / ".." / "shared" / "data" / "ihe-balp"
PATIENT = "ab" * 32
SHA256 = "cd" * 32
SOURCE = audit.Source("district-hospital", "api", "https://nadi.local/fhir")
EHR_CLIENT = AuditAgent("c1", "City EHR", AgentKind.CLIENT, role="ehr", address="10.0.0.7")
EHR_SERVER = AuditAgent("ehr", "City EHR", AgentKind.SERVER, address="https://ehr.local/fhir")
RESULT = audit.DeliveredResult("o1", "RiskAssessment", "without Media")
OFFICER = AuditAgent("c2", "Officer", AgentKind.USER, role="compliance", purpose="HOPERAT")
BROWSER = AuditAgent("c2", "Officer's browser", AgentKind.CLIENT, address="ward-3.local")
MODEL_USER = AuditAgent("ckd-risk@1", "ckd-risk@1", AgentKind.USER)
MODEL = AuditedModel("ckd-risk@1", SHA256, "onnxruntime 1.32.0", "avx2")
PERMIT = ConsentDecision(True, "TREAT", ("Consent/e1: permits TREAT.",), ("Consent/e1",))
DENY = ConsentDecision(False, "TREAT", ("Consent/e1: denies TREAT.",), ("Consent/e1",))
NO_CONSENT = ConsentDecision(False, "TREAT", ("No consent on record applies.",))

STEP = Step(
    id="a1",
    recorded=datetime(2026, 3, 1, 12, 30, 5, 123456, UTC),
    source=SOURCE,
    patient_key=PATIENT,
    job_id="j1",
    event_id="e1",
    request_id="r1",
)
BARE = Step(id="a2", recorded=STEP.recorded, source=audit.Source("site", "relay"))
FAILED = dataclasses.replace(STEP, outcome=Outcome.SERIOUS_FAILURE, reason="The EHR said no.")


def catalogue() -> dict[str, AuditRecord]:
    """Give one record of every builder and of every branch in it."""
    records: dict[str, AuditRecord] = {}
    for name, step in {"full": STEP, "bare": BARE, "failed": FAILED}.items():
        made = {
            "receive create": audit.received(
                step, sender=EHR_CLIENT, resource_type="Observation", sha256=SHA256
            ),
            "receive update": audit.received(
                step, sender=EHR_CLIENT, resource_type="Patient", sha256=SHA256, is_update=True
            ),
            "receive unreadable": audit.received(
                step, sender=EHR_CLIENT, resource_type="", sha256=SHA256
            ),
            "consent permit": audit.consent_decided(step, PERMIT, stage="infer", user=MODEL_USER),
            "consent deny": audit.consent_decided(step, DENY, stage="admit", user=MODEL_USER),
            "consent none": audit.consent_decided(step, NO_CONSENT, stage="admit", user=EHR_SERVER),
            "infer": audit.inferred(step, model=MODEL, inputs=["k1", "k2"], result="o1"),
            "infer refused": audit.inferred(step, model=MODEL, inputs=[]),
            "deliver": audit.delivered(
                step, ehr=EHR_SERVER, result=RESULT, http_status=201, attempt=1
            ),
            "deliver nothing": audit.delivered(
                step, ehr=EHR_SERVER, result=RESULT, http_status=None, attempt=2
            ),
            "read": audit.was_read(
                step, agents=[BROWSER, OFFICER], resource_type="Task", resource="t1"
            ),
            "query": audit.queried(
                step, agents=[BROWSER, OFFICER], query="GET /fhir/AuditEvent?patient=ab"
            ),
            "query by a command": audit.queried(
                step, agents=[OFFICER], query="AuditEvent?patient=ab"
            ),
            "fetch": audit.fetched(step, ehr=EHR_SERVER, query="GET Observation?patient=ab"),
            "sign-in": audit.sign_in_failed(step, client=BROWSER),
            "forbid": audit.forbidden(step, client=EHR_CLIENT, permission="read-audit"),
            "configure": audit.configured(step, by=OFFICER, version=3, sha256=SHA256),
            "credential add": audit.credential_changed(
                step, by=OFFICER, credential_id="c3", role="ehr", is_added=True
            ),
            "credential revoke": audit.credential_changed(
                step, by=OFFICER, credential_id="c3", role="ehr", is_added=False
            ),
            "model register": audit.model_changed(
                step, by=OFFICER, model="m@1.0.0", details={"sha256": SHA256}, is_added=True
            ),
            "model retire": audit.model_changed(
                step, by=OFFICER, model="m@1.0.0", details={"sha256": SHA256}, is_added=False
            ),
            "by a person": audit.job_changed(
                step, "cancel", state="cancelled", business_status="stopped", by=OFFICER
            ),
        }
        for event in get_args(audit.JobEvent):
            made[event] = audit.job_changed(
                step, event, state="ready", business_status="queued", details={"route": "ckd"}
            )
        for event in get_args(audit.OtherEvent):
            made[event] = audit.noted(step, event, agents=[OFFICER], details={"why": "drill"})
            made[f"{event} plain"] = audit.noted(step, event)
        records |= {f"{kind}, {name}": record for kind, record in made.items()}
    return records


RECORDS = catalogue()
each_record = pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())


def body_of(record: AuditRecord) -> Any:
    return json.loads(record.body)


def codes(agents_or_entities: list[Any]) -> list[tuple[str, str]]:
    """Give (system, code) of the types of agents or entities."""
    found = []
    for item in agents_or_entities:
        coding = item["type"].get("coding", [item["type"]])[0]
        found.append((coding["system"], coding["code"]))
    return found


@each_record
def test_every_event_is_valid_r4(record: AuditRecord) -> None:
    assert parse_resource(record.body).type == "AuditEvent"
    AuditEvent.model_validate_json(record.body)


@each_record
def test_every_event_tells_what_the_store_keeps_beside_it(record: AuditRecord) -> None:
    assert audit.read_record(record.body) == record


@each_record
def test_every_body_is_canonical_json(record: AuditRecord) -> None:
    canonical = json.dumps(
        body_of(record), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )

    assert record.body == canonical.encode()


@each_record
def test_every_event_names_a_patient_by_keyed_hash_only(record: AuditRecord) -> None:
    patients = [
        entity["what"]
        for entity in body_of(record).get("entity", [])
        if entity["type"].get("code") == "1"
    ]

    identifier = {"system": "https://nadi.health/fhir/sid/patient-key", "value": PATIENT}
    expected = [{"identifier": identifier, "type": "Patient"}] if record.patient_key else []
    assert patients == expected


def balp_examples() -> dict[str, list[Any]]:
    """Give the published examples by the profile they claim."""
    found: dict[str, list[Any]] = {}
    for file in sorted(BALP_EXAMPLES.glob("*.json")):
        example = json.loads(file.read_text())
        for profile in example["meta"]["profile"]:
            found.setdefault(profile, []).append(example)
    return found


EXAMPLES = balp_examples()
PROFILED = {
    name: record for name, record in RECORDS.items() if "profile" in body_of(record).get("meta", {})
}


@pytest.mark.skipif(not EXAMPLES, reason="no BALP examples beside the repository")
@pytest.mark.parametrize("record", PROFILED.values(), ids=PROFILED.keys())
def test_what_claims_a_balp_profile_has_the_shape_of_its_published_examples(
    record: AuditRecord,
) -> None:
    body = body_of(record)
    examples = EXAMPLES[body["meta"]["profile"][0]]
    sample = examples[0]

    assert {k: body["type"][k] for k in ("system", "code")} == {
        k: sample["type"][k] for k in ("system", "code")
    }
    subtypes = [subtype["code"] for example in examples for subtype in example["subtype"]]
    assert body["subtype"][0]["code"] in subtypes
    assert body["subtype"][0]["system"] == sample["subtype"][0]["system"]
    assert body["action"] == sample["action"]
    assert body["outcome"] in {example["outcome"] for example in examples}
    machines = {code for code in codes(sample["agent"]) if "DCM" in code[0]}
    ours = codes(body["agent"])
    assert machines <= set(ours)
    assert set(ours) <= {code for example in examples for code in codes(example["agent"])}
    assert len(ours) == len(set(ours))
    shared = {code for code in codes(sample["entity"]) if code[1] != "XrequestId"}
    assert shared <= set(codes(body["entity"]))


@pytest.mark.skipif(not EXAMPLES, reason="no BALP examples beside the repository")
def test_every_balp_profile_that_fits_a_gateway_is_used() -> None:
    base = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
    claimed = {body_of(record)["meta"]["profile"][0] for record in PROFILED.values()}

    names = ("Create", "Update", "Read", "Query")
    expected = {f"{base}{prefix}{name}" for name in names for prefix in ("", "Patient")}
    assert claimed == {*expected, f"{base}AuthZconsent"}


@pytest.mark.parametrize("record", PROFILED.values(), ids=PROFILED.keys())
def test_balp_agents_say_who_they_are_and_only_machines_have_a_network(
    record: AuditRecord,
) -> None:
    for agent in body_of(record)["agent"]:
        is_machine = agent["type"]["coding"][0]["system"] == balp.DCM
        assert agent["who"]["identifier"]["value"]
        assert ("network" in agent) is is_machine
        assert agent["requestor"] is ("name" in agent)


@pytest.mark.parametrize("kind", ["permit", "deny"])
def test_a_consent_decision_holds_nothing_but_patient_and_consents(kind: str) -> None:
    body = body_of(RECORDS[f"consent {kind}, full"])

    patient, consent = body["entity"]
    assert codes([patient, consent])[1] == ("http://hl7.org/fhir/resource-types", "Consent")
    assert consent["what"] == {"reference": "Consent/e1"}
    assert {d["type"]: d["valueString"] for d in patient["detail"]} == {
        "job": "j1",
        "event": "e1",
        "request": "r1",
        "stage": "infer" if kind == "permit" else "admit",
        "purpose": "TREAT",
        "basis": "none",
    }
    observer = body["source"]["observer"]
    assert body["agent"][-1]["who"] == observer


def test_what_a_consent_decision_rests_on_and_demands_is_on_record() -> None:
    demanded = (Obligation("REDACT", "Consent/e1", "provision.provision[0]", "labels in words"),)
    permit = dataclasses.replace(PERMIT, basis="consent", obligations=demanded)
    refusal = dataclasses.replace(DENY, is_ai_refused=True)

    permitted, refused = (
        body_of(audit.consent_decided(STEP, each, stage="infer", user=MODEL_USER))
        for each in (permit, refusal)
    )

    facts = {d["type"]: d["valueString"] for d in permitted["entity"][0]["detail"]}
    assert facts["basis"] == "consent"
    assert facts["obligations"] == "REDACT Consent/e1 provision.provision[0]"
    assert {"type": "ai-refused", "valueString": "true"} in refused["entity"][0]["detail"]


def test_a_permit_succeeds_and_a_denial_fails_with_its_reason() -> None:
    permit, deny = RECORDS["consent permit, full"], RECORDS["consent deny, full"]

    assert (permit.outcome, deny.outcome) == ("0", "8")
    assert body_of(deny)["outcomeDesc"] == "Consent/e1: denies TREAT."


def test_a_denial_for_want_of_a_consent_claims_no_profile() -> None:
    assert "meta" not in body_of(RECORDS["consent none, full"])


def test_a_failed_interaction_claims_no_profile_and_says_why() -> None:
    body = body_of(RECORDS["deliver, failed"])

    assert "meta" not in body
    assert (body["outcome"], body["outcomeDesc"]) == ("8", "The EHR said no.")


def test_we_serve_who_calls_and_call_who_serves() -> None:
    source, destination = "110153", "110152"

    served = [code for _, code in codes(body_of(RECORDS["receive create, full"])["agent"])]
    called = [code for _, code in codes(body_of(RECORDS["deliver, full"])["agent"])]

    assert served == [source, destination]
    assert called == [destination, source]


def test_what_was_refused_before_it_had_an_id_is_named_by_its_hash() -> None:
    step = dataclasses.replace(BARE, outcome=Outcome.MINOR_FAILURE, reason="structure")

    record = audit.received(step, sender=EHR_CLIENT, resource_type="", sha256=SHA256)

    assert record.event_id is None
    what = body_of(record)["entity"][0]["what"]
    assert what == {"identifier": {"system": audit_system("payload-sha256"), "value": SHA256}}


def audit_system(name: str) -> str:
    return f"https://nadi.health/fhir/sid/{name}"


def test_an_inference_names_model_runtime_kernels_and_inputs() -> None:
    entities = body_of(RECORDS["infer, full"])["entity"]

    told = {d["type"]: d["valueString"] for e in entities for d in e.get("detail", ())}
    inputs = [d["valueString"] for d in entities[-1]["detail"]]
    assert told | {"input": ""} == {
        "event": "e1",
        "result": "o1",
        "sha256": SHA256,
        "runtime": "onnxruntime 1.32.0",
        "kernel-class": "avx2",
        "input": "",
    }
    assert inputs == ["k1", "k2"]


def test_a_query_is_kept_as_base64() -> None:
    entity = body_of(RECORDS["query, full"])["entity"][-1]

    assert base64.b64decode(entity["query"]) == b"GET /fhir/AuditEvent?patient=ab"
    assert set(entity) == {"type", "role", "query"}


def test_a_change_of_a_job_tells_the_state_for_a_verifier_to_compare() -> None:
    task = body_of(RECORDS["admit, full"])["entity"][-1]

    assert task["what"]["identifier"] == {"system": audit_system("job"), "value": "j1"}
    told = {d["type"]: d["valueString"] for d in task["detail"]}
    assert told == {
        "event": "e1",
        "state": "ready",
        "business-status": "queued",
        "route": "ckd",
    }


def test_a_refused_sign_in_is_a_failure_even_where_the_step_does_not_say_so() -> None:
    assert RECORDS["sign-in, full"].outcome == "4"
    assert RECORDS["sign-in, failed"].outcome == "8"
    assert RECORDS["forbid, bare"].outcome == "8"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.7", {"address": "10.0.0.7", "type": "2"}),
        ("fe80::1", {"address": "fe80::1", "type": "2"}),
        ("ward-3.local", {"address": "ward-3.local", "type": "1"}),
        ("https://ehr.local/fhir", {"address": "https://ehr.local/fhir", "type": "5"}),
    ],
)
def test_an_address_is_told_with_its_kind(address: str, network: dict[str, str]) -> None:
    client = dataclasses.replace(BROWSER, address=address)

    body = body_of(audit.sign_in_failed(STEP, client=client))

    assert body["agent"][0]["network"] == network


def test_an_unknown_address_is_said_to_be_unknown() -> None:
    network = body_of(RECORDS["infer, bare"])["agent"][0]["network"]

    assert network["_address"]["extension"][0]["valueCode"] == "unknown"


def test_a_time_is_kept_in_utc_to_the_millisecond() -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    step = dataclasses.replace(STEP, recorded=datetime(2026, 3, 1, 1, 0, 0, 123999, india))

    record = audit.noted(step, "note")

    assert record.recorded == datetime(2026, 2, 28, 19, 30, 0, 123000, UTC)
    assert body_of(record)["recorded"] == "2026-02-28T19:30:00.123Z"


_ids = st.text("abcdefghij0123456789-.", min_size=1, max_size=20)
_texts = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=20)


@given(
    step=st.builds(
        Step,
        id=_ids,
        recorded=st.datetimes(min_value=datetime(1990, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis adds the zone
        source=st.just(SOURCE),
        patient_key=st.none() | _ids,
        job_id=st.none() | _ids,
        event_id=st.none() | _ids,
        request_id=st.none() | _ids,
        outcome=st.sampled_from(Outcome),
        reason=_texts,
    ),
    name=st.sampled_from(["receive", "consent", "infer", "deliver", "query", "admit", "note"]),
)
def test_any_event_reads_back_as_its_record(step: Step, name: str) -> None:
    builders = {
        "receive": lambda: audit.received(
            step, sender=EHR_CLIENT, resource_type="Observation", sha256=SHA256
        ),
        "consent": lambda: audit.consent_decided(step, DENY, stage="admit", user=MODEL_USER),
        "infer": lambda: audit.inferred(step, model=MODEL, inputs=["k1"], result=None),
        "deliver": lambda: audit.delivered(
            step, ehr=EHR_SERVER, result=RESULT, http_status=201, attempt=1
        ),
        "query": lambda: audit.queried(step, agents=[BROWSER], query=step.reason),
        "admit": lambda: audit.job_changed(step, "admit", state="ready", business_status=""),
        "note": lambda: audit.noted(step, "note", details={"why": step.reason}),
    }

    record = builders[name]()

    assert audit.read_record(record.body) == record


def test_further_facts_are_not_taken_for_the_ids_of_the_step() -> None:
    facts = {"job": "other", "event": "other"}

    records = [
        audit.noted(STEP, "note", details=facts),
        audit.noted(BARE, "note", details=facts),
        audit.job_changed(STEP, "retry", state="ready", business_status="queued", details=facts),
        audit.job_changed(BARE, "retry", state="ready", business_status="queued", details=facts),
    ]

    assert [audit.read_record(record.body) for record in records] == records


def test_facts_that_are_empty_are_left_out() -> None:
    record = audit.noted(BARE, "note", details={"why": ""})

    assert "entity" not in body_of(record)
    assert parse_resource(record.body).type == "AuditEvent"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="not an object"),
        pytest.param(b"{}", id="nothing in it"),
        pytest.param(RECORDS["admit, full"].body[:-1], id="cut short"),
        pytest.param(RECORDS["admit, full"].body + b" ", id="a space more"),
        pytest.param(RECORDS["admit, full"].body.replace(b"03-01T", b"13-01T"), id="no such month"),
        pytest.param(b'{"entity":["x"]}', id="entity is a text"),
        pytest.param(b"\xff", id="not UTF-8"),
    ],
)
def test_bytes_that_we_never_wrote_are_refused(body: bytes) -> None:
    with pytest.raises(audit.AuditEventMalformed):
        audit.read_record(body)


def outsiders_program() -> str:
    """Give the program that docs/audit.md offers to auditors."""
    page = Path(__file__).resolve().parents[4] / "docs" / "audit.md"
    return page.read_text(encoding="utf-8").split("```python\n")[2].split("```")[0]


@pytest.mark.parametrize("blank", ["", "\n"], ids=["as it is", "with a blank line more"])
@pytest.mark.parametrize(
    ("spoil", "verdict"),
    [
        pytest.param(lambda lines: lines, 0, id="untouched"),
        pytest.param(lambda lines: [*lines, b"{}"], 0, id="grown"),
        pytest.param(lambda lines: lines[:-1], 1, id="cut"),
        pytest.param(lambda lines: [*lines[1:], lines[0]], 1, id="moved"),
        pytest.param(lambda lines: [b"{}", *lines[1:]], 1, id="changed"),
    ],
)
def test_the_program_of_the_documentation_verifies_a_log(
    tmp_path: Path, spoil: Callable[[list[bytes]], list[bytes]], verdict: int, blank: str
) -> None:
    bodies = [record.body for record in RECORDS.values()]
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    frontier = ledger.Frontier().extend(map(ledger.leaf_hash, bodies))
    checkpoint = ledger.Checkpoint("hospital/audit", len(bodies), ledger.root(frontier))
    events, note, public = (tmp_path / name for name in ("events", "note", "public"))
    events.write_bytes(b"\n".join(spoil(bodies)) + b"\n" + blank.encode())
    note.write_text(blank + ledger.sign_checkpoint(key, checkpoint) + blank, encoding="utf-8")
    public.write_text(ledger.verifier_key("hospital/audit", key.public_key()), encoding="utf-8")

    run = subprocess.run(
        [sys.executable, "-c", outsiders_program(), events, note, public],
        capture_output=True,
        check=False,
    )

    assert run.returncode == verdict, run.stderr
