"""(4.1) (6.1) Before jobs and results are claimed: which of them wait for their patients' consents.

While it is not known what an EHR changed of its Consents (`gateway.catching_up`), what came from it
is not claimed. It stays as it is, is looked at again later, and no attempt of it counts.
"""

from collections.abc import Mapping, Sequence

from adapters.site import Site
from gateway.catching_up import WAITS, Lag, lag
from gateway.core.delivery import Circuit, Delivery, DeliveryState
from gateway.core.jobs import Advance, BusinessStatus, Job, JobState
from gateway.store.deliveries import Settlement
from gateway.store.unit_of_work import UnitOfWork


def jobs_free(
    uow: UnitOfWork, site: Site, job_ids: Sequence[str], *, began_ms: int
) -> Sequence[str]:
    """Give the jobs that may be claimed; the others are put off.

    Args:
        uow: The transaction that claims.
        site: The site in force; it is read before, since a transaction holds up all others.
        job_ids: The jobs rung for.
        began_ms: When this process began.
    """
    behind = lag(uow, site, began_ms=began_ms)
    if not behind.waits_ms:
        return job_ids
    ready = [each for each in uow.jobs.get_many(job_ids).values() if each.state is JobState.READY]
    # What was claimed before was put off, most often since its EHR did not answer.
    again = [(each, site.route(each.route)) for each in ready if each.attempt]
    tried: dict[str, str] = {each.id: route.source for each, route in again if route}
    held = _held(uow, site, behind, {each.id: each for each in ready}, tried)
    uow.jobs.advance([_put_off(each, held[each.id]) for each in ready if each.id in held])
    return [each for each in job_ids if each not in held]


def results_free(
    uow: UnitOfWork, site: Site, delivery_ids: Sequence[str], *, began_ms: int
) -> Sequence[str]:
    """Give the results that may be claimed; the others are put off.

    Args:
        uow: The transaction that claims.
        site: The site in force; it is read before, since a transaction holds up all others.
        delivery_ids: The deliveries rung for.
        began_ms: When this process began.
    """
    behind = lag(uow, site, began_ms=began_ms)
    if not behind.waits_ms:
        return delivery_ids
    pending = [
        each
        for each in uow.deliveries.get_many(delivery_ids)
        if each.state is DeliveryState.PENDING
    ]
    jobs = uow.jobs.get_many({each.job_id for each in pending})
    belonging = {each.id: jobs[each.job_id] for each in pending}
    tried = {each.id: each.system for each in pending}
    held = _held(uow, site, behind, belonging, tried)
    uow.deliveries.settle([_kept(each, held[each.id]) for each in pending if each.id in held])
    return [each for each in delivery_ids if each not in held]


def _held(
    uow: UnitOfWork, site: Site, behind: Lag, jobs: Mapping[str, Job], tried: Mapping[str, str]
) -> Mapping[str, int]:
    """Give which wait, and when it is looked again.

    Args:
        uow: The transaction that claims.
        site: The site in force.
        behind: Of which systems it is not known what changed.
        jobs: What may wait: each by the job that it is or belongs to.
        tried: The system of each that waits to be tried with it, which may have been away.
    """
    circuits = uow.deliveries.circuits()
    events = uow.events.get_many({job.event_id for job in jobs.values()})
    held: dict[str, int] = {}
    for name, job in jobs.items():
        route, circuit = site.route(job.route), circuits.get(tried.get(name, ""), Circuit())
        if route is None:
            continue  # who claims it finds that its route was removed
        event = events[job.event_id]
        again_ms = behind.look_again_ms(event, route, away_ms=circuit.open_until_ms)
        if again_ms is not None:
            held[name] = again_ms
    return held


def _put_off(job: Job, again_ms: int) -> Advance:
    return Advance(
        job=job,
        state=JobState.READY,
        business_status=BusinessStatus.QUEUED,
        reason=WAITS,
        not_before_ms=again_ms,
    )


def _kept(delivery: Delivery, again_ms: int) -> Settlement:
    return Settlement(
        delivery=delivery,
        state=DeliveryState.PENDING,
        answer=delivery.last_answer,
        next_attempt_ms=again_ms,
    )
