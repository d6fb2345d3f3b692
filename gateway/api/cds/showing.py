"""(3) Show what there is: the calls that ask at the same time look at it in one transaction.

Consent is asked and the reading put on record in that transaction, so that it is on disk before
anything is shown.

A chart that is opened again brings what is here already. Where a call of the same patient was
answered by this process before, it is tried first whether that is so again: then nothing has to be
received, nor read as FHIR, since exactly these bytes were. Anything else goes the usual way.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import TypeVar

from gateway.api.arrivals import base_url_of
from gateway.api.cds.answering import Answered, Answers, OnRecord
from gateway.api.cds.asked import Asked
from gateway.api.edge import Edge
from gateway.api.tally import Tally
from gateway.api.wake import Wake
from gateway.core.cds.accepting import insist_on_subject
from gateway.core.cds.chosen import Triggering, chosen
from gateway.core.cds.request import Brought
from gateway.core.event import facts
from gateway.core.jobs import EventId, Job, JobId
from gateway.store.events import KnownEvent
from gateway.store.group_commit import GroupCommit
from gateway.store.identity import dedupe_key
from gateway.store.unit_of_work import UnitOfWork

_MOST_REMEMBERED = 8000

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True)
class _Version:
    """A resource that a call brings, as it would be known here."""

    dedupe_key: str
    sha256: str
    at: datetime | None


@dataclass(frozen=True)
class _Look:
    """What is to be shown: the results of jobs, or of what a call brings.

    Attributes:
        versions: What it brings, the draft orders first; then nothing is shown unless all of it
            is here.
    """

    asked: Asked
    jobs: tuple[str, ...] = ()
    versions: tuple[_Version, ...] = field(default=(), repr=False)


class Showing:
    """Shows results."""

    def __init__(self, edge: Edge, answers: Answers) -> None:
        self._edge = edge
        self._answers = answers
        self._wake = Wake()
        self._looks = GroupCommit(self._look, limit=64, max_waiting=1000)
        #: Service and patient of calls that were answered in full.
        self._remembered: dict[tuple[str, str], None] = {}
        #: By version of the site, patient and SHA-256: hashes and times, nothing in the clear.
        self._read: dict[tuple[int, str, str], _Version] = {}

    def close(self) -> None:
        """Answer those that wait."""
        self._looks.close()

    async def of(self, asked: Asked, jobs: Sequence[str]) -> Answered:
        """Show the results of jobs; it is on record when this returns.

        Raises:
            StoreUnavailable: It can't be put on record, so it can't be shown.
        """
        answered = await self._wake.answer(self._looks.submit(_Look(asked, tuple(jobs))))
        return self._noted(asked, answered or Answered())

    async def again(self, asked: Asked, brought: Sequence[Brought]) -> Answered | None:
        """Show what a call brings the results of, if all of it is here and nothing is awaited.

        Raises:
            InvalidResource: Something is another patient's.
            StoreUnavailable: It can't be put on record, so it can't be shown.
        """
        if not brought or _name(asked) not in self._remembered:
            return None
        versions = self._versions(asked, brought)
        if versions is None:
            return None
        return await self._wake.answer(self._looks.submit(_Look(asked, versions=versions)))

    def _noted(self, asked: Asked, answered: Answered) -> Answered:
        if not answered.is_waiting:
            _remember(self._remembered, _name(asked), None)
        return answered

    def _versions(self, asked: Asked, brought: Sequence[Brought]) -> tuple[_Version, ...] | None:
        """Name what is brought; None where something can't be read, which is then refused."""
        try:
            return tuple(self._version(asked, each) for each in brought)
        except (AttributeError, KeyError, TypeError, ValueError):
            return None

    def _version(self, asked: Asked, brought: Brought) -> _Version:
        """Name a resource; what was read out of the same bytes for the same patient stays so."""
        digest = sha256(brought.raw).hexdigest()
        name = (asked.site.version, asked.patient_key, digest)
        version = self._read.get(name)
        if version is None:
            system = asked.route.source
            read = facts(brought.content, base_url=base_url_of(asked.site, system))
            insist_on_subject(asked.request, read.patient)
            key = dedupe_key(self._edge.store.sealer, system, read, digest)
            version = _Version(key, digest, read.effective)
            _remember(self._read, name, version)
        return version

    # -- in the thread that commits ----------------------------------------------------------

    def _look(self, looks: Sequence[_Look]) -> list[Answered | None]:
        site, tally = self._edge.site(), Tally()
        with self._edge.store.write() as uow:
            if any(look.versions for look in looks):
                uow.canary.insist()
            wanted = _jobs_of(uow, looks)
            found = OnRecord(uow, site, [job for jobs in wanted for job in jobs or ()])
            answers = [
                self._answer(found, look, jobs, tally)
                for look, jobs in zip(looks, wanted, strict=True)
            ]
        tally.publish()
        return answers

    def _answer(
        self, found: OnRecord, look: _Look, jobs: Sequence[Job] | None, tally: Tally
    ) -> Answered | None:
        if jobs is None:
            return None
        answered = self._answers.of(found, look.asked, jobs)
        if look.versions and answered.is_waiting:
            return None
        for _ in look.versions:
            tally.received(look.asked.route.source, "repeat")
        found.uow.audit(*answered.records)
        return answered


def _remember(kept: dict[Key, Value], key: Key, value: Value) -> None:
    """Keep a value; the oldest makes room."""
    if len(kept) >= _MOST_REMEMBERED:
        del kept[next(iter(kept))]
    kept[key] = value


def _name(asked: Asked) -> tuple[str, str]:
    return asked.service.id, asked.patient_key


def _jobs_of(uow: UnitOfWork, looks: Sequence[_Look]) -> list[Sequence[Job] | None]:
    """Give the jobs that each look shows; None where what it brings is not all here."""
    ids = {job_id for look in looks for job_id in look.jobs}
    named = uow.jobs.get_many(ids) if ids else {}
    versions = [each for look in looks for each in look.versions]
    if not versions:
        return [[named[JobId(job_id)] for job_id in look.jobs] for look in looks]
    known = uow.events.known({each.dedupe_key for each in versions})
    erased = uow.erasures.closed({look.asked.patient_key for look in looks if look.versions})
    jobs = uow.jobs.of_events([each.id for each in known.values()])
    return [
        _recalled(look, known, jobs, erased)
        if look.versions
        else [named[JobId(job_id)] for job_id in look.jobs]
        for look in looks
    ]


def _recalled(
    look: _Look,
    known: Mapping[str, KnownEvent],
    jobs: Mapping[EventId, Sequence[Job]],
    erased: Collection[str],
) -> Sequence[Job] | None:
    events = [known.get(each.dedupe_key) for each in look.versions]
    here = [
        (version, event)
        for version, event in zip(look.versions, events, strict=True)
        if event is not None and event.is_current and event.sha256 == version.sha256
    ]
    if len(here) < len(events) or look.asked.patient_key in erased:
        return None
    route = look.asked.route.name
    orders = len(look.asked.request.orders)
    triggering = (
        Triggering(
            index < orders,
            version.at,
            [job for job in jobs.get(EventId(event.id), ()) if job.route == route],
        )
        for index, (version, event) in enumerate(here)
    )
    return chosen(triggering)
