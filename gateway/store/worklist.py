"""Work off the worklist: list it, sign an item off, have one tried again; all of it is on record.

* Job and AuditEvent move in one transaction. The job is locked first, so that of two who sign off
  at once the second sees the first: they are told who it was. The same person is answered alike.
* Tried again goes what is still to be seen, from the top of the ladder. It may be in the EHR from
  an earlier try, so it is looked for first, as every second attempt (`workers.delivery`).
* What was signed off is not tried again: it would stand in the chart as seen by nobody.
"""

from collections.abc import Callable, Collection
from dataclasses import replace

import sqlalchemy as sa

from gateway.core import audit
from gateway.core.audit import JobEvent, job_step
from gateway.core.audit_entry import read_entry
from gateway.core.clock import to_ms
from gateway.core.delivery import Delivery, DeliveryState
from gateway.core.errors import Erased, InvalidTransition, NotFound
from gateway.core.jobs import KEPT_HERE, Advance, BusinessStatus, Job, JobState
from gateway.core.worklist import Item, SignOff, SignOffReason
from gateway.store.audit_log import AuditFilter
from gateway.store.deliveries import ASKED_AGAIN, Settlement
from gateway.store.jobs import advanced
from gateway.store.registering import Actor
from gateway.store.tables import deliveries, jobs
from gateway.store.unit_of_work import UnitOfWork

#: Detail of the AuditEvent: why it was signed off.
_WHY = "why"
_SIGNED_OFF: JobEvent = "sign-off"
_MOVED = "Somebody moved it at this very moment; look at it again."


# The partial index is used only where its condition stands literally; `~` is after every id.
_AFTER_ALL = "~"
_LISTED = (
    sa.select(deliveries.c.id, deliveries.c.job_id)
    .join(jobs, jobs.c.id == deliveries.c.job_id)
    .where(
        sa.text("deliveries.rung = 'worklist'"),
        sa.func.length(deliveries.c.body) > 0,
        jobs.c.business_status == BusinessStatus.ON_WORKLIST,
    )
)
_PAGE = (
    _LISTED.where(deliveries.c.id < sa.bindparam("before"))
    .order_by(deliveries.c.id.desc())
    .limit(sa.bindparam("most"))
)
_COUNT = _LISTED.with_only_columns(sa.func.count(), sa.func.min(deliveries.c.delivered_ms))


class ItemChanged(InvalidTransition):
    """The item is not any more as you saw it; read it again."""


def listed(uow: UnitOfWork, *, before: str | None, limit: int) -> tuple[list[Item], str | None]:
    """Give a page of the open items, the newest first, and what the next page starts after.

    Args:
        uow: Where.
        before: What the page before ended with.
        limit: Most items.
    """
    asked = {"before": before or _AFTER_ALL, "most": limit}
    page = uow.connection.execute(_PAGE, asked).all()
    known = {each.id: each for each in uow.deliveries.get_many([row.id for row in page])}
    of_jobs = uow.jobs.get_many([row.job_id for row in page])
    gone = uow.erasures.closed({each.patient_key for each in known.values()})
    found = [Item(of_jobs[row.job_id], known[row.id]) for row in page]
    last = page[-1].id if len(page) == limit else None
    return [item for item in found if item.delivery.patient_key not in gone], last


def listed_jobs(uow: UnitOfWork, system: str | None = None) -> list[str]:
    """Give the jobs whose results are on the list, of one system or of all, the oldest first."""
    query = _LISTED.order_by(deliveries.c.id)
    if system is not None:
        query = query.where(deliveries.c.system == system)
    return [row.job_id for row in uow.connection.execute(query)]


def count(uow: UnitOfWork) -> tuple[int, int | None]:
    """Count the open items, and say since when the oldest is there; None when there is none."""
    found, oldest_ms = uow.connection.execute(_COUNT).one()
    return found, oldest_ms


def find(uow: UnitOfWork, job_id: str) -> Item:
    """Give an item, whether it is on the list or left it.

    Args:
        uow: Where.
        job_id: Of the job whose result it is.

    Raises:
        NotFound: No result of such a job is kept.
    """
    job = uow.jobs.get(job_id)
    delivery = uow.deliveries.of_jobs([job.id]).get(job.id) if job else None
    if job is None or delivery is None:
        raise NotFound("There is no such item; `nadi worklist list` shows what is on the worklist.")
    return Item(job, delivery, _sign_off_of(uow, job))


def sign_off(
    uow: UnitOfWork,
    job_id: str,
    actor: Actor,
    reason: SignOffReason | None,
    *,
    seen: str | None = None,
) -> Item:
    """Sign an item off; once the same person did, this changes nothing.

    Args:
        uow: Write transaction.
        job_id: Of the item.
        actor: The clinician.
        reason: Why it needs nobody's eyes any more.
        seen: Version of the item that was looked at; any, where None.

    Raises:
        NotFound: There is no such item.
        ItemChanged: It is not as it was seen.
        InvalidTransition: It is not on the list, or somebody else signed it off.
        Erased: What was held of it is gone.
    """
    item = _locked(uow, job_id)
    if item.signed is not None:
        return _answered_alike(item, item.signed, actor)
    if seen is not None and seen != item.version:
        raise ItemChanged
    _insist_on_kept(uow, item, frozenset({BusinessStatus.ON_WORKLIST}))
    words = f": {reason.value}" if reason else ""
    change = Advance(
        job=item.job,
        state=JobState.COMPLETED,
        business_status=BusinessStatus.SIGNED_OFF,
        reason=f"A clinician signed it off{words}.",
    )
    _move(uow, change)
    _record(uow, change, _SIGNED_OFF, actor, {_WHY: reason.value} if reason else {})
    signed = SignOff(actor.by.identifier, actor.by.name, uow.now_ms, reason)
    return Item(replace(advanced(change), updated_ms=uow.now_ms), item.delivery, signed)


def retry(uow: UnitOfWork, job_id: str, actor: Actor, is_routed: Callable[[str], bool]) -> Job:
    """Have an item, or a result that is only a card, tried again from the top of the ladder.

    Args:
        uow: Write transaction.
        job_id: Of the item.
        actor: Who wants it.
        is_routed: Says whether the site in force has a route.

    Returns:
        Its job.

    Raises:
        NotFound: There is no such item.
        InvalidTransition: It is not on the list, is marked as an error, or has no route any more.
        Erased: What was held of it is gone.
    """
    item = _locked(uow, job_id)
    _insist_on_kept(uow, item, KEPT_HERE)
    if not is_routed(item.job.route):
        raise InvalidTransition("Its route is not in the site file any more: it stays here.")
    if uow.retractions.of([item.delivery.id]):
        raise InvalidTransition("It is marked as entered in error: it goes to no EHR any more.")
    reason = "It is to be written into the EHR, from the top of the ladder."
    ready = Advance(
        job=item.job, state=JobState.READY, business_status=BusinessStatus.QUEUED, reason=reason
    )
    waiting = replace(
        ready,
        job=replace(item.job, state=JobState.READY, business_status=BusinessStatus.QUEUED),
        state=JobState.IN_PROGRESS,
        business_status=BusinessStatus.DELIVERY_PENDING,
    )
    _move(uow, ready)
    _move(uow, waiting)
    _put_back(uow, item.delivery)
    _record(uow, waiting, "retry", actor, {})
    return advanced(waiting)


def _locked(uow: UnitOfWork, job_id: str) -> Item:
    """Give an item that nobody else moves until this unit of work ends."""
    uow.jobs.still_held([find(uow, job_id).job])
    return find(uow, job_id)


def _answered_alike(item: Item, signed: SignOff, actor: Actor) -> Item:
    if signed.by == actor.by.identifier:
        return item
    raise InvalidTransition(f"{signed.name} signed it off before; nothing was changed.")


def _insist_on_kept(uow: UnitOfWork, item: Item, as_what: Collection[BusinessStatus]) -> None:
    if item.job.business_status not in as_what:
        now = f"it is {item.job.state} ({item.job.business_status})"
        raise InvalidTransition(f"It is not on the worklist: {now}.")
    if not item.delivery.body or uow.erasures.closed([item.delivery.patient_key]):
        raise Erased


def _put_back(uow: UnitOfWork, delivery: Delivery) -> None:
    again = Settlement(
        delivery=delivery,
        state=DeliveryState.PENDING,
        answer=ASKED_AGAIN,
        next_attempt_ms=uow.now_ms,
    )
    if uow.deliveries.settle([again]) != 1:
        raise InvalidTransition(_MOVED)


def _move(uow: UnitOfWork, change: Advance) -> None:
    if uow.jobs.advance([change]) != 1:
        raise InvalidTransition(_MOVED)


def _record(
    uow: UnitOfWork, change: Advance, event: JobEvent, actor: Actor, details: dict[str, str]
) -> None:
    step = job_step(change.job, uow.now, actor.source, reason=change.reason)
    state, status = change.state.value, change.business_status.value
    uow.audit(
        audit.job_changed(
            step, event, state=state, business_status=status, details=details, by=actor.by
        )
    )


def _sign_off_of(uow: UnitOfWork, job: Job) -> SignOff | None:
    """Read in the log who signed a job off: what is on record is what counts."""
    if job.business_status is not BusinessStatus.SIGNED_OFF:
        return None
    (row,) = uow.audit_log.search(AuditFilter(job_id=job.id, events=(_SIGNED_OFF,), limit=1))
    told = read_entry(row.seq, row.event, row.body)
    who, why = told.parties[0], told.facts.get(_WHY)
    return SignOff(who.identifier, who.name, to_ms(told.at), SignOffReason(why) if why else None)
