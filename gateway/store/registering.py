"""Register and retire a model: the line of the register, the jobs it stops, and what is on record.

The rules are in `gateway.core.model_register`. Whoever retires a model stops, in the same
transaction, every job of its that waits and every result of its that waits for the EHR. What a
worker holds is left to it: it asks the register before it reads and before it sends.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.core import audit
from gateway.core.audit import AuditAgent, AuditRecord, Source, Step, job_step
from gateway.core.clock import new_id
from gateway.core.delivery import Delivery, DeliveryState
from gateway.core.errors import NotFound
from gateway.core.jobs import Advance, BusinessStatus, Job, JobState
from gateway.core.model_register import (
    BUILT_IN,
    Card,
    ModelConflict,
    ModelRetired,
    ModelState,
    RegisteredModel,
)
from gateway.store.deliveries import Settlement
from gateway.store.unit_of_work import UnitOfWork

_AT_ONCE = 500
_MAYBE_SENT = "An earlier attempt may have reached the EHR all the same."


@dataclass(frozen=True)
class Actor:
    """Who changes the register.

    Attributes:
        source: The process, for the audit log.
        by: The person, for the audit log.
        name: The person's login, or the id of their credential, for the rows.
    """

    source: Source
    by: AuditAgent
    name: str


@dataclass(frozen=True)
class Entry:
    """What became of a registration.

    Attributes:
        is_new: Whether it was not registered before.
        replaced: The built-in model whose place it took, if it did.
    """

    line: RegisteredModel
    is_new: bool
    replaced: RegisteredModel | None = None


def register(uow: UnitOfWork, card: Card, actor: Actor) -> Entry:
    """Put a verified model on the register; once it is there, this changes nothing.

    Raises:
        ModelRetired: This digest was retired.
        ModelConflict: Another digest is active under this name and version.
    """
    known, other = _look(uow, card)
    if known is not None:
        return Entry(known, is_new=False)
    if other is not None:
        why = f"Replaced by {card.digest[:16]}, which came with Nadi."
        retire(uow, other.card.digest, why, actor)
    line = uow.models.add(card, actor.name)
    uow.audit(_recorded(uow, card, actor, is_added=True))
    return Entry(line, is_new=True, replaced=other)


def insist_on_room(uow: UnitOfWork, card: Card) -> None:
    """Ask the register before anything is written whether it would take a model.

    Raises:
        ModelRetired: This digest was retired.
        ModelConflict: Another digest is active under this name and version.
    """
    _look(uow, card)


def retire(uow: UnitOfWork, digest: str, reason: str, actor: Actor) -> int:
    """Retire a model and stop what waits for it; give how many jobs were stopped.

    Raises:
        NotFound: It is not registered.
        ModelRetired: It was retired before.
    """
    line = uow.models.get(digest)
    if line is None:
        raise NotFound("This model is not on the register; `nadi models list` shows what is.")
    if not uow.models.retire(digest, actor.name, reason):
        raise ModelRetired(f"{line.card.reference} was retired before: {line.reason}")
    uow.audit(_recorded(uow, line.card, actor, is_added=False, reason=reason))
    return sum(
        _stop(uow, jobs, reason, actor) for jobs in uow.jobs.open_of_model(digest, at_once=_AT_ONCE)
    )


def _look(uow: UnitOfWork, card: Card) -> tuple[RegisteredModel | None, RegisteredModel | None]:
    """Give the line that the digest has, or else the built-in one that it would replace."""
    known = uow.models.get(card.digest)
    if known is not None and known.state is ModelState.RETIRED:
        raise ModelRetired(
            f"{card.reference} with this content was retired ({known.reason}) and never runs "
            "again; give what is to replace it a new version."
        )
    other = known or uow.models.find(card.name, card.version)
    if other is None or other.card.digest == card.digest:
        # Another process may have registered it between the two looks.
        return other, None
    if other.card.signer != BUILT_IN or card.signer != BUILT_IN:
        raise ModelConflict(
            f"{card.reference} is registered with another content "
            f"({other.card.digest[:16]}, by {other.card.signer}). A version means one content: "
            "give the new one another version, or retire the old one first."
        )
    return None, other


def _recorded(
    uow: UnitOfWork, card: Card, actor: Actor, *, is_added: bool, reason: str = ""
) -> AuditRecord:
    step = Step(id=new_id(), recorded=uow.now, source=actor.source, reason=reason)
    return audit.model_changed(
        step,
        by=actor.by,
        model=card.reference,
        details={
            "sha256": card.digest,
            "signer": card.signer,
            "fingerprint": card.fingerprint,
        },
        is_added=is_added,
    )


def _stop(uow: UnitOfWork, jobs: Sequence[Job], reason: str, actor: Actor) -> int:
    results = uow.deliveries.waiting_of(jobs)
    changes = [
        Advance(
            job=job,
            state=JobState.CANCELLED,
            business_status=BusinessStatus.MODEL_RETIRED,
            reason=_why(job, reason, results.get(job.id)),
        )
        for job in jobs
        if job.state is JobState.READY or job.id in results
    ]
    # A worker may be faster: it asks the register itself before it reads anything.
    still = {job.id for job in uow.jobs.still_held([change.job for change in changes])}
    changes = [change for change in changes if change.job.id in still]
    uow.jobs.advance(changes)
    uow.deliveries.settle(
        [
            Settlement(delivery=each, state=DeliveryState.CANCELLED, answer=each.last_answer)
            for job_id, each in results.items()
            if job_id in still
        ]
    )
    uow.audit(*(stopped(uow, change, actor) for change in changes))
    return len(changes)


def _why(job: Job, reason: str, result: Delivery | None) -> str:
    said = f"Model {job.model} was retired: {reason}"
    return f"{said} {_MAYBE_SENT}" if result and result.attempt else said


def stopped(uow: UnitOfWork, change: Advance, actor: Actor) -> AuditRecord:
    """Put on record that somebody's act stopped a job: a model retired, a patient erased."""
    job = change.job
    failed = audit.Outcome.MINOR_FAILURE
    step = job_step(job, uow.now, actor.source, outcome=failed, reason=change.reason)
    return audit.job_changed(
        step,
        "cancel",
        state=change.state,
        business_status=change.business_status,
        details={"route": job.route, "model": job.model},
        by=actor.by,
    )
