"""The jobs table as a queue: add, claim, advance, rescue.

Rules:

1. One job per event, route and model digest; adding it again changes nothing.
2. A claim is one conditional UPDATE, so that of two workers only one gets a job. It counts
   `attempt` up, and `attempt` fences every later write: who woke late changes nothing.
3. A lease runs out. Whoever is found without a living holder becomes ready again.
4. Every change is checked (`check_advance`); a state may stay while its explanation changes.

The caller writes the AuditRecord of a change in the same unit of work.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import Insert, Row, bindparam, func, literal, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from gateway.core.canary import CANARY
from gateway.core.jobs import (
    Advance,
    BusinessStatus,
    EventId,
    Job,
    JobId,
    JobState,
    NewJob,
    check_advance,
)
from gateway.core.lanes import Lane
from gateway.store.engine import execute_all
from gateway.store.lines import Queue
from gateway.store.tables import jobs

if TYPE_CHECKING:
    from gateway.store.unit_of_work import UnitOfWork

# Both databases use the partial index ix_jobs_open only where its condition stands literally.
_IS_OPEN = text("jobs.state in ('ready', 'in-progress')")
_COLUMNS = tuple(
    jobs.c[name]
    for name in (
        "id",
        "event_id",
        "route",
        "model",
        "model_digest",
        "state",
        "business_status",
        "reason",
        "patient_key",
        "attempt",
        "created_ms",
        "updated_ms",
        "decisions",
        "lane",
        "told_ms",
    )
)
_QUEUE = Queue(
    is_waiting=(_IS_OPEN, jobs.c.state == JobState.READY),
    lane=jobs.c.lane,
    name=jobs.c.route,
    at=jobs.c.available_ms,
    shown=(jobs.c.id, jobs.c.model_digest),
)
_LINES, _HEAD = _QUEUE.lines(), _QUEUE.head()
_CLAIM = (
    update(jobs)
    .where(
        jobs.c.id.in_(bindparam("ids", expanding=True)),
        jobs.c.state == JobState.READY,
        jobs.c.available_ms <= bindparam("now"),
    )
    .values(
        state=JobState.IN_PROGRESS,
        business_status=BusinessStatus.RUNNING,
        attempt=jobs.c.attempt + 1,
        lease_owner=bindparam("owner"),
        lease_until_ms=bindparam("until"),
        updated_ms=bindparam("now"),
    )
    .returning(*_COLUMNS)
)
_HASTEN = (
    update(jobs)
    .where(
        jobs.c.id.in_(bindparam("ids", expanding=True)),
        jobs.c.state == JobState.READY,
        jobs.c.lane > bindparam("to"),
    )
    .values(lane=bindparam("to"))
)
_TELL = (
    update(jobs)
    .where(jobs.c.id.in_(bindparam("ids", expanding=True)), jobs.c.state == JobState.READY)
    .values(told_ms=bindparam("now"))
)
# In order of id, so that two workers never wait for each other's rows.
_HELD = (
    select(jobs.c.id, jobs.c.state, jobs.c.attempt)
    .where(jobs.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(jobs.c.id)
    .with_for_update()
)
_ADVANCE = (
    update(jobs)
    .where(
        jobs.c.id == bindparam("held_id"),
        jobs.c.state == bindparam("held_state"),
        jobs.c.attempt == bindparam("held_attempt"),
    )
    .values(
        state=bindparam("new_state"),
        business_status=bindparam("new_business_status"),
        reason=bindparam("new_reason"),
        decisions=bindparam("new_decisions"),
        available_ms=bindparam("new_available_ms"),
        updated_ms=bindparam("now"),
        lease_owner=None,
        lease_until_ms=None,
    )
)
_GET_MANY = select(*_COLUMNS).where(jobs.c.id.in_(bindparam("ids", expanding=True)))
_BEYOND = select(jobs.c.id).where(
    jobs.c.id.in_(bindparam("ids", expanding=True)),
    jobs.c.business_status.not_in(bindparam("statuses", expanding=True)),
)
_OF_EVENTS = (
    select(*_COLUMNS)
    .where(jobs.c.event_id.in_(bindparam("ids", expanding=True)))
    .order_by(jobs.c.id)
)
_EXPIRED = select(*_COLUMNS).where(
    jobs.c.state == JobState.IN_PROGRESS,
    jobs.c.lease_until_ms < bindparam("now"),
)
_HELD_BY = select(*_COLUMNS).where(
    jobs.c.lease_until_ms.is_not(None),
    jobs.c.state == JobState.IN_PROGRESS,
    jobs.c.lease_owner == bindparam("owner"),
)
_OPEN_OF_PATIENT = select(*_COLUMNS).where(
    jobs.c.patient_key == bindparam("patient_key"),
    or_(
        jobs.c.state.in_((JobState.REQUESTED, JobState.READY, JobState.IN_PROGRESS)),
        jobs.c.business_status == BusinessStatus.ON_WORKLIST,
    ),
)
_OPEN_OF_MODEL = (
    select(jobs.c.id)
    .where(
        _IS_OPEN,
        jobs.c.state.in_((JobState.READY, JobState.IN_PROGRESS)),
        jobs.c.model_digest == bindparam("digest"),
    )
    .order_by(jobs.c.id)
)
_NOT_HERS = jobs.c.route.not_like(f"%{CANARY}%")
_COUNTS = (
    select(jobs.c.state, jobs.c.business_status, func.count())
    .where(_NOT_HERS)
    .group_by(jobs.c.state, jobs.c.business_status)
)
_WAITING = select(func.count()).select_from(
    select(literal(1))
    .where(_IS_OPEN, jobs.c.state == JobState.READY)
    .limit(bindparam("most"))
    .subquery("waiting")
)


@dataclass(frozen=True, kw_only=True)
class JobFilter:
    """What a listing of jobs shows; None means any.

    Attributes:
        with_canary: Whether those of the canary are shown too.
        before_id: Show only jobs made before this one: the next page of a listing.
        limit: Most rows.
    """

    state: JobState | None = None
    business_status: BusinessStatus | None = None
    route: str | None = None
    event_id: str | None = None
    patient_key: str | None = None
    with_canary: bool = False
    before_id: str | None = None
    limit: int = 100


@dataclass(frozen=True)
class ReadyJob:
    """A job that may be claimed.

    Attributes:
        since_ms: From when on it could be.
    """

    id: JobId
    model_digest: str
    since_ms: int


class Jobs:
    """Jobs within one unit of work."""

    def __init__(self, uow: "UnitOfWork") -> None:
        self._uow = uow

    def add(self, new: Sequence[NewJob]) -> None:
        """Add jobs; one whose event, route and model digest are there already is ignored."""
        rows = [_new_row(job, self._uow.now_ms) for job in new]
        connection = self._uow.connection
        execute_all(connection, _INSERT[connection.dialect.name], rows)

    def get(self, job_id: str) -> Job | None:
        """Give one job, None when there is no such job."""
        return self.get_many([job_id]).get(JobId(job_id))

    def get_many(self, job_ids: Collection[str]) -> dict[JobId, Job]:
        """Give the jobs of these ids that exist."""
        return {job.id: job for job in self._jobs(_GET_MANY, ids=list(job_ids))}

    def beyond(self, statuses: Collection[BusinessStatus], job_ids: Collection[str]) -> list[str]:
        """Give those of the jobs that exist and stand in none of these business statuses."""
        values = {"ids": list(job_ids), "statuses": list(statuses)}
        return list(self._uow.connection.scalars(_BEYOND, values))

    def of_events(self, event_ids: Collection[str]) -> dict[EventId, list[Job]]:
        """Give the jobs that events caused, oldest first; an event without jobs is absent."""
        found: dict[EventId, list[Job]] = {}
        for job in self._jobs(_OF_EVENTS, ids=list(event_ids)):
            found.setdefault(job.event_id, []).append(job)
        return found

    def find(self, wanted: JobFilter) -> list[Job]:
        """List jobs, newest first."""
        query = select(*_COLUMNS).order_by(jobs.c.id.desc()).limit(wanted.limit)
        for name in ("state", "business_status", "route", "event_id", "patient_key"):
            value = getattr(wanted, name)
            if value is not None:
                query = query.where(jobs.c[name] == value)
        # Who asks for her, an event or a route of hers, is shown what there is.
        if not (wanted.with_canary or wanted.patient_key or wanted.event_id or wanted.route):
            query = query.where(_NOT_HERS)
        if wanted.before_id is not None:
            query = query.where(jobs.c.id < wanted.before_id)
        return [_job(row) for row in self._uow.connection.execute(query)]

    def lines(self) -> list[tuple[Lane, str]]:
        """Give lane and route of every line in which a job is ready, now or at its time."""
        return [(Lane(row[0]), row[1]) for row in self._uow.connection.execute(_LINES)]

    def head(self, line: tuple[Lane, str], limit: int) -> list[ReadyJob]:
        """Give the jobs of a line that may be claimed now, the longest waiting first."""
        lane, name = line
        values = {"lane": lane, "name": name, "now": self._uow.now_ms, "most": limit}
        return [ReadyJob(*row) for row in self._uow.connection.execute(_HEAD, values)]

    def oldest_ready_ms(self) -> int | None:
        """Say since when the longest waiting job may be claimed, None when none may."""
        first = [self.head(line, 1) for line in self.lines()]
        return min((found[0].since_ms for found in first if found), default=None)

    def waiting(self, most: int) -> int:
        """Count the ready jobs, the depth of the queue, as far as a number."""
        return self._uow.connection.scalar(_WAITING, {"most": most}) or 0

    def claim(self, job_ids: Collection[str], owner: str, *, lease_ms: int) -> list[Job]:
        """Take jobs for a worker; only those that are still ready are given.

        Args:
            job_ids: The jobs rung for.
            owner: Name of the worker.
            lease_ms: How long the worker may hold them, in milliseconds.
        """
        now = self._uow.now_ms
        return self._jobs(_CLAIM, ids=list(job_ids), owner=owner, now=now, until=now + lease_ms)

    def hasten(self, job_ids: Collection[str], lane: Lane, *, is_told: bool = False) -> int:
        """Move jobs that wait up into a more urgent lane; give how many.

        Args:
            job_ids: The jobs.
            lane: Where to.
            is_told: Whether the EHR has just said all that it has of what their model reads.
        """
        if is_told:
            values = {"ids": list(job_ids), "now": self._uow.now_ms}
            self._uow.connection.execute(_TELL, values)
        return self._uow.connection.execute(_HASTEN, {"ids": list(job_ids), "to": lane}).rowcount

    def still_held(self, held: Collection[Job]) -> list[Job]:
        """Give those of the jobs that nobody took or moved since they were claimed or read.

        They stay locked until the unit of work ends, so that an `advance` of them succeeds.
        """
        rows = self._uow.connection.execute(_HELD, {"ids": [job.id for job in held]})
        now = {row.id: (row.state, row.attempt) for row in rows}
        return [job for job in held if now.get(job.id) == (job.state, job.attempt)]

    def advance(self, changes: Sequence[Advance]) -> int:
        """Move jobs along their state machine and give up their leases.

        Returns:
            How many moved; a job that another took or moved meanwhile does not.

        Raises:
            InvalidTransition: The state machine has no such arrow.
        """
        rows = [_advance_row(change, self._uow.now_ms) for change in changes]
        return execute_all(self._uow.connection, _ADVANCE, rows)

    def expired(self) -> list[Job]:
        """Give the jobs whose lease has run out: their worker died or hangs."""
        return self._jobs(_EXPIRED, now=self._uow.now_ms)

    def held_by(self, owner: str) -> list[Job]:
        """Give the jobs that a worker holds."""
        return self._jobs(_HELD_BY, owner=owner)

    def open_of_patient(self, patient_key: str) -> list[Job]:
        """Give the jobs of a patient that are not finished, or whose result nobody signed off."""
        return self._jobs(_OPEN_OF_PATIENT, patient_key=patient_key)

    def open_of_model(self, digest: str, *, at_once: int) -> Iterator[list[Job]]:
        """Give the open jobs of a model, the oldest first, some at a time."""
        ids = self._uow.connection.scalars(_OPEN_OF_MODEL, {"digest": digest}).all()
        for start in range(0, len(ids), at_once):
            found = self.get_many(ids[start : start + at_once]).values()
            still_open = [job for job in found if not job.state.is_final]
            yield sorted(still_open, key=lambda job: job.id)

    def counts(self) -> dict[tuple[JobState, BusinessStatus], int]:
        """Count the jobs by state and business status, without those of the canary."""
        rows = self._uow.connection.execute(_COUNTS)
        return {(JobState(row[0]), BusinessStatus(row[1])): row[2] for row in rows}

    def _jobs(self, statement: Any, **values: object) -> list[Job]:  # noqa: ANN401 - any SQL
        return [_job(row) for row in self._uow.connection.execute(statement, values)]


def rescue(lost: Iterable[Job], *, now_ms: int, budget_s: float) -> list[Advance]:
    """Say what becomes of jobs whose worker is gone: they run again, unless they are too old.

    Args:
        lost: The jobs.
        now_ms: The present.
        budget_s: Age at which a job is given up: what kills every worker must not live for ever.
    """
    return [_rescued(job, is_spent=now_ms - job.created_ms >= budget_s * 1000) for job in lost]


def _rescued(job: Job, *, is_spent: bool) -> Advance:
    if is_spent:
        return Advance(
            job=job,
            state=JobState.FAILED,
            business_status=BusinessStatus.INFERENCE_FAILED,
            reason="Its workers stopped again and again; it was given up.",
        )
    return Advance(
        job=job,
        state=JobState.READY,
        business_status=BusinessStatus.QUEUED,
        reason="Its worker stopped; it runs again.",
    )


def advanced(change: Advance) -> Job:
    """Give the job as it is after a change."""
    return replace(
        change.job,
        state=change.state,
        business_status=change.business_status,
        reason=change.reason,
        decisions=(*change.job.decisions, *change.decisions),
    )


def _new_row(job: NewJob, now_ms: int) -> dict[str, object]:
    return {
        "id": job.id,
        "event_id": job.event_id,
        "route": job.route,
        "model": job.model,
        "model_digest": job.model_digest,
        "state": job.state,
        "business_status": job.business_status,
        "reason": job.reason,
        "patient_key": job.patient_key,
        "available_ms": now_ms,
        "lane": job.lane,
        "decisions": _packed(job.decisions),
        "created_ms": now_ms,
        "updated_ms": now_ms,
        "told_ms": now_ms if job.is_told else None,
    }


def _advance_row(change: Advance, now_ms: int) -> dict[str, object]:
    job = change.job
    check_advance(change)
    return {
        "held_id": job.id,
        "held_state": job.state,
        "held_attempt": job.attempt,
        "new_state": change.state,
        "new_business_status": change.business_status,
        "new_reason": change.reason,
        "new_decisions": _packed((*job.decisions, *change.decisions)),
        # Who runs again keeps the place in its line that its age gives it; if it was made under a
        # clock that was ahead, it waits for nothing.
        "new_available_ms": max(change.not_before_ms, min(job.created_ms, now_ms)),
        "now": now_ms,
    }


def _packed(decisions: Sequence[Mapping[str, object]]) -> str:
    return orjson.dumps(list(decisions)).decode()


def _job(row: Row[Any]) -> Job:
    return Job(
        id=JobId(row.id),
        event_id=EventId(row.event_id),
        route=row.route,
        model=row.model,
        model_digest=row.model_digest,
        state=JobState(row.state),
        business_status=BusinessStatus(row.business_status),
        reason=row.reason,
        patient_key=row.patient_key,
        attempt=row.attempt,
        created_ms=row.created_ms,
        updated_ms=row.updated_ms,
        decisions=tuple(orjson.loads(row.decisions)),
        lane=Lane(row.lane),
        told_ms=row.told_ms,
    )


_UNIQUE = ("event_id", "route", "model_digest")
_INSERT: dict[str, Insert] = {
    "sqlite": sqlite.insert(jobs).on_conflict_do_nothing(index_elements=_UNIQUE),
    "postgresql": postgresql.insert(jobs).on_conflict_do_nothing(index_elements=_UNIQUE),
}
