"""(2.7) A patient's consent changed: what it no longer permits stops, in the same transaction.

1. Jobs that wait, and results that wait for the EHR, are cancelled here and now.
2. What a worker holds is left to it: it asks for consent itself before it reads or sends.

For whoever changes consent: a Consent that arrives, a person at the command line, a timer.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from adapters.site import Site
from gateway.core.audit import AgentKind, AuditAgent, Source, Step, consent_decided, job_changed
from gateway.core.clock import new_id
from gateway.core.consent import ConsentDecision, ConsentRequest, decide
from gateway.core.delivery import Delivery, DeliveryState
from gateway.core.jobs import Advance, BusinessStatus, Job, JobState
from gateway.store.deliveries import Settlement
from gateway.store.unit_of_work import UnitOfWork


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
    denied = list(_denied(uow, site, patients))
    results = uow.deliveries.waiting_of([each.job for each in denied])
    stopping = [e for e in denied if e.job.state is JobState.READY or e.job.id in results]
    cancelled = (_cancel(uow, source, each, results.get(each.job.id)) for each in stopping)
    return [change for change in cancelled if change is not None]


def _denied(uow: UnitOfWork, site: Site, patients: Mapping[str, str]) -> Iterator[_Denied]:
    consents = uow.consents.of(list(patients), site.abdm_policy) if patients else {}
    for key, reference in patients.items():
        for job in uow.jobs.open_of_patient(key):
            route = site.route(job.route)
            if route is None:
                continue  # a worker stops what has no route
            request = ConsentRequest(reference, route.purpose, uow.now, use=job.event_id)
            decision = decide(request, consents[key], default=route.consent_default)
            if not decision.is_permitted:
                yield _Denied(job, decision)


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
    step = Step(
        id=new_id(),
        recorded=uow.now,
        source=source,
        patient_key=job.patient_key,
        job_id=job.id,
        event_id=job.event_id,
    )
    cancelled = job_changed(
        replace(step, id=new_id(), reason=change.reason),
        "cancel",
        state=change.state,
        business_status=change.business_status,
        details={"route": job.route, "model": job.model},
    )
    user = AuditAgent(job.model, job.model, AgentKind.USER)
    uow.audit(consent_decided(step, decision, stage="withdraw", user=user), cancelled)
