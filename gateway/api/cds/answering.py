"""From jobs to cards: what may be shown now, asked of the patient's consents once more.

* A result is shown when there is one, it was not taken back, and consent permits to disclose it;
  that is put on record before it is shown.
* The model's own refusal is shown with its reason, under the same condition.
* Everything else is the same card to the letter, at the same moment: whoever asks can't tell a
  consent that forbids from a worker that is slow.

Source: CDS Hooks 2.0, "Card Attributes"; status 412.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from adapters.site import Site
from adapters.site_cds_hooks import CdsService
from gateway.api.cds.asked import Asked
from gateway.api.cds.shown import ModelsShown, shown
from gateway.api.edge import Call
from gateway.core.audit import AuditRecord, Source, Step, consent_decided, job_step, was_read
from gateway.core.cds.accepting import DATA_MISSING
from gateway.core.cds.card import ModelShown, refused_card, result_card, waiting_card
from gateway.core.consent import WRITE, About, ConsentDecision, Model, question
from gateway.core.delivery import Delivery, DeliveryState
from gateway.core.findings import Report
from gateway.core.jobs import BusinessStatus, Job, JobState
from gateway.store.unit_of_work import UnitOfWork
from gateway.withdrawal import about_result

#: Nothing is said about these: consent, or what was done to its sake.
_UNSAID = frozenset(
    {
        BusinessStatus.CONSENT_DENIED,
        BusinessStatus.CONSENT_WITHDRAWN,
        BusinessStatus.MASKED,
        BusinessStatus.ERASED,
        BusinessStatus.STOPPED,
        BusinessStatus.SUPERSEDED,
    }
)
_NOT_RUN = frozenset({JobState.REJECTED, JobState.FAILED})
_GIVEN_UP = frozenset({BusinessStatus.DELIVERY_FAILED, BusinessStatus.INFERENCE_FAILED})


@dataclass
class Answered:
    """What a call is answered.

    Attributes:
        is_waiting: Whether it holds back anything.
        missing: Why a model could not be asked, where data is missing.
        records: What has to be on record before it is shown.
    """

    cards: list[dict[str, Any]] = field(default_factory=list)
    is_waiting: bool = False
    missing: list[str] = field(default_factory=list)
    records: list[AuditRecord] = field(default_factory=list)


class OnRecord:
    """What there is of some jobs, read at once for all of them.

    Attributes:
        results: Those that may be shown at all, by job.
    """

    def __init__(self, uow: UnitOfWork, site: Site, jobs: Collection[Job]) -> None:
        """Read it.

        Args:
            uow: Reads the database, and opens what is sealed in it.
            site: In force.
            jobs: All of them.
        """
        self.uow = uow
        self.site = site
        results = uow.deliveries.of_jobs([job.id for job in jobs])
        withdrawn = uow.retractions.of([each.id for each in results.values()])
        self.results: Mapping[str, Delivery] = {
            key: each for key, each in results.items() if _is_there(each, withdrawn)
        }
        shown = [job for job in jobs if job.id in self.results or _is_refusal(job)]
        self._events = uow.events.get_many({job.event_id for job in shown})
        keys = {job.patient_key for job in shown if job.patient_key}
        self._consents = uow.consents.of(keys, site.abdm_policy) if keys else {}
        uow.patient_keys.load(keys)

    def decided(self, job: Job) -> ConsentDecision | None:
        """Ask the consents whether it may be shown; None where nobody can be asked."""
        route, event = self.site.route(job.route), self._events.get(job.event_id)
        patient = self.uow.events.patient(event) if event else None
        if route is None or event is None or patient is None or job.patient_key is None:
            return None
        consents = self._consents[job.patient_key]
        about, model = About(patient, event.id, self.uow.now), Model(job.model, job.model_digest)
        asked = question(route.asks, about, consents, model, WRITE)
        result = self.results.get(job.id)
        if result is None:
            return asked.foresee()
        return about_result(asked, partial(self.uow.deliveries.body, result))


class Answers:
    """Makes cards."""

    def __init__(self, models: ModelsShown) -> None:
        self._models = models

    def of(self, found: OnRecord, asked: Asked, jobs: Sequence[Job]) -> Answered:
        """Answer a call by what there is of its jobs.

        Args:
            found: What there is.
            asked: The call.
            jobs: In the order of the cards.

        Raises:
            StoreUnavailable: The database is away.
        """
        answered = Answered()
        looking = _Looking(found, asked.call, answered)
        for job in jobs:
            line = self._models.by_digest(job.model_digest)
            if line is None:
                continue  # no model, no job: it was rejected for that
            looking.add(job, shown(line, about_address(found.site, asked.service)))
        return answered


def about_address(site: Site, service: CdsService) -> str:
    """Give the address of the page about the model of a service."""
    return f"{site.cds.base_url}/cds-services/{service.id}/about"


def _is_refusal(job: Job) -> bool:
    """Say whether a job without a result may be told of, if consent permits."""
    return job.state in _NOT_RUN and job.business_status not in _UNSAID


def _is_there(result: Delivery, withdrawn: Mapping[str, object]) -> bool:
    is_kept = bool(result.body) and result.state is not DeliveryState.CANCELLED
    return is_kept and result.id not in withdrawn


@dataclass(frozen=True)
class _Looking:
    """One look at the database for a call."""

    found: OnRecord
    call: Call
    answered: Answered

    def add(self, job: Job, model: ModelShown) -> None:
        """Add the card of one job."""
        result = self.found.results.get(job.id)
        if result is None and not _is_refusal(job):
            self._wait(model)
            return
        decision = self.found.decided(job)
        if decision is not None:
            self._record(
                consent_decided(self._step(job), decision, stage="show", user=self.call.agent)
            )
        if decision is None or not decision.is_permitted:
            self._wait(model)
        elif result is not None:
            self._show(job, result, model)
        elif job.business_status in DATA_MISSING:
            self.answered.missing.append(job.reason)
        else:
            self.answered.cards.append(refused_card(job.id, model, _why(job)))

    def _show(self, job: Job, result: Delivery, model: ModelShown) -> None:
        report = Report.from_json(self.found.uow.deliveries.body(result))
        kind = report.result["resourceType"]
        agents = [self.call.agent]
        self._record(was_read(self._step(job), agents=agents, resource_type=kind, resource=job.id))
        if report.observation.get("dataAbsentReason") and not report.observation.get("component"):
            self.answered.cards.append(refused_card(job.id, model, _why(job)))
            return
        self.answered.cards.append(result_card(job.id, model, report))

    def _wait(self, model: ModelShown) -> None:
        self.answered.is_waiting = True
        self.answered.cards.append(waiting_card(model))

    def _step(self, job: Job) -> Step:
        source = Source(self.found.site.name or "unconfigured", "api")
        return job_step(job, self.found.uow.now, source, request_id=self.call.request_id)

    def _record(self, record: AuditRecord) -> None:
        self.answered.records.append(record)


def _why(job: Job) -> str:
    """Say why there is no result; what went wrong inside is not told outside."""
    if job.business_status in _GIVEN_UP or not job.reason:
        return "The model could not be run."
    return job.reason
