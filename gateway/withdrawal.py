"""(2.7) A patient's consent changed: what it no longer permits stops, in the same transaction.

1. Jobs that wait, and results that wait for the EHR, are cancelled here and now; what is on our
   worklist is taken off it.
2. Results that are in an EHR are marked as entered in error, where the site says so.
3. What a worker holds is left to it: it asks for consent itself before it reads or sends.
4. The change is acknowledged when no result that it stops is on its way to an EHR any more
   (`settle_in_flight`): after the acknowledgement nothing arrives there.

For whoever changes consent: a Consent that arrives, a person at the command line, a timer.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from adapters.site import Site
from gateway.core.audit import AgentKind, AuditAgent, Source, consent_decided, job_changed, job_step
from gateway.core.consent import (
    READ,
    WRITE,
    About,
    ConsentDecision,
    ConsentRecord,
    Model,
    Question,
    question,
)
from gateway.core.delivery import Delivery, DeliveryState
from gateway.core.errors import TransientError, Unsealable
from gateway.core.jobs import Advance, BusinessStatus, Job, JobState
from gateway.core.routing import Route
from gateway.core.write_back import StoredReport
from gateway.store.deliveries import Settlement
from gateway.store.unit_of_work import Store, UnitOfWork

_LOOK_EVERY_S = 0.02
_ASK_AGAIN_S = 5
_UNDERWAY = (
    "The consent is on record and in force. A result that it stops is still on its way to an EHR "
    "that does not answer: send the Consent again to learn when nothing more arrives there."
)


@dataclass(frozen=True)
class _Denied:
    """An open job that consent no longer permits."""

    job: Job
    decision: ConsentDecision


def withdraw(
    uow: UnitOfWork, site: Site, source: Source, patients: Mapping[str, str]
) -> list[Advance]:
    """Stop the open jobs that consent no longer permits, and their waiting results.

    Args:
        uow: The transaction in which the consent changed.
        site: The site in force.
        source: Who writes the audit events.
        patients: Reference (`Patient/<id>`) by patient key, of those whose consent changed.

    Returns:
        What was cancelled.
    """
    uow.lock_patients(patients)
    denied = list(_denied(uow, site, patients))
    results = uow.deliveries.waiting_of([each.job for each in denied])
    stopping = [each for each in denied if _is_ours_to_stop(each.job) or each.job.id in results]
    changes = [_cancel(uow, source, each, results.get(each.job.id)) for each in stopping]
    if site.retracts:
        retract_written(uow, site, patients)
    return [change for change in changes if change is not None]


def _is_ours_to_stop(job: Job) -> bool:
    """Say whether no worker has it in hand, nor a result of it waits."""
    return job.state is JobState.READY or job.business_status is BusinessStatus.ON_WORKLIST


def retract_written(uow: UnitOfWork, site: Site, patients: Mapping[str, str]) -> None:
    """Have the results marked that are in an EHR, or may be, and are no longer permitted.

    Whoever writes results asks this too, in the transaction that says so: a withdrawal that came
    while one was on its way did not see it. `lock_patients` puts one after the other.

    Args:
        uow: A transaction that holds the lock of these patients.
        site: The site in force, which wants results marked.
        patients: Reference (`Patient/<id>`) by patient key.
    """
    consents = uow.consents.of(list(patients), site.abdm_policy) if patients else {}
    for key, reference in patients.items():
        for written in uow.retractions.written(key):
            route = site.route(written.route)
            if route is None:
                continue
            about = About(reference, written.event_id, uow.now)
            model = Model(written.model, written.model_digest)
            asked = question(route.asks, about, consents[key], model, WRITE)
            decision = about_result(asked, partial(uow.retractions.body, written))
            if not decision.is_permitted:
                uow.retractions.add(written.delivery_id, key, " ".join(decision.reasons))


def _denied(uow: UnitOfWork, site: Site, patients: Mapping[str, str]) -> Iterator[_Denied]:
    consents = uow.consents.of(list(patients), site.abdm_policy) if patients else {}
    for key, reference in patients.items():
        for job in uow.jobs.open_of_patient(key):
            route = site.route(job.route)
            if route is None:
                continue  # a worker stops what has no route
            about = About(reference, job.event_id, uow.now)
            decision = _decide(uow, route, about, consents[key], job)
            if not decision.is_permitted:
                yield _Denied(job, decision)


def _decide(
    uow: UnitOfWork, route: Route, about: About, consents: Sequence[ConsentRecord], job: Job
) -> ConsentDecision:
    """Ask what is to be asked next for an open job: to read for it, or to send its result."""
    model = Model(job.model, job.model_digest)
    result = uow.deliveries.of_jobs([job.id]).get(job.id)
    if result is not None:
        asked = question(route.asks, about, consents, model, WRITE)
        return about_result(asked, partial(uow.deliveries.body, result))
    # What it would read is asked for by whoever unseals it.
    return question(route.asks, about, consents, model, READ).foresee()


def about_result(asked: Question, body: Callable[[], bytes]) -> ConsentDecision:
    """Ask about a stored result, which is opened only where a consent speaks of some data only."""
    foreseen = asked.foresee()
    if not foreseen.is_permitted or not asked.is_limited:
        return foreseen
    try:
        content = StoredReport.read(body()).opened().result
    except Unsealable:
        return foreseen  # what can't be opened can't be sent either
    return asked.decide(content)


def _cancel(
    uow: UnitOfWork, source: Source, denied: _Denied, result: Delivery | None
) -> Advance | None:
    """Cancel a job; None where a worker was faster, which asks before it reads anything."""
    job, decision = denied.job, denied.decision
    reason = " ".join(decision.reasons)
    if result and result.attempt:
        reason = f"{reason} An earlier attempt may have reached the EHR all the same."
    change = Advance(
        job=job,
        state=JobState.CANCELLED,
        business_status=BusinessStatus.CONSENT_WITHDRAWN,
        reason=reason,
        decisions=(decision.as_json("withdraw", uow.now),),
    )
    if not uow.jobs.advance([change]):
        return None
    if result:
        state = DeliveryState.CANCELLED
        uow.deliveries.settle([Settlement(delivery=result, state=state, answer=result.last_answer)])
    _record(uow, source, change, decision)
    return change


def _record(uow: UnitOfWork, source: Source, change: Advance, decision: ConsentDecision) -> None:
    job = change.job
    step = job_step(job, uow.now, source)
    cancelled = job_changed(
        job_step(job, uow.now, source, reason=change.reason),
        "cancel",
        state=change.state,
        business_status=change.business_status,
        details={"route": job.route, "model": job.model},
    )
    user = AuditAgent(job.model, job.model, AgentKind.USER)
    uow.audit(consent_decided(step, decision, stage="withdraw", user=user), cancelled)


# --- what is in flight ----------------------------------------------------------------------


class ResultUnderway(TransientError):
    """The consent is on record and in force; a result that it stops is still on its way to an EHR.

    What was sent can't be called back, and nothing further is sent. The same Consent, sent again,
    is acknowledged when the EHR has answered or its time is over.
    """


def settle_in_flight(
    store: Store,
    site: Site,
    source: Source,
    patients: Mapping[str, str],
    *,
    within_s: float,
) -> list[Advance]:
    """Wait until nothing that consent no longer permits is on its way to an EHR.

    To be called after the transaction of the change has been committed: whoever claims a result
    later sees the change, and whoever claimed it before is seen here.

    Args:
        store: The database.
        site: The site in force.
        source: Who writes the audit events.
        patients: Reference (`Patient/<id>`) by patient key, of those whose consent changed.
        within_s: How long to wait for an EHR.

    Returns:
        What was cancelled after the wait.

    Raises:
        ResultUnderway: The EHR took longer than that.
        StoreUnavailable: The database is away.
    """
    with store.read() as uow:
        flying = _denied_in_flight(uow, site, patients)
    if not flying:
        return []
    _wait_for(store, flying, within_s)
    with store.write() as uow:
        return withdraw(uow, site, source, patients)


def _denied_in_flight(uow: UnitOfWork, site: Site, patients: Mapping[str, str]) -> list[Delivery]:
    flying = uow.deliveries.in_flight(patients.keys())
    if not flying:
        return []
    concerned = {each.patient_key: patients[each.patient_key] for each in flying}
    denied = {each.job.id for each in _denied(uow, site, concerned)}
    return [each for each in flying if each.job_id in denied]


def _wait_for(store: Store, flying: Sequence[Delivery], within_s: float) -> None:
    """Wait until these are in flight no more: settled, or their worker is dead and fenced off."""
    until = time.monotonic() + within_s
    while True:
        with store.read() as uow:
            leases = uow.deliveries.leases(flying)
            if all(lease_ms < uow.now_ms for lease_ms in leases.values()):
                return
        if time.monotonic() > until:
            raise ResultUnderway(_UNDERWAY, retry_after_s=_ASK_AGAIN_S)
        time.sleep(_LOOK_EVERY_S)
