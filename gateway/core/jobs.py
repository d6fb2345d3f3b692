"""(3) A job: one route applied to one version of one resource by one model digest.

`JobState` drives and is a FHIR Task.status code; `BusinessStatus` only explains.
The state machine is the table `TRANSITIONS`, drawn in docs/architecture.md.

Source: FHIR R4 Task (http://hl7.org/fhir/R4/task.html#statemachine).
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from gateway.core.clock import new_id
from gateway.core.errors import InvalidTransition
from gateway.core.lanes import Lane

JobId = NewType("JobId", str)
EventId = NewType("EventId", str)


class JobState(StrEnum):
    """Where a job stands (FHIR Task.status)."""

    REQUESTED = "requested"
    READY = "ready"
    IN_PROGRESS = "in-progress"
    COMPLETED = "completed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Say whether nothing follows this state by itself."""
        return not TRANSITIONS[self] - {JobState.READY, JobState.CANCELLED}


class BusinessStatus(StrEnum):
    """Why a job stands where it does. Explains, never drives."""

    QUEUED = "queued"
    RUNNING = "running"
    DELIVERY_PENDING = "delivery-pending"
    DELIVERED = "delivered"
    ON_WORKLIST = "on-worklist"
    ON_CARD = "on-card"
    SIGNED_OFF = "signed-off"
    CONSENT_DENIED = "consent-denied"
    CONSENT_WITHDRAWN = "consent-withdrawn"
    PATIENT_UNKNOWN = "patient-unknown"
    MODEL_UNAVAILABLE = "model-unavailable"
    MODEL_RETIRED = "model-retired"
    MODEL_EXPIRED = "model-expired"
    MADE_BY_AI = "made-by-ai"
    NOT_FINAL = "not-final"
    SUPERSEDED = "superseded"
    INPUT_MISSING = "input-missing"
    INPUT_STALE = "input-stale"
    INPUT_IMPLAUSIBLE = "input-implausible"
    OUTSIDE_INTENDED_USE = "outside-intended-use"
    UNIT_UNKNOWN = "unit-unknown"
    UNIT_NOT_CONVERTIBLE = "unit-not-convertible"
    INPUT_UNREADABLE = "input-unreadable"
    INPUT_CENSORED = "input-censored"
    TOO_FEW_INPUTS = "too-few-inputs"
    IMAGE_MISSING = "image-missing"
    IMAGE_UNREADABLE = "image-unreadable"
    IMAGE_TOO_LARGE = "image-too-large"
    IMAGE_BLANK = "image-blank"
    IMAGE_AMBIGUOUS = "image-ambiguous"
    IMAGE_IMPLAUSIBLE = "image-implausible"
    WRONG_MODALITY = "wrong-modality"
    WRONG_BODY_PART = "wrong-body-part"
    WRONG_VIEW = "wrong-view"
    TEXT_MISSING = "text-missing"
    TEXT_UNREADABLE = "text-unreadable"
    TEXT_FOREIGN = "text-foreign"
    TEXT_TOO_LONG = "text-too-long"
    ATTACHMENT_ALTERED = "attachment-altered"
    MASKED = "masked"
    INFERENCE_FAILED = "inference-failed"
    DELIVERY_FAILED = "delivery-failed"
    STOPPED = "stopped-by-operator"
    ERASED = "erased"


#: The result of a completed job is here, and not in an EHR.
KEPT_HERE = frozenset({BusinessStatus.ON_WORKLIST, BusinessStatus.ON_CARD})

# requested and ready wait, in-progress is held by a worker or waits for the EHR. A person may make
# ready again what failed (`nadi jobs retry`) and what is on the worklist (`nadi worklist retry`); a
# withdrawn consent, or an erasure, takes a job off the worklist. Nothing else leaves a final state.
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.REQUESTED: frozenset({JobState.READY, JobState.REJECTED, JobState.CANCELLED}),
    JobState.READY: frozenset({JobState.IN_PROGRESS, JobState.CANCELLED}),
    JobState.IN_PROGRESS: frozenset(
        {
            JobState.READY,
            JobState.COMPLETED,
            JobState.REJECTED,
            JobState.CANCELLED,
            JobState.FAILED,
        }
    ),
    JobState.COMPLETED: frozenset({JobState.READY, JobState.CANCELLED}),
    JobState.REJECTED: frozenset(),
    JobState.CANCELLED: frozenset(),
    JobState.FAILED: frozenset({JobState.READY}),
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row of the jobs table, without anything about the patient but a keyed hash."""

    id: JobId
    #: The received resource version that triggered it.
    event_id: EventId
    route: str
    #: `name@version` of the model.
    model: str
    #: SHA-256 of the model package, hexadecimal.
    model_digest: str
    state: JobState
    business_status: BusinessStatus
    #: One sentence for people; never a patient value.
    reason: str
    #: Keyed hash of the patient; None when the resource names none.
    patient_key: str | None
    #: How often a worker has claimed it; fences the final write.
    attempt: int
    created_ms: int
    updated_ms: int
    #: The consent decisions so far, oldest first, as JSON-ready values.
    decisions: tuple[dict[str, object], ...] = ()
    lane: Lane = Lane.ROUTINE
    #: When the EHR last said all that it has of what the model reads; None where it did not.
    told_ms: int | None = None


def _new_job_id() -> JobId:
    return JobId(new_id())


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job as admission makes it: ready to run, or rejected with its reason.

    Attributes:
        is_told: Whether the EHR has just said all that it has of what the model reads.
    """

    event_id: EventId
    route: str
    model: str
    model_digest: str
    patient_key: str | None
    state: JobState
    business_status: BusinessStatus
    reason: str = ""
    decisions: tuple[dict[str, object], ...] = ()
    lane: Lane = Lane.ROUTINE
    is_told: bool = False
    id: JobId = field(default_factory=_new_job_id)


@dataclass(frozen=True, kw_only=True)
class Advance:
    """What becomes of a job that the caller holds.

    Attributes:
        job: The job as it was when the caller claimed or read it.
        reason: One sentence for people; never a patient value.
        decisions: Consent decisions to add to those the job has.
        not_before_ms: Earliest moment it may be claimed again, when it becomes ready.
    """

    job: Job
    state: JobState
    business_status: BusinessStatus
    reason: str = ""
    decisions: tuple[dict[str, object], ...] = ()
    not_before_ms: int = 0


def check_transition(before: JobState, after: JobState) -> None:
    """Insist that a job may go from one state to another.

    Raises:
        InvalidTransition: The state machine has no such arrow.
    """
    if after not in TRANSITIONS[before]:
        raise InvalidTransition(f"A job can't go from '{before}' to '{after}'.")


def check_advance(change: Advance) -> None:
    """Insist that a job may become what a change says.

    A state that is not final may stay while its explanation changes. Of what is completed only a
    job moves whose result is kept here: it is signed off, tried again, or taken off.

    Raises:
        InvalidTransition: The state machine has no such arrow, or not for this job.
    """
    before, after = change.job.state, change.state
    is_kept_here = change.job.business_status in KEPT_HERE
    if before is JobState.COMPLETED and not is_kept_here:
        raise InvalidTransition("A completed job moves only while its result is kept here.")
    if before is not after or (before.is_final and not is_kept_here):
        check_transition(before, after)
