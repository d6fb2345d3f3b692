"""(4.2) Open a micro-batch: what may still be used is unsealed, what may not ends here.

Asked in this order: does the route still exist, is the event still the newest version of its
resource, is the model in service, does the patient still permit it, is the model here. Only then is
anything unsealed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import orjson

from gateway import telemetry
from gateway.core.audit import JobEvent
from gateway.core.clock import to_ms
from gateway.core.consent import READ, ConsentDecision, Question
from gateway.core.errors import GatewayError, NotFound, TransientError
from gateway.core.jobs import BusinessStatus, Job
from gateway.core.routing import Route
from gateway.store.events import Event, KeptResource
from gateway.store.unit_of_work import UnitOfWork
from models.manifest import Manifest
from workers import consents, standing
from workers.attached import Received, Whose
from workers.cases import MOST_ATTEMPTS, Case, Ending, Json, denied, ended, failed, postponed
from workers.documents import kind_of
from workers.masking import without_masked
from workers.ports import LoadedModel, Ports, Round, new_round
from workers.readings import LocalCodes
from workers.standing import Verdict

log = telemetry.get_logger()

# `effective` of a date without a time is a span of up to 50 hours; the record keeps its end.
_SLACK_H = 50
_MODEL_RETRY_S = 10.0
#: So long a job waits for the files of its model, however often a worker died meanwhile.
_MODEL_PATIENCE_S = 600.0

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Batch:
    """A micro-batch under way.

    Attributes:
        endings: What became of the cases that have ended.
        answered: Systems that answered a search.
        away: Systems that did not, and how.
    """

    round: Round
    ports: Ports
    endings: list[Ending] = field(default_factory=list)
    answered: set[str] = field(default_factory=set)
    away: dict[str, TransientError] = field(default_factory=dict)

    @property
    def is_late(self) -> bool:
        """Whether half of the lease is over: what takes long is then left to another batch."""
        return to_ms(self.ports.clock()) > self.round.now_ms + self.ports.lease_ms // 2

    def each(self, jobs: Iterable[T], of: Callable[[T], Job], do: Callable[[T], R]) -> list[R]:
        """Do something for each; who fails ends alone."""
        done = []
        for each in jobs:
            try:
                done.append(do(each))
            except Exception as error:  # noqa: BLE001 - one bad job never sinks its batch
                self.fail(of(each), error)
        return done

    def fail(self, job: Job, error: Exception) -> None:
        """End a job that met an error."""
        if not isinstance(error, GatewayError):
            log.error("job-error", job_id=job.id, attempt=job.attempt, exc_info=error)
        self.endings.append(failed(job, self.round, error, self.ports))


def open_cases(claimed: Sequence[Job], ports: Ports) -> tuple[Batch, list[Case]]:
    """Let pass what may be used, and unseal it; everything else ends here.

    Raises:
        StoreUnavailable: The database is away.
    """
    with ports.store.read() as uow:
        batch = Batch(new_round(uow, ports), ports)
        opening = _Opening(uow, batch, claimed)
        passing = [each for each in batch.each(claimed, _itself, opening.ask) if each is not None]
        records = opening.records(passing)
        opened = batch.each(passing, _job_of, lambda each: opening.unseal(each, records))
    return batch, [case for case in opened if case is not None]


@dataclass(frozen=True)
class _Passing:
    """A job that may go on; nothing of it is unsealed yet."""

    job: Job
    event: Event
    route: Route
    model: LoadedModel
    decision: ConsentDecision
    question: Question

    @property
    def since_ms(self) -> int:
        """How far back the patient's record can matter."""
        at_ms = self.event.effective_ms or self.event.received_ms
        look_back = timedelta(hours=self.model.manifest.look_back_h + _SLACK_H)
        return at_ms - int(look_back.total_seconds() * 1000)


def _itself(job: Job) -> Job:
    return job


def _job_of(passing: _Passing) -> Job:
    return passing.job


class _Opening:
    """Opens the cases of a batch within one view of the database."""

    def __init__(self, uow: UnitOfWork, batch: Batch, jobs: Sequence[Job]) -> None:
        self._uow = uow
        self._batch = batch
        self._events = uow.events.get_many({job.event_id for job in jobs})
        patients = {job.patient_key for job in jobs if job.patient_key}
        self._consents = uow.consents.of(patients, batch.round.site.abdm_policy)
        self._standings = standing.standings(uow, jobs)
        self._opened: dict[str, Json] = {}
        uow.patient_keys.load(patients)

    def ask(self, job: Job) -> _Passing | None:
        """Let a job pass, or end it here and give None."""
        round_, ports = self._batch.round, self._batch.ports
        event, route = self._events[job.event_id], round_.site.route(job.route)
        if route is None:
            self._end(job, "cancel", BusinessStatus.STOPPED, "Its route was removed.")
            return None
        verdict = _not_there(event) or standing.not_in_service(
            job, self._standings.get(job.model_digest)
        )
        if verdict is not None:
            self._end(job, verdict.event, verdict.status, verdict.reason)
            return None
        asked = consents.question_of(self._uow, event, route, job, (self._consents, READ))
        decision = asked.foresee() if asked else consents.unknown_patient(route)
        if asked is None or not decision.is_permitted:
            self._batch.endings.append(denied(job, round_, decision))
            return None
        try:
            model = ports.models.get(job.model_digest)
            return _Passing(job, event, route, model, decision, asked)
        except NotFound:
            self._batch.endings.append(_without_model(job, round_))
            return None

    def records(self, passing: Sequence[_Passing]) -> Mapping[str, list[KeptResource]]:
        """Fetch, still sealed, what was received for the patients and the models may want."""
        if not passing:
            return {}
        local_codes = self._batch.round.site.local_codes
        models = {each.model.facts.model_digest: each.model for each in passing}
        wanted = (_wanted(model.manifest, local_codes) for model in models.values())
        return self._uow.events.records(
            {each.event.patient_key or "" for each in passing},
            ("Observation", "Patient"),
            since_ms=min(each.since_ms for each in passing),
            codes=frozenset().union(*wanted),
        )

    def unseal(self, passing: _Passing, records: Mapping[str, list[KeptResource]]) -> Case | None:
        """Open the event and the record of its patient; None where she hides the event itself."""
        event, question = passing.event, passing.question
        content = self._content(event)
        # What speaks of all data was decided before.
        decision = question.decide(content) if question.is_limited else passing.decision
        if not decision.is_permitted:
            self._batch.endings.append(denied(passing.job, self._batch.round, decision))
            return None
        record = [self._content(each) for each in records[event.patient_key or ""]]
        attached = self._attached(passing)
        case = Case(
            job=passing.job,
            event=event,
            route=passing.route,
            model=passing.model,
            patient=question.request.patient,
            decision=decision,
            content=content,
            attached=attached,
            record=tuple(record),
            question=question,
        )
        return without_masked(case)

    def _attached(self, passing: _Passing) -> dict[str, Json]:
        """Open what the event's resource points at, where its model reads images or text."""
        if kind_of(passing.model.manifest) is None:
            return {}
        event = passing.event
        system = self._batch.round.site.system(event.system)
        whose = Whose(event.system, event.patient_key, event.submission_id)
        received = Received(self._uow, whose, system.base_url if system else None)
        return received.attached(self._content(event), self._content)

    def _content(self, event: Event | KeptResource) -> Json:
        """Open each resource once: several cases of a batch may be about one patient."""
        known = self._opened.get(event.id)
        if known is None:
            known = self._opened[event.id] = orjson.loads(self._uow.events.content(event))
        return known

    def _end(self, job: Job, event: JobEvent, status: BusinessStatus, reason: str) -> None:
        self._batch.endings.append(ended(job, self._batch.round, event, status, reason))


def _not_there(event: Event) -> Verdict | None:
    """Say why an event is not to be used; None when it is there and the newest of its resource."""
    if event.is_erased:
        return Verdict("cancel", BusinessStatus.ERASED, "What was received was erased.")
    if not event.is_current:
        reason = "A newer version of the resource arrived."
        return Verdict("supersede", BusinessStatus.SUPERSEDED, reason)
    return None


def _wanted(manifest: Manifest, local_codes: LocalCodes) -> frozenset[str]:
    """Give `system|code` of every Observation that can matter to a model."""
    known = {code.key for each in manifest.inputs for code in (*each.codes, *each.panels)}
    local = {own for own, meaning in local_codes.items() if meaning in known}
    return frozenset(f"{system}|{code}" for system, code in known | local)


def _without_model(job: Job, round_: Round) -> Ending:
    """Wait for a model whose files are not on this machine, yet or for a moment, then refuse."""
    reason = f"The files of model {job.model} are not on this machine."
    age_s = (round_.now_ms - job.created_ms) / 1000
    if job.attempt < MOST_ATTEMPTS or age_s < _MODEL_PATIENCE_S:
        return postponed(job, round_, _MODEL_RETRY_S, reason)
    return ended(job, round_, "refuse", BusinessStatus.MODEL_UNAVAILABLE, reason)
