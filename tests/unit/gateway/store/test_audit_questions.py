"""The questions of a compliance officer, asked of a log with two patients on both databases."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from gateway.core import audit
from gateway.core.audit import AgentKind, AuditAgent, AuditedModel, DeliveredResult, Outcome
from gateway.core.clock import new_id, to_ms
from gateway.core.consent import ConsentDecision
from gateway.core.errors import NotFound
from gateway.core.working_hours import WorkingHours
from gateway.store.audit_questions import Asked, Named
from gateway.store.audit_search import AuditFilter, query_of
from gateway.store.unit_of_work import Store

START = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)  # a Monday
ANNA, BERTA = "a" * 64, "b" * 64
SOURCE = audit.Source("site", "api")
EHR = AuditAgent("cred-1", "the EHR", AgentKind.CLIENT, role="ehr")
DOCTOR = AuditAgent("cred-2", "Dr Rao", AgentKind.CLIENT, role="clinician")
MODEL = AuditedModel("ckd-risk@1.0.0", "d" * 64, "onnxruntime", "avx2")
AS_MODEL = AuditAgent("d" * 64, "ckd-risk@1.0.0", AgentKind.USER)
SINK = AuditAgent("ehr", "ehr", AgentKind.SERVER)
DENIED = "Consent/c7: denies TREAT."


@dataclass
class Trail:
    """Writes events, each a minute after the one before."""

    store: Store
    now: datetime = START

    def step(self, patient: str | None = ANNA, **more: object) -> audit.Step:
        self.now += timedelta(minutes=1)
        return audit.Step(
            id=new_id(), recorded=self.now, source=SOURCE, patient_key=patient, **more
        )

    def add(self, *records: audit.AuditRecord) -> None:
        with self.store.write() as uow:
            uow.audit(*records)

    def job(self, patient: str = ANNA, *, job: str, result: str) -> None:
        """One resource that comes, is used and whose result is written."""

        def step(**more: object) -> audit.Step:
            return self.step(patient, job_id=job, event_id=f"event-{job}", **more)

        def decided(stage: str, user: AuditAgent) -> audit.AuditRecord:
            decision = ConsentDecision(True, "TREAT", ("It permits TREAT.",), ("Consent/c1",))
            return audit.consent_decided(step(), decision, stage=stage, user=user)

        self.add(
            audit.received(
                self.step(patient, event_id=f"event-{job}"),
                sender=EHR,
                resource_type="Observation",
                sha256="0" * 64,
            ),
            decided("admit", AS_MODEL),
            audit.inferred(step(), model=MODEL, inputs=["input-1"], result=result),
            decided("deliver", SINK),
            audit.delivered(
                step(),
                ehr=SINK,
                result=DeliveredResult(result, "Observation"),
                http_status=201,
                attempt=1,
            ),
        )

    def denial(self, patient: str = BERTA, *, reason: str = DENIED, job: str = "j9") -> None:
        decision = ConsentDecision(False, "TREAT", (reason,), ("Consent/c7",))
        self.add(
            audit.consent_decided(
                self.step(patient, job_id=job), decision, stage="admit", user=AS_MODEL
            ),
            audit.job_changed(
                self.step(patient, job_id=job, outcome=Outcome.MINOR_FAILURE, reason=reason),
                "refuse",
                state="rejected",
                business_status="consent-denied",
            ),
        )

    def look(self, patient: str = ANNA, who: AuditAgent = DOCTOR) -> None:
        self.add(audit.queried(self.step(patient), agents=[who], query="Observation?patient-key=x"))


@pytest.fixture
def trail(store: Store) -> Trail:
    made = Trail(store)
    made.job(job="j1", result="r1")
    made.job(BERTA, job="j2", result="r2")
    made.denial()
    made.denial(reason="Consent/c8: denies TREAT.", job="j10")
    made.look()
    return made


def ask(trail: Trail, question: str, **asked: object):
    with trail.store.read() as uow:
        return getattr(uow.audit_questions, question)(Asked(**asked))


def told(rows: Sequence[dict[str, object]], name: str) -> list[object]:
    return [row.get(name) for row in rows]


def test_a_patients_trail_is_in_order_with_consent_and_result(trail: Trail) -> None:
    answer = ask(trail, "patient", patient_key=ANNA, limit=50)

    assert told(answer.rows, "event") == [
        *("receive", "consent", "infer", "consent", "deliver", "query")
    ]
    assert answer.rows[1]["consents"] == ["Consent/c1"]
    assert answer.rows[2]["result"] == answer.rows[4]["result"] == "r1"
    assert answer.rows[0]["what"] == "Observation"
    assert answer.patients == {ANNA}


def test_a_trail_is_given_in_pages_that_follow_each_other(trail: Trail) -> None:
    whole = told(ask(trail, "patient", patient_key=ANNA, limit=50).rows, "seq")
    seen: list[object] = []
    last = None
    while True:
        page = ask(trail, "patient", patient_key=ANNA, limit=2, before_seq=last)
        seen += told(page.rows, "seq")
        last = page.last_seq
        if last is None:
            break
        trail.look(BERTA)

    assert seen == whole


def test_a_trail_can_be_cut_to_a_span_of_time(trail: Trail) -> None:
    since, until = (to_ms(START + timedelta(minutes=n)) for n in (2, 4))

    cut = ask(trail, "patient", patient_key=ANNA, since_ms=since, until_ms=until)

    assert told(cut.rows, "event") == ["consent", "infer"]


def test_who_saw_a_patients_record_is_told_with_what_they_did(trail: Trail) -> None:
    groups = {line["who"]: line for line in ask(trail, "who", patient_key=ANNA).groups}

    assert groups["Dr Rao"]["did"] == ["searched it"]
    assert groups["Dr Rao"]["role"] == "clinician"
    assert groups["ckd-risk@1.0.0"]["did"] == ["computed with it"]
    assert groups["ehr"]["did"] == ["got a result"]
    assert groups["the EHR"]["times"] == 1
    assert set(groups) == {"Dr Rao", "ckd-risk@1.0.0", "ehr", "the EHR"}


def test_a_resource_that_never_came_is_not_known(trail: Trail) -> None:
    with pytest.raises(NotFound, match="never received"):
        ask(trail, "who", resource=Named("ehr", "Observation", "nowhere"))


def test_refusals_are_counted_by_reason_without_the_ids_of_consents(trail: Trail) -> None:
    answer = ask(trail, "refusals")

    [line] = answer.groups
    assert line["why"] == "Consent: denies TREAT."
    assert line["times"] == 2
    assert line["steps"] == {"consent": 2, "refuse": 2}
    assert answer.rows[0]["why"] == "Consent/c8: denies TREAT."


def test_one_denial_is_one_refusal_with_its_job_and_its_decision(trail: Trail) -> None:
    decisions = [
        row["id"]
        for row in ask(trail, "patient", patient_key=BERTA).rows
        if (row["event"], row["ended"]) == ("consent", "refused")
    ]

    rows = ask(trail, "refusals").rows

    assert told(rows, "event") == ["refuse", "refuse"]
    assert told(rows, "job") == ["j10", "j9"]
    assert told(rows, "decision") == decisions[::-1]


def test_a_denial_that_no_job_ended_by_is_told_too(trail: Trail) -> None:
    decision = ConsentDecision(False, "TREAT", (DENIED,), ("Consent/c7",))
    step = trail.step(ANNA, job_id="j1")
    trail.add(audit.consent_decided(step, decision, stage="deliver", user=AS_MODEL))

    rows = ask(trail, "refusals").rows

    assert told(rows, "event") == ["consent", "refuse", "refuse"]
    assert "decision" not in rows[0]


def test_what_gave_no_reason_is_counted_by_what_it_was(trail: Trail) -> None:
    for event in ("verify", "verify", "keys"):
        step = trail.step(None, outcome=audit.Outcome.SERIOUS_FAILURE)
        trail.add(audit.noted(step, event))

    found = [(line["steps"], line["times"]) for line in ask(trail, "refusals").groups]

    assert ({"verify": 2}, 2) in found
    assert ({"keys": 1}, 1) in found


def test_a_role_that_does_not_permit_is_a_reason_of_its_own(trail: Trail) -> None:
    client = AuditAgent("cred-9", "Ward", AgentKind.CLIENT, role="clinician")
    for permission in ("read-audit", "read-audit", "change-site"):
        trail.add(audit.forbidden(trail.step(None), client=client, permission=permission))

    found = {line["why"]: line["times"] for line in ask(trail, "refusals").groups}

    assert found["Role 'clinician' does not permit 'read-audit'."] == 2
    assert found["Role 'clinician' does not permit 'change-site'."] == 1


def test_a_refused_emergency_is_one_refusal_with_the_clinician(trail: Trail) -> None:
    glass = AuditAgent("cred-3", "Dr Iyer", AgentKind.USER, role="clinician", purpose="BTG")
    decision = ConsentDecision(False, "BTG", ("Consent/c9: refuses all AI.",), ("Consent/c9",))
    failed = trail.step(
        ANNA, outcome=audit.Outcome.SERIOUS_FAILURE, reason=" ".join(decision.reasons)
    )
    trail.add(
        audit.noted(failed, "break-glass", agents=[glass]),
        audit.consent_decided(replace(failed, id=new_id()), decision, stage="admit", user=glass),
    )

    answer = ask(trail, "refusals")

    assert told(answer.rows, "event") == ["break-glass", "refuse", "refuse"]
    assert answer.rows[0]["who"] == ["Dr Iyer"]
    [line] = [each for each in answer.groups if each["why"] == "Consent: refuses all AI."]
    assert line["times"] == 1


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_pages_of_refusals_tell_each_once(trail: Trail, limit: int) -> None:
    for job in ("j11", "j12"):
        trail.denial(job=job)
    seen, last = [], None
    while True:
        page = ask(trail, "refusals", limit=limit, before_seq=last)
        assert len(page.rows) <= limit
        seen += told(page.rows, "job")
        last = page.last_seq
        if last is None:
            break

    assert seen == ["j12", "j11", "j10", "j9"]


def test_refusals_of_another_time_are_not_counted(trail: Trail) -> None:
    assert ask(trail, "refusals", since_ms=to_ms(trail.now)).groups == []


def test_every_run_of_a_model_is_told_with_what_became_of_it(trail: Trail) -> None:
    rows = ask(trail, "results", model="ckd-risk@1.0.0").rows

    assert told(rows, "result") == ["r2", "r1"]
    assert told(rows, "written_to") == ["ehr", "ehr"]
    assert ask(trail, "results", model="ckd-risk@2.0.0").rows == []


def test_uses_of_break_glass_and_their_reviews_are_told(trail: Trail) -> None:
    glass = AuditAgent("cred-3", "Dr Iyer", AgentKind.USER, role="clinician", purpose="BTG")
    for job in ("j7", "j8"):
        step = trail.step(BERTA, reason="unconscious", job_id=job)
        trail.add(audit.noted(step, "break-glass", agents=[glass], details={"a": "b"}))
    second = AuditAgent("cred-4", "Dr Sen", AgentKind.USER, role="clinician")
    step, details = trail.step(BERTA, job_id="j7"), {"verdict": "justified"}
    trail.add(audit.noted(step, "break-glass-review", agents=[second], details=details))

    waiting, reviewed = ask(trail, "break_glass").rows

    assert reviewed["who"] == ["Dr Iyer"]
    assert reviewed["purpose"] == "BTG"
    assert reviewed["why"] == "unconscious"
    assert reviewed["facts"]["a"] == "b"
    assert (reviewed["review"]["verdict"], reviewed["review"]["by"]) == ("justified", ["Dr Sen"])
    assert waiting["review"] == {"state": "open"}


HOURS = WorkingHours(ZoneInfo("UTC"), frozenset(range(5)), time(8), time(18))


def test_accesses_outside_working_hours_are_told_and_no_others(trail: Trail) -> None:
    for hour in (7, 8, 17, 18, 23):
        trail.now = datetime(2026, 11, 24, hour, 30, tzinfo=UTC)
        trail.look()
    trail.now = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)  # a Saturday
    trail.look()

    rows = ask(trail, "out_of_hours", hours=HOURS).rows

    hours = [datetime.fromisoformat(str(row["recorded"])).hour for row in rows]
    assert hours == [12, 23, 18, 7]


def test_accesses_outside_working_hours_come_in_pages(trail: Trail) -> None:
    moment = datetime(2026, 11, 24, 22, 0, tzinfo=UTC)
    for number in range(7):
        trail.now = moment + timedelta(days=number // 3)
        same = trail.step()
        records = [
            audit.queried(
                audit.Step(id=new_id(), recorded=same.recorded, source=SOURCE),
                agents=[DOCTOR],
                query="x",
            )
            for _ in range(2)
        ]
        trail.add(*records)
    whole = told(ask(trail, "out_of_hours", hours=HOURS).rows, "seq")
    seen: list[object] = []
    last = None
    while last is not None or not seen:
        page = ask(trail, "out_of_hours", hours=HOURS, limit=3, before_seq=last)
        seen += told(page.rows, "seq")
        last = page.last_seq

    assert seen == whole
    assert len(seen) == 14


def test_changes_of_the_configuration_are_told_with_their_doer(trail: Trail) -> None:
    admin = AuditAgent("os-user:root", "root", AgentKind.USER, role="operator")
    trail.add(audit.configured(trail.step(None), by=admin, version=3, sha256="0" * 64))

    [row] = ask(trail, "configuration").rows

    assert row["who"] == ["root"]
    assert row["what"] == "site file, version 3"
    assert row["version"] == "3"


def test_disclosures_tell_to_whom_what_and_why(trail: Trail) -> None:
    looked, written = ask(trail, "disclosures", patient_key=ANNA).rows

    assert (looked["to"], looked["what"]) == (["Dr Rao"], "Observation")
    assert looked["why"] == "asked for it as clinician"
    assert (written["to"], written["purpose"]) == (["ehr"], "TREAT")
    assert written["why"] == "result of a model, purpose TREAT"


@pytest.mark.parametrize(
    ("wanted", "way"),
    [
        ({"patient_key": ANNA}, "ix_audit_events_patient (patient_key=?)"),
        ({"terms": ("agent:cred-2",)}, "audit_terms USING PRIMARY KEY (term=?)"),
        ({"agent": "Dr Rao", "event": "query"}, "ix_audit_events_rare (event=?)"),
        ({"agent": "ehr"}, "audit_terms USING PRIMARY KEY (term=?)"),
        ({"is_refused": True}, "ix_audit_events_refused"),
        ({"outcome": "8"}, "ix_audit_events_refused"),
        ({"event": "query"}, "ix_audit_events_rare (event=?)"),
        ({"event": "infer"}, "ix_audit_events_recorded_ms"),
        ({"since_ms": 5}, "ix_audit_events_recorded_ms (recorded_ms>?)"),
    ],
    ids=str,
)
@pytest.mark.parametrize("is_ascending", [False, True])
def test_every_search_goes_by_one_index_and_sorts_nothing(
    trail: Trail, wanted: dict[str, object], way: str, is_ascending: bool
) -> None:
    if trail.store.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL chooses by what it knows of the rows; there is too little here")
    with trail.store.read() as uow:
        query = query_of(uow.connection, AuditFilter(**wanted, is_ascending=is_ascending))
        compiled = query.compile(
            dialect=uow.connection.dialect, compile_kwargs={"literal_binds": True}
        )
        plan = uow.connection.execute(sa.text(f"explain query plan {compiled}"))
        steps = [row.detail for row in plan]

    assert way in steps[0]
    assert not any("TEMP B-TREE" in step for step in steps)
