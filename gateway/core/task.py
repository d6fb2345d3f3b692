"""What callers see of their events and jobs: FHIR Task.

An event's Task gathers its jobs: its `output` names one Task per job, each with its status, the
reason, and the consent decisions that led to it. No Task holds a value of the patient.

Source: FHIR R4 Task (http://hl7.org/fhir/R4/task.html).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core.clock import from_ms
from gateway.core.jobs import BusinessStatus, Job, JobState

STATUS_SYSTEM = "https://nadi.health/fhir/CodeSystem/business-status"
EVENT_SYSTEM = "https://nadi.health/fhir/sid/event"
ROUTE_SYSTEM = "https://nadi.health/fhir/sid/route"
DIGEST_SYSTEM = "https://nadi.health/fhir/sid/model-digest"

# The first of these that any job has is the state of the whole.
_PRECEDENCE = (
    JobState.IN_PROGRESS,
    JobState.READY,
    JobState.REQUESTED,
    JobState.COMPLETED,
    JobState.FAILED,
    JobState.REJECTED,
    JobState.CANCELLED,
)


@dataclass(frozen=True)
class ReceivedEvent:
    """One event as its Task shows it."""

    id: str
    resource_type: str
    is_current: bool
    received_ms: int
    is_erased: bool = False


@dataclass(frozen=True)
class JobLine:
    """One job as a Task shows it; the same whether just admitted or read back."""

    id: str
    route: str
    state: JobState
    business_status: str


def event_task(event: ReceivedEvent, jobs: Sequence[JobLine]) -> dict[str, object]:
    """Give the Task of a received resource."""
    status, business = _whole(event, jobs)
    task: dict[str, object] = {
        "resourceType": "Task",
        "id": event.id,
        "status": status,
        "businessStatus": _business(business),
        "intent": "order",
        "code": {"text": f"Process a received {event.resource_type}"},
        "focus": {
            "type": event.resource_type,
            "identifier": {"system": EVENT_SYSTEM, "value": event.id},
        },
        "authoredOn": from_ms(event.received_ms).isoformat(timespec="milliseconds"),
    }
    if event.is_erased:
        task["statusReason"] = {"text": "What was received was erased; its record stays."}
    if jobs:
        task["output"] = [_output(job) for job in jobs]
    return task


def job_task(job: Job) -> dict[str, object]:
    """Give the Task of one job, with its reason and its consent decisions."""
    task: dict[str, object] = {
        "resourceType": "Task",
        "id": job.id,
        "status": job.state.value,
        "businessStatus": _business(job.business_status),
        "intent": "order",
        "code": {
            "coding": [{"system": ROUTE_SYSTEM, "code": job.route}],
            "text": f"Run {job.model}",
        },
        "partOf": [{"reference": f"Task/{job.event_id}"}],
        "authoredOn": from_ms(job.created_ms).isoformat(timespec="milliseconds"),
        "lastModified": from_ms(job.updated_ms).isoformat(timespec="milliseconds"),
        "input": [
            {
                "type": {"text": "model"},
                "valueIdentifier": {"system": DIGEST_SYSTEM, "value": job.model_digest or "none"},
            }
        ],
    }
    if job.reason:
        task["statusReason"] = {"text": job.reason}
    if job.decisions:
        task["note"] = [{"text": describe_decision(decision)} for decision in job.decisions]
    return task


def describe_decision(decision: dict[str, object]) -> str:
    """Say one stored consent decision in a sentence."""
    reasons = decision["reasons"]
    why = " ".join(str(reason) for reason in reasons) if isinstance(reasons, list) else ""
    return (
        f"Consent asked at {decision['stage']} ({decision['at']}) for {decision['purpose']}: "
        f"{decision['decision']}. {why}"
    )


def _whole(event: ReceivedEvent, jobs: Sequence[JobLine]) -> tuple[str, str]:
    if not jobs:
        if event.is_erased:
            return JobState.CANCELLED.value, BusinessStatus.ERASED.value
        if event.is_current:
            # A consent is not there to be run: on record, it is asked from now on.
            is_consent = event.resource_type == "Consent"
            return JobState.COMPLETED.value, "recorded" if is_consent else "no-route"
        return JobState.REJECTED.value, "superseded"
    state = next(state for state in _PRECEDENCE if any(job.state is state for job in jobs))
    statuses = {job.business_status for job in jobs if job.state is state}
    return state.value, statuses.pop() if len(statuses) == 1 else "mixed"


def _business(status: str) -> dict[str, object]:
    return {"coding": [{"system": STATUS_SYSTEM, "code": status}], "text": status}


def _output(job: JobLine) -> dict[str, object]:
    return {
        "type": {"coding": [{"system": ROUTE_SYSTEM, "code": job.route}], "text": job.route},
        "valueReference": {
            "reference": f"Task/{job.id}",
            "display": f"{job.route}: {job.state.value} ({job.business_status})",
        },
    }
