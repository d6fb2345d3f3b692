"""A case is one claimed job with all that inference needs; an ending is what became of one.

Every ending carries the job's change of state and the AuditEvents that belong to it, so that the
story of inference can write a whole micro-batch in one transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from gateway.catching_up import longest_wait_s
from gateway.core import audit, clinical_time
from gateway.core.audit import AgentKind, AuditAgent, AuditRecord, JobEvent, Outcome, Step, job_step
from gateway.core.clock import from_ms
from gateway.core.consent import ConsentDecision, Question
from gateway.core.delivery import NewDelivery
from gateway.core.errors import ConfigurationError, ProcessingError, TransientError
from gateway.core.event import effective_element, encounter_of, reference_of
from gateway.core.findings import ResultContext, result_identifier
from gateway.core.jobs import Advance, BusinessStatus, Job, JobState
from gateway.core.routing import Route
from gateway.store.events import Event
from workers.ports import LoadedModel, Ports, Round

Json = Mapping[str, Any]
#: Security labels, as Codings.
Labels = tuple[dict[str, Any], ...]

#: Attempts after which an error that nobody expected is final.
MOST_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class Case:
    """One job under way.

    Attributes:
        patient: `Patient/<id>` as the EHR writes it.
        decision: The consent decision that let it pass.
        content: The event's own resource.
        record: What was received for the patient and may matter, the event's resource included.
        attached: What was received and the event's resource points at, by the reference it uses.
        chart: What the EHR added.
        fetches: AuditEvents of asking the EHR.
        question: What is asked of the patient's consents about each resource.
        masked: What they do not permit, out of what was received or fetched; for no model.
    """

    job: Job
    event: Event
    route: Route
    model: LoadedModel
    patient: str
    decision: ConsentDecision
    content: Json
    record: tuple[Json, ...]
    attached: Mapping[str, Json] = field(default_factory=dict)
    chart: tuple[Json, ...] = ()
    fetches: tuple[AuditRecord, ...] = ()
    question: Question
    masked: tuple[Json, ...] = ()

    @cached_property
    def at(self) -> datetime:
        """The clinical time of the event; when it has none, when it was received."""
        if found := clinical_time.clinical_time(self.content):
            return found
        return from_ms(self.event.effective_ms or self.event.received_ms)

    @property
    def resources(self) -> tuple[Json, ...]:
        """Everything known of the patient, what the EHR said last."""
        return (*self.record, *self.chart)

    @property
    def patient_resource(self) -> Json | None:
        """The Patient resource, the newest known."""
        patients = [r for r in self.resources if r.get("resourceType") == "Patient"]
        return patients[-1] if patients else None

    def after(self, fetched: AuditRecord) -> "Case":
        """Give the case after the EHR was asked."""
        return replace(self, fetches=(*self.fetches, fetched))


@dataclass(frozen=True)
class Ending:
    """What became of a job in this round."""

    change: Advance
    records: tuple[AuditRecord, ...] = ()
    delivery: NewDelivery | None = None


def context_of(case: Case, now: datetime, labels: Labels) -> ResultContext:
    """Give whom the result is about, what caused it, and how confidential that was."""
    content, event = case.content, case.event
    return ResultContext(
        identifier=result_identifier(
            event.system, event.dedupe_key, case.route.name, case.job.model_digest
        ),
        subject=case.patient,
        encounter=encounter_of(content),
        effective=effective_element(content) or {"effectiveDateTime": case.at.isoformat()},
        issued=now,
        trigger=reference_of(content) or None,
        with_provenance=case.route.with_provenance,
        labels=labels,
    )


# --- endings --------------------------------------------------------------------------------


def step_of(job: Job, round_: Round, reason: str = "", outcome: Outcome | None = None) -> Step:
    """Give the frame of an audit event about a job."""
    failed = Outcome.MINOR_FAILURE if reason else Outcome.SUCCESS
    return job_step(job, round_.now, round_.source, outcome=outcome or failed, reason=reason)


def consent_record(
    job: Job, round_: Round, decision: ConsentDecision, stage: str, user: AuditAgent
) -> AuditRecord:
    """Put a consent decision on record."""
    return audit.consent_decided(step_of(job, round_), decision, stage=stage, user=user)


def model_agent(job: Job) -> AuditAgent:
    """Name the model as the one who would read the data."""
    return AuditAgent(job.model_digest, job.model, AgentKind.USER)


def ended(
    job: Job,
    round_: Round,
    event: JobEvent,
    status: BusinessStatus,
    reason: str,
) -> Ending:
    """End a job without a result."""
    state = _STATES[event]
    record = audit.job_changed(
        step_of(job, round_, reason),
        event,
        state=state,
        business_status=status,
        details={"route": job.route, "model": job.model},
    )
    change = Advance(job=job, state=state, business_status=status, reason=reason)
    return Ending(change, (record,))


_STATES: dict[JobEvent, JobState] = {
    "refuse": JobState.REJECTED,
    "supersede": JobState.CANCELLED,
    "cancel": JobState.CANCELLED,
    "fail": JobState.FAILED,
}


def denied(job: Job, round_: Round, decision: ConsentDecision) -> Ending:
    """End a job whose patient does not permit it any more."""
    status, reason = BusinessStatus.CONSENT_WITHDRAWN, " ".join(decision.reasons)
    ending = ended(job, round_, "cancel", status, reason)
    asked = consent_record(job, round_, decision, "infer", model_agent(job))
    decisions = (decision.as_json("infer", round_.now),)
    change = replace(ending.change, decisions=decisions)
    return Ending(change, (asked, *ending.records))


def postponed(job: Job, round_: Round, delay_s: float, reason: str) -> Ending:
    """Put a job back, to be claimed again after a delay in seconds."""
    return Ending(
        Advance(
            job=job,
            state=JobState.READY,
            business_status=BusinessStatus.QUEUED,
            reason=reason,
            not_before_ms=round_.now_ms + int(delay_s * 1000),
        )
    )


def failed(job: Job, round_: Round, error: Exception, ports: Ports) -> Ending:
    """Decide what becomes of a job that met an error.

    What is transient is tried again until the job is too old, what is final ends it, and what
    nobody expected is tried again a few times.
    """
    status = BusinessStatus.INFERENCE_FAILED
    if isinstance(error, ProcessingError):
        return ended(job, round_, "fail", status, error.message)
    route = round_.site.route(job.route)
    waited_s = longest_wait_s(round_.site, route.source) if route else 0
    age_s = (round_.now_ms - job.created_ms) / 1000 - waited_s
    # What is not configured is the integrator's turn, while the job waits.
    is_transient = isinstance(error, TransientError | ConfigurationError)
    if ports.backoff.is_spent(age_s) or (not is_transient and job.attempt >= MOST_ATTEMPTS):
        return ended(job, round_, "fail", status, f"Given up: {type(error).__name__}.")
    asked = error.retry_after_s if isinstance(error, TransientError) else None
    delay_s = ports.backoff.delay_s(
        job.attempt, retry_after_s=asked, random=ports.random, is_of_system=True
    )
    return postponed(job, round_, delay_s, f"To be tried again: {type(error).__name__}.")
