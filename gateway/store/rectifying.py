"""Rectify: what was computed from data that was wrong is stopped, or marked in the EHR.

The EHR is the source: it corrects the resource and sends the new version, which supersedes the old
and runs anew where a route wants it. What the old version had led to is found here:

* jobs that it triggered, and jobs whose model read it (the log names every version that was read);
* results of these that are in an EHR are put on the list of `workers.retracting`, which marks them
  as entered in error; results that wait are cancelled.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from gateway.core.audit import Step
from gateway.core.audit_entry import read_entry
from gateway.core.audit_rights import changed
from gateway.core.clock import new_id
from gateway.core.delivery import DeliveryState
from gateway.core.errors import NotFound
from gateway.core.jobs import Advance, BusinessStatus, Job, JobState
from gateway.core.retraction import CORRECTED
from gateway.store.audit_search import AuditFilter
from gateway.store.deliveries import Settlement
from gateway.store.identity import named_key
from gateway.store.registering import Actor, stopped
from gateway.store.tables import events
from gateway.store.unit_of_work import UnitOfWork

_PAGE = 1000


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """Versions of a resource that are wrong.

    Attributes:
        key: Keyed hash of the resource.
        event_ids: The received versions.
        names: Keyed hashes by which the log names these versions where a model read them.
        is_corrected: Whether a newer version is in force, none of these.
    """

    patient_key: str
    key: str
    event_ids: frozenset[str]
    names: frozenset[str]
    is_corrected: bool


@dataclass(frozen=True, kw_only=True)
class Affected:
    """What a wrong version led to.

    Attributes:
        written: Ids of deliveries that are in an EHR, or may be, and are not marked yet.
        waiting: Jobs that still run or wait.
    """

    wrong: Wrong
    jobs: Sequence[Job]
    written: Sequence[str]
    waiting: Sequence[Job]


def wrong_versions(
    uow: UnitOfWork, system: str, resource: tuple[str, str], version: str | None
) -> Wrong:
    """Find the wrong versions of a resource.

    Args:
        uow: Any transaction.
        system: System of the site file that it came from.
        resource: Its type and id.
        version: The one that is wrong; None for every version before the one in force, or that
            one where there is no other.

    Raises:
        NotFound: It was never received, or not in this version, or it names no patient.
    """
    key = named_key(uow.sealer, system, *resource)
    columns = events.c
    query = sa.select(
        columns.id, columns.version_id, columns.is_current, columns.patient_key
    ).where(columns.resource_key == key)
    known = uow.connection.execute(query.order_by(columns.id)).all()
    older = [row for row in known if not row.is_current] or known
    wrong = older if version is None else [row for row in known if row.version_id == version]
    patient = next((row.patient_key for row in wrong if row.patient_key), None)
    if patient is None:
        raise NotFound("No such version of this resource was received, or it names no patient.")
    plain = "/".join(resource)
    names = {f"{plain}/_history/{row.version_id}" if row.version_id else plain for row in wrong}
    return Wrong(
        patient_key=patient,
        key=key,
        event_ids=frozenset(row.id for row in wrong),
        names=frozenset(uow.sealer.keyed_hash("resource-version", system, each) for each in names),
        is_corrected=not any(row.is_current for row in wrong),
    )


def affected(uow: UnitOfWork, wrong: Wrong) -> Affected:
    """Find what wrong versions led to."""
    ids = {job.id for found in uow.jobs.of_events(wrong.event_ids).values() for job in found}
    found = uow.jobs.get_many(ids | set(_readers(uow, wrong)))
    deliveries = uow.deliveries.of_jobs(list(found))
    written = {each.delivery_id for each in uow.retractions.written(wrong.patient_key)}
    return Affected(
        wrong=wrong,
        jobs=sorted(found.values(), key=lambda job: job.id),
        written=sorted(each.id for each in deliveries.values() if each.id in written),
        waiting=[job for job in found.values() if not job.state.is_final],
    )


def _readers(uow: UnitOfWork, wrong: Wrong) -> Iterator[str]:
    """Give the jobs whose model read a wrong version, as the log tells."""
    before: int | None = None
    while True:
        page = uow.audit_log.search(
            AuditFilter(
                patient_key=wrong.patient_key, events=("infer",), before_seq=before, limit=_PAGE
            )
        )
        for row in page:
            if row.job_id and wrong.names & read_entry(row.seq, row.event, row.body).inputs:
                yield row.job_id
        if len(page) < _PAGE:
            return
        before = page[-1].seq


def rectify(
    uow: UnitOfWork, found: Affected, ground: tuple[str, str], actor: Actor
) -> tuple[int, int]:
    """Have the affected results marked, and stop what waits; all of it is on record.

    Args:
        uow: Write transaction.
        found: What is affected, found in the same transaction.
        ground: Reason and law; no patient is named in them.
        actor: Who does it.

    Returns:
        How many results are to be marked in an EHR, and how many jobs were stopped.
    """
    reason, law = ground
    for delivery_id in found.written:
        uow.retractions.add(delivery_id, found.wrong.patient_key, f"{CORRECTED} {reason}")
    stopped = _stop(uow, found.waiting, actor)
    step = Step(
        id=new_id(),
        recorded=uow.now,
        source=actor.source,
        patient_key=found.wrong.patient_key,
    )
    counts = {"results-to-be-marked": str(len(found.written)), "jobs-stopped": str(stopped)}
    details = {**counts, "why": reason, "law": law}
    uow.audit(changed(step, "rectify", by=actor.by, about=found.wrong.key, details=details))
    return len(found.written), stopped


def _stop(uow: UnitOfWork, waiting: Sequence[Job], actor: Actor) -> int:
    """Cancel what waits; what a worker holds asks itself whether its event is the newest."""
    results = uow.deliveries.waiting_of(waiting)
    stopping = [job for job in waiting if job.state is JobState.READY or job.id in results]
    still = uow.jobs.still_held(stopping)
    changes = [
        Advance(
            job=job,
            state=JobState.CANCELLED,
            business_status=BusinessStatus.SUPERSEDED,
            reason=CORRECTED,
        )
        for job in still
    ]
    uow.jobs.advance(changes)
    uow.deliveries.settle(
        [
            Settlement(
                delivery=results[job.id],
                state=DeliveryState.CANCELLED,
                answer=results[job.id].last_answer,
            )
            for job in still
            if job.id in results
        ]
    )
    uow.audit(*(stopped(uow, change, actor) for change in changes))
    return len(changes)
