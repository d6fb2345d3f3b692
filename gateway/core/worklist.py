"""Our own worklist: what no EHR takes, until a clinician signs it off or it is tried again.

An item is a job that is completed `on-worklist`, with its delivery. It leaves the list

* signed off: `signed-off`, by one clinician, with a short reason from a list where one is given;
* tried again, when the EHR can do more: the job waits for its delivery, from the top of the ladder;
* taken off: its patient's consent was withdrawn, or her data erased.

It is shown as a FHIR Task of intent `proposal`: somebody is to look at the result.

Source: FHIR R4 Task (http://hl7.org/fhir/R4/task.html); docs/write-back.md.
"""

from dataclasses import dataclass
from enum import StrEnum

from gateway.core.clock import from_ms
from gateway.core.delivery import Delivery
from gateway.core.jobs import BusinessStatus, Job
from gateway.core.ladder import Rung
from gateway.core.result_terms import RESULT_SYSTEM
from gateway.core.task import job_task

SIGN_OFF_SYSTEM = "https://nadi.health/fhir/CodeSystem/sign-off-reason"
_REQUESTED = "requested"


class SignOffReason(StrEnum):
    """Why a result needs nobody's eyes any more, in the words of who signs it off."""

    NOTED = "noted"
    ACTED_ON = "acted-on"
    ENTERED_BY_HAND = "entered-by-hand"
    DISAGREED = "disagreed"
    NOT_APPLICABLE = "not-applicable"


@dataclass(frozen=True)
class SignOff:
    """Who signed an item off.

    Attributes:
        by: Id of the credential.
        name: Its name.
        at_ms: When.
        reason: Why; None where nothing was said.
    """

    by: str
    name: str
    at_ms: int
    reason: SignOffReason | None = None


@dataclass(frozen=True)
class Item:
    """One result that is, or was, on the worklist."""

    job: Job
    delivery: Delivery
    signed: SignOff | None = None

    @property
    def is_open(self) -> bool:
        """Say whether it is on the list."""
        return self.job.business_status is BusinessStatus.ON_WORKLIST

    @property
    def is_withdrawn(self) -> bool:
        """Say whether consent took it off the list: it is in no chart, and shown no more."""
        is_ours = self.delivery.rung == Rung.WORKLIST
        return is_ours and self.job.business_status is BusinessStatus.CONSENT_WITHDRAWN

    @property
    def since_ms(self) -> int:
        """When it came onto the list; of what left it, when its result was made."""
        return self.delivery.delivered_ms or self.delivery.created_ms

    @property
    def version(self) -> str:
        """Name it as it stands: whoever signs off what moved meanwhile is told."""
        return f"{self.delivery.attempt}-{self.job.business_status}"


def item_task(item: Item) -> dict[str, object]:
    """Give an item as a FHIR Task: without any value of the patient."""
    result = {"system": RESULT_SYSTEM, "value": item.delivery.identifier}
    task: dict[str, object] = {
        **job_task(item.job),
        "meta": {"versionId": item.version},
        "intent": "proposal",
        "description": "Look at a result that no EHR takes.",
        "focus": {"identifier": result},
        "authoredOn": _instant(item.since_ms),
    }
    if item.is_open:
        task["status"] = _REQUESTED
    return {**task, **_signed(item.signed)} if item.signed else task


def _signed(signed: SignOff) -> dict[str, object]:
    told: dict[str, object] = {
        "owner": {"display": signed.name},
        "executionPeriod": {"end": _instant(signed.at_ms)},
    }
    if signed.reason is not None:
        coding = {"system": SIGN_OFF_SYSTEM, "code": signed.reason.value}
        told["statusReason"] = {"coding": [coding], "text": signed.reason.value}
    return told


def _instant(ms: int) -> str:
    return from_ms(ms).isoformat(timespec="milliseconds")
