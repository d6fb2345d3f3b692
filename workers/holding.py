"""(4.1) (6.1) Before jobs and results are claimed: which of them wait for their patients' consents.

While it is not known what an EHR changed of its Consents (`gateway.catching_up`), what came from it
is not claimed. It stays as it is, is looked at again later, and no attempt of it counts.
"""

from collections.abc import Mapping, Sequence

from gateway.catching_up import WAITS, Lag, lag
from gateway.core.delivery import Delivery, DeliveryState
from gateway.core.jobs import Advance, BusinessStatus, Job, JobState
from gateway.store.deliveries import Settlement
from gateway.store.unit_of_work import UnitOfWork
from workers.ports import Ports


def jobs_free(uow: UnitOfWork, ports: Ports, job_ids: Sequence[str]) -> Sequence[str]:
    """Give the jobs that may be claimed; the others are put off.

    Args:
        uow: The transaction that claims.
        ports: The outside of the worker.
        job_ids: The jobs rung for.
    """
    behind = _behind(uow, ports)
    if not behind.waits_ms:
        return job_ids
    ready = [each for each in uow.jobs.get_many(job_ids).values() if each.state is JobState.READY]
    held = _held(uow, ports, behind, {each.id: each for each in ready})
    uow.jobs.advance([_put_off(each, held[each.id]) for each in ready if each.id in held])
    return [each for each in job_ids if each not in held]


def results_free(uow: UnitOfWork, ports: Ports, delivery_ids: Sequence[str]) -> Sequence[str]:
    """Give the results that may be claimed; the others are put off.

    Args:
        uow: The transaction that claims.
        ports: The outside of the worker.
        delivery_ids: The deliveries rung for.
    """
    behind = _behind(uow, ports)
    if not behind.waits_ms:
        return delivery_ids
    pending = [
        each
        for each in uow.deliveries.get_many(delivery_ids)
        if each.state is DeliveryState.PENDING
    ]
    jobs = uow.jobs.get_many({each.job_id for each in pending})
    held = _held(uow, ports, behind, {each.id: jobs[each.job_id] for each in pending})
    uow.deliveries.settle([_kept(each, held[each.id]) for each in pending if each.id in held])
    return [each for each in delivery_ids if each not in held]


def _behind(uow: UnitOfWork, ports: Ports) -> Lag:
    return lag(uow, ports.site(), began_ms=ports.began_ms)


def _held(uow: UnitOfWork, ports: Ports, behind: Lag, jobs: Mapping[str, Job]) -> Mapping[str, int]:
    """Give which wait, each by the job that it is or belongs to, and when it is looked again."""
    site = ports.site()
    events = uow.events.get_many({job.event_id for job in jobs.values()})
    return {
        name: again_ms
        for name, job in jobs.items()
        if (route := site.route(job.route))
        and (again_ms := behind.look_again_ms(events[job.event_id], route)) is not None
    }


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
