"""Whether a model may run: the register is asked before data is unsealed, and before a result goes.

* What is not on the register, or outside its validity, is refused.
* What was retired is stopped, also when its answer is there already: no result of a model is kept
  or sent after it was retired. A result that was computed while the model was valid may be sent
  later.

The register is asked within the transaction that reads or writes, once for a batch.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.core.audit import JobEvent
from gateway.core.jobs import BusinessStatus, Job, JobState
from gateway.core.model_register import Standing
from gateway.store.models import Found
from gateway.store.unit_of_work import UnitOfWork
from workers.cases import Ending, ended
from workers.ports import Round


@dataclass(frozen=True)
class Verdict:
    """Why a job ends here."""

    event: JobEvent
    status: BusinessStatus
    reason: str


def standings(uow: UnitOfWork, jobs: Collection[Job]) -> Mapping[str, Found]:
    """Ask the register about the models of these jobs."""
    return uow.models.standings({job.model_digest for job in jobs})


def retired(job: Job, found: Found | None) -> Verdict | None:
    """Say why a result must not be sent; None when its model was not retired."""
    if found is None or found.standing is not Standing.RETIRED:
        return None
    reason = f"Model {job.model} was retired: {found.reason}"
    return Verdict("cancel", BusinessStatus.MODEL_RETIRED, reason)


def not_in_service(job: Job, found: Found | None) -> Verdict | None:
    """Say why a job must not run; None when its model is in service."""
    if found is None:
        reason = f"Model {job.model} is not on the register with the content it was asked for."
        return Verdict("refuse", BusinessStatus.MODEL_UNAVAILABLE, reason)
    if found.standing in {Standing.EXPIRED, Standing.NOT_YET}:
        reason = f"Today is outside the days for which model {job.model} is valid."
        return Verdict("refuse", BusinessStatus.MODEL_EXPIRED, reason)
    return retired(job, found)


def without_retired(uow: UnitOfWork, endings: Sequence[Ending], round_: Round) -> list[Ending]:
    """Stop the jobs whose model was retired while they ran; what happened stays on record."""
    going = [each for each in endings if each.delivery is not None]
    found = standings(uow, [each.change.job for each in going]) if going else {}
    return [
        each if each.delivery is None else _unless_retired(each, found, round_) for each in endings
    ]


def _unless_retired(ending: Ending, found: Mapping[str, Found], round_: Round) -> Ending:
    change = ending.change
    verdict = retired(change.job, found.get(change.job.model_digest))
    if verdict is None:
        return ending
    if change.state is not JobState.IN_PROGRESS:
        # A refusal stays one; only its report is not sent.
        return replace(ending, delivery=None)
    stopped = ended(change.job, round_, verdict.event, verdict.status, verdict.reason)
    return Ending(
        replace(stopped.change, decisions=change.decisions),
        (*ending.records, *stopped.records),
    )
