"""Erase a patient: one transaction that stops her jobs, empties her rows and destroys her key.

1. A legal hold refuses it, and so do results that are still to be marked in an EHR and uses of
   break-glass that are still to be reviewed.
2. Her key is locked first: on PostgreSQL this waits for whoever seals under it at the moment, so
   that what they wrote is seen by what follows. Whether she refuses all AI is read with it, for the
   tombstone to keep; then it is deleted.
3. Open jobs and waiting results are cancelled, whoever holds them: a worker that comes back finds
   that its job moved, and writes nothing. What is on the worklist is taken off it.
4. Her rows are emptied, the tombstone is kept, and all of it is one AuditEvent.
5. Her open requests for erasure are closed: they have been answered by this.

What becomes of the key's bytes in the files of the database is `shredding`'s business.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gateway.core.audit import AuditRecord, Step
from gateway.core.audit_rights import REFUSED_AI, removed
from gateway.core.clock import new_id
from gateway.core.consent.local import refuses_ai_still
from gateway.core.errors import NotFound, OnHold
from gateway.core.jobs import Advance, BusinessStatus, Job, JobState
from gateway.core.ladder import Rung
from gateway.core.rights import RequestKind
from gateway.store.erasures import Tombstone, counted
from gateway.store.registering import Actor, stopped
from gateway.store.rights_answers import answer
from gateway.store.unit_of_work import UnitOfWork

_WHY = "The patient's data was erased."
_STILL_MARKED = (
    "Results of this patient are still to be marked as entered in error in the EHR; what is erased "
    "could no longer be found there. Erase her when that is done; `nadi doctor` tells."
)
_STILL_REVIEWED = (
    "Uses of break-glass on data of this patient are still to be reviewed by a second person, who "
    "has to see why it was done. Erase her after that."
)
_MAYBE_SENT = "An attempt may have reached the EHR all the same."


@dataclass(frozen=True, kw_only=True)
class Order:
    """Who is to be erased, and why.

    Attributes:
        patient_key: Keyed hash.
        reason: For the record; it never names the patient.
        law: The provision that it rests on.
        is_repeat: Whether she was erased before, so that there may be nothing of hers.
        refused_ai: Whether it is known from elsewhere that she refused all AI.
    """

    patient_key: str
    reason: str
    law: str
    is_repeat: bool = False
    refused_ai: bool = False


@dataclass(frozen=True, kw_only=True)
class Erased:
    """What was done.

    Attributes:
        removed: Emptied rows by table.
        consents: How many recorded consents can't be opened any more; their rows are never changed.
        stopped: Jobs that were cancelled.
        answered: Ids of the requests for erasure that this closed.
        wrapped_key: The deleted key as it was stored; None when there was none.
    """

    tombstone: Tombstone
    removed: dict[str, int]
    consents: int
    stopped: int
    answered: tuple[str, ...]
    wrapped_key: bytes | None


def erase(uow: UnitOfWork, order: Order, bundles: Collection[str], actor: Actor) -> Erased:
    """Erase a patient.

    Args:
        uow: Write transaction.
        order: Whom and why.
        bundles: The Bundles that hold something of her, see `Erasures.bundles_with`.
        actor: Who does it.

    Raises:
        OnHold: A legal hold is in force, results of hers are still to be marked in an EHR, or uses
            of break-glass on her data still to be reviewed.
        NotFound: Nothing is held of this patient.
    """
    key = order.patient_key
    if uow.erasures.holds([key]):
        raise OnHold
    if uow.erasures.has_pending_retractions(key):
        raise OnHold(_STILL_MARKED)
    if uow.erasures.has_open_reviews(key):
        raise OnHold(_STILL_REVIEWED)
    uow.patient_keys.lock(key)
    refused_ai = order.refused_ai or refuses_ai_still(uow.consents.of([key])[key], uow.now)
    wrapped = uow.patient_keys.destroy(key)
    held = uow.erasures.held(key)
    is_known = wrapped is not None or any(held.values())
    if not is_known and not order.is_repeat:
        raise NotFound("Nothing is held of this patient.")
    stopped = _stop(uow, key, actor)
    emptied = uow.erasures.empty(key, bundles)
    tombstone = Tombstone(
        patient_key=key,
        id=new_id(),
        erased_ms=uow.now_ms,
        erased_by=actor.name,
        reason=order.reason,
        law=order.law,
        refused_ai=refused_ai,
    )
    uow.erasures.bury(tombstone)
    more = {"consents-closed": held["consents"], "jobs-stopped": stopped}
    uow.audit(_recorded(uow, tombstone, {**emptied, **more}, actor))
    return Erased(
        tombstone=tombstone,
        removed=emptied,
        consents=held["consents"],
        stopped=stopped,
        answered=_answer(uow, tombstone, actor),
        wrapped_key=wrapped,
    )


def _answer(uow: UnitOfWork, tombstone: Tombstone, actor: Actor) -> tuple[str, ...]:
    """Close what she had asked for; give the ids of these requests."""
    asked = uow.rights_requests.open_of(tombstone.patient_key, RequestKind.ERASURE)
    for each in asked:
        answer(uow, each.id, f"Erased: {tombstone.id}.", actor)
    return tuple(each.id for each in asked)


def _stop(uow: UnitOfWork, patient_key: str, actor: Actor) -> int:
    """Cancel every open job of a patient, also what a worker holds or a clinician has to see."""
    count = 0
    while found := uow.jobs.open_of_patient(patient_key):
        still = uow.jobs.still_held(found)
        results = uow.deliveries.of_jobs([job.id for job in still])
        tried = {job_id: each for job_id, each in results.items() if each.attempt}
        sent = {job_id for job_id, each in tried.items() if each.rung != Rung.WORKLIST}
        changes = [_cancelled(job, was_sent=job.id in sent) for job in still]
        uow.jobs.advance(changes)
        uow.audit(*(stopped(uow, change, actor) for change in changes))
        count += len(changes)
    return count


def _cancelled(job: Job, *, was_sent: bool) -> Advance:
    return Advance(
        job=job,
        state=JobState.CANCELLED,
        business_status=BusinessStatus.ERASED,
        reason=f"{_WHY} {_MAYBE_SENT}" if was_sent else _WHY,
    )


def _recorded(
    uow: UnitOfWork, tombstone: Tombstone, counts: dict[str, int], actor: Actor
) -> AuditRecord:
    step = Step(
        id=new_id(), recorded=uow.now, source=actor.source, patient_key=tombstone.patient_key
    )
    details = {**counted(counts), "why": tombstone.reason, "law": tombstone.law}
    if tombstone.refused_ai:
        details[REFUSED_AI] = "yes"
    return removed(step, "erase", by=actor.by, erasure_id=tombstone.id, details=details)


def needles_of(references: Sequence[str]) -> tuple[bytes, ...]:
    """Give what names a patient in JSON: her reference where it ends, and not a longer id."""
    ends = (b'"', b"/", b"?", b"#", b"|")
    return tuple(each.encode() + end for each in references for end in ends)
