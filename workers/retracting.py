"""(6.5) Mark as entered in error what is in an EHR although its patient withdrew her consent.

Where the site says so (`revocation.delivered`), a withdrawal puts every result that was written, or
may have been, on a list (`gateway.store.retractions`). Here the list is worked off, beside the
relay: each is read, changed under the version that was read (If-Match), and a Provenance says why.
What is there already is not done again, so a lost answer does no harm; what fails is tried again,
later each time, and what an EHR refuses for good is for people (`nadi doctor`). Where the answer to
a result was lost and the EHR keeps no identifiers, it is looked for by what it is about.

What went as an HL7 v2 message, or may have, is followed by one that says it was wrong.

No consent is asked: to take a result back is what she asked for.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

import orjson

from adapters.fhir_rest.answers import WriteOutcome
from adapters.fhir_rest.errors import EhrConflict, MultipleMatches
from adapters.site import Site
from gateway import telemetry
from gateway.core import audit
from gateway.core.audit import AgentKind, AuditRecord, Source, job_step
from gateway.core.clock import Clock, from_ms, utc_now
from gateway.core.delivery import Backoff, Delivery, DeliveryState
from gateway.core.errors import ConfigurationError, GatewayError, ProcessingError, TransientError
from gateway.core.findings import RESULT_SYSTEM, Json
from gateway.core.jobs import Job
from gateway.core.ladder import Rung, Terms
from gateway.core.retraction import (
    is_retracted,
    retracted,
    retraction_provenance,
    retraction_tag,
    said,
)
from gateway.core.write_back import StoredReport, identifier_of, is_result
from gateway.store.retractions import Retraction, RetractionState
from gateway.store.unit_of_work import Store, UnitOfWork
from workers.looking import Unsure
from workers.oru_sending import received_patient
from workers.ports import system_agent

_EVERY_S = 2.0
_MOST = 20
_LEASE_MS = 5 * 60_000
#: An EHR that hung may write what it was sent a little later than we look: so it is looked for
#: once more before it counts as never written.
_LOOKS = 2
_LOOK_AGAIN_MS = 60_000

log = telemetry.get_logger()


class ResultNotKnown(ProcessingError):
    """Nobody can tell whether a result that was withdrawn is in the EHR; look there by hand."""


class Chart(Protocol):
    """What is needed of the client of an EHR; `adapters.fhir_rest` has one."""

    def read(self, reference: str) -> dict[str, Any] | None:
        """Read a resource; None when the EHR does not have it."""

    def search(
        self, resource_type: str, params: Sequence[tuple[str, str]], *, max_pages: int = 5
    ) -> list[dict[str, Any]]:
        """Search one type."""

    def update(self, reference: str, body: bytes, *, if_match: str | None = None) -> WriteOutcome:
        """Write a resource under its id, if it still has this version."""

    def create(
        self, resource_type: str, body: bytes, *, if_none_exist: str | None = None
    ) -> WriteOutcome:
        """Create a resource unless the condition finds it."""


class Messenger(Protocol):
    """Sends HL7 v2 messages; `workers.oru_sending` has one."""

    def take_back(self, report: StoredReport, at: datetime, words: str) -> str:
        """Say that a result must not be used any more; give what was answered."""


class Looker(Protocol):
    """Looks for results whatever the EHR can be searched by; `workers.climbing` has one."""

    def held(
        self, report: StoredReport, *, sought: frozenset[str] = frozenset()
    ) -> list[Json] | Unsure:
        """Give what the EHR holds of a result, in whatever form it may have been written.

        Args:
            report: The result.
            sought: Types among which its identifier was looked for already, in vain.
        """


class Reached(Protocol):
    """How one EHR is reached."""

    @property
    def recipient(self) -> Looker:
        """Who wrote its results."""

    @property
    def client(self) -> Chart:
        """Its chart."""

    @property
    def oru(self) -> Messenger | None:
        """Who gets its results as HL7 v2 messages; None where nobody does."""


class Reach(Protocol):
    """Every EHR of the site."""

    def connection(self, system: str) -> Reached:
        """Give the connection to a system."""


@dataclass(frozen=True)
class _Opened:
    """A retraction with what it needs.

    Attributes:
        location: Where the EHR said that the result is; None when nobody knows.
        has_chart: Whether the system has a FHIR API.
    """

    retraction: Retraction
    delivery: Delivery
    job: Job
    report: StoredReport
    location: str | None
    has_chart: bool


class Retractor:
    """Works off the list of results to be marked."""

    def __init__(
        self,
        store: Store,
        site: Callable[[], Site],
        ehrs: Reach,
        *,
        process: str,
        backoff: Backoff,
        clock: Clock = utc_now,
    ) -> None:
        self._store = store
        self._site = site
        self._ehrs = ehrs
        self._process = process
        self._backoff = backoff
        self._clock = clock

    def run(self, stopped: threading.Event) -> None:
        """Look at the list every few seconds until told to stop."""
        while not stopped.wait(_EVERY_S):
            try:
                self.turn()
            except GatewayError as error:  # the database is away: the next look comes
                log.warning("retractions-wait", error=type(error).__name__)

    def turn(self) -> int:
        """Mark what is due; give how many were tried.

        Raises:
            StoreUnavailable: The database is away.
        """
        with self._store.read() as uow:
            if not uow.retractions.is_any_due():
                return 0
        with self._store.write() as uow:
            claimed = uow.retractions.claim(_MOST, lease_ms=_LEASE_MS)
        for each in claimed:
            self._retract(each)
        return len(claimed)

    def _retract(self, retraction: Retraction) -> None:
        try:
            with self._store.read() as uow:
                opened = _opened(uow, retraction, self._site())
            answer = self._mark(opened)
        except (TransientError, ConfigurationError) as error:
            self._postpone(retraction, error)
            return
        except ProcessingError as error:
            self._settle(retraction, RetractionState.FAILED, type(error).__name__)
            return
        if answer is None and retraction.attempt < _LOOKS and _is_doubtful(opened):
            self._look_again(retraction)
            return
        self._settle(retraction, RetractionState.DONE, answer or "not there", opened)

    # -- in the EHR --------------------------------------------------------------------------

    def _mark(self, opened: _Opened) -> str | None:
        """Mark a result with all that belongs to it; None when the EHR does not hold it.

        Raises:
            TransientError: The EHR is away, or somebody changed the resource meanwhile.
            ProcessingError: The EHR refuses.
        """
        reached = self._ehrs.connection(opened.delivery.system)
        if opened.delivery.rung != Rung.HL7V2_ORU and opened.has_chart:
            marked = self._mark_in_chart(reached, opened)
            if marked is not None:
                return marked
        if reached.oru is None or not _may_be_message(opened):
            return None
        order = opened.retraction
        at, words = from_ms(order.created_ms), said(order.reason)
        return f"told {reached.oru.take_back(opened.report, at, words)}"

    def _mark_in_chart(self, reached: Reached, opened: _Opened) -> str | None:
        chart = reached.client
        found, sought = _held(chart, opened)
        found = found or _by_looks(reached.recipient, opened, sought)
        if not found:
            return None
        for resource in found:
            if not is_retracted(resource):
                marked = retracted(resource, self._clock(), opened.retraction.reason)
                _update(chart, marked)
        places = [f"{each['resourceType']}/{each['id']}" for each in found]
        self._explain(chart, opened, places)
        return f"marked {len(places)}"

    def _explain(self, chart: Chart, opened: _Opened, places: list[str]) -> None:
        """Write the Provenance, unless it is there; an EHR without any does without."""
        tag = f"{RESULT_SYSTEM}|{retraction_tag(opened.report.identifier)}"
        provenance = retraction_provenance(
            opened.report.identifier,
            places,
            reason=opened.retraction.reason,
            at=self._clock(),
            who=self._site().name or "this site",
        )
        try:
            known = chart.search("Provenance", [("_tag", tag)], max_pages=1)
            if not any(_has_tag(each, opened.report.identifier) for each in known):
                body = orjson.dumps(provenance)
                chart.create("Provenance", body, if_none_exist=f"_tag={tag}")
        except ProcessingError as error:
            log.warning("retraction-without-provenance", error=type(error).__name__)

    # -- what came of it ---------------------------------------------------------------------

    def _postpone(self, held: Retraction, error: GatewayError) -> None:
        asked = error.retry_after_s if isinstance(error, TransientError) else None
        delay_s = self._backoff.delay_s(
            min(held.attempt, 10), retry_after_s=asked, random=lambda: 1.0
        )
        with self._store.write() as uow:
            next_ms = uow.now_ms + int(delay_s * 1000)
            name = type(error).__name__
            pending = RetractionState.PENDING
            uow.retractions.settle(held, pending, name, next_attempt_ms=next_ms)
        log.warning("retraction-waits", error=type(error).__name__, attempt=held.attempt)

    def _look_again(self, held: Retraction) -> None:
        with self._store.write() as uow:
            next_ms, pending = uow.now_ms + _LOOK_AGAIN_MS, RetractionState.PENDING
            uow.retractions.settle(held, pending, "not there yet", next_attempt_ms=next_ms)

    def _settle(
        self, held: Retraction, state: RetractionState, answer: str, opened: _Opened | None = None
    ) -> None:
        with self._store.write() as uow:
            if not uow.retractions.settle(held, state, answer):
                return
            if opened is not None:
                uow.audit(self._record(uow, opened, answer))
        if state is RetractionState.FAILED:
            log.error("retraction-failed", delivery_id=held.delivery_id, error=answer)

    def _record(self, uow: UnitOfWork, opened: _Opened, answer: str) -> AuditRecord:
        source = Source(self._site().name or "site", self._process)
        step = job_step(opened.job, uow.now, source, reason=opened.retraction.reason)
        ehr = system_agent(opened.delivery.system, AgentKind.SERVER)
        result = audit.DeliveredResult(
            opened.report.identifier, opened.report.resource_type, answer
        )
        return audit.retracted(step, ehr=ehr, result=result, attempt=opened.retraction.attempt)


def _opened(uow: UnitOfWork, retraction: Retraction, site: Site) -> _Opened:
    """Open what a retraction is about.

    Raises:
        Unsealable: The patient's key is gone: nobody knows any more what to look for.
    """
    (delivery,) = uow.deliveries.get_many([retraction.delivery_id])
    job = uow.jobs.get_many({delivery.job_id})[delivery.job_id]
    uow.patient_keys.load({delivery.patient_key})
    report = StoredReport.read(uow.deliveries.body(delivery))
    system, event = site.system(delivery.system), uow.events.get(job.event_id)
    patient = received_patient(uow, site, delivery.system, event) if event else None
    has_chart = system is None or system.address is not None
    location = uow.deliveries.location(delivery)
    route = site.route(job.route)
    terms = system.terms.under(route.terms if route else Terms()) if system else report.terms
    taken = uow.deliveries.places_of(delivery.patient_key)
    report = replace(report, patient=patient, terms=terms, taken=taken)
    return _Opened(retraction, delivery, job, report, location, has_chart)


def _is_doubtful(opened: _Opened) -> bool:
    return opened.delivery.state is not DeliveryState.DELIVERED


def _may_be_message(opened: _Opened) -> bool:
    """Say whether it went as a message, or may have: the chart was looked at twice."""
    if opened.delivery.rung == Rung.HL7V2_ORU:
        return True
    is_looked_for = not opened.has_chart or opened.retraction.attempt >= _LOOKS
    return is_looked_for and _is_doubtful(opened)


def _held(chart: Chart, opened: _Opened) -> tuple[list[Json], frozenset[str]]:
    """Give what the EHR holds of a result, by its place and its identifier.

    Returns:
        Itself, wherever it is, with its attachments; and the types among which its identifier was
        looked for as it should be.
    """
    report, found, sought = opened.report, dict[tuple[str, str], Json](), set[str]()
    known = chart.read(opened.location) if opened.location else None
    if known is not None:
        found[_place(known)] = known
    for name in report.types:
        hits, is_answered = _found(chart, name, report.identifier)
        found |= {_place(each): each for each in hits if _place(each) not in found}
        sought |= {name} if is_answered else set()
    for attachment in report.opened().attachments:
        hits, _ = _found(chart, "Media", identifier_of(attachment))
        found |= {_place(each): each for each in hits}
    return list(found.values()), frozenset(sought)


def _by_looks(recipient: Looker, opened: _Opened, sought: frozenset[str]) -> list[Json]:
    """Look in an EHR that may have dropped the identifier, where nobody knows the place.

    Raises:
        ResultNotKnown: The EHR can't be searched for it.
    """
    if opened.location is not None or not _is_doubtful(opened):
        return []
    found = recipient.held(opened.report, sought=sought)
    if isinstance(found, Unsure):
        raise ResultNotKnown
    return found


def _place(resource: Json) -> tuple[str, str]:
    return resource["resourceType"], resource["id"]


def _found(chart: Chart, resource_type: str, identifier: str) -> tuple[list[Json], bool]:
    """Search by identifier; an EHR that can't search so finds nothing.

    Returns:
        What bears it, and whether the EHR heeded what it was asked for.
    """
    token = [("identifier", f"{RESULT_SYSTEM}|{identifier}")]
    try:
        found = chart.search(resource_type, token, max_pages=2)
    except ProcessingError:
        return [], False
    hits = [each for each in found if is_result(each, identifier)]
    return hits, len(hits) == len(found)


def _update(chart: Chart, resource: Json) -> None:
    """Write under the version that was read.

    Raises:
        EhrConflict: Somebody changed it meanwhile: it is read again at the next attempt.
    """
    version = (resource.get("meta") or {}).get("versionId")
    reference = f"{resource['resourceType']}/{resource['id']}"
    if_match = f'W/"{version}"' if version else None
    try:
        chart.update(reference, orjson.dumps(resource), if_match=if_match)
    except MultipleMatches as error:  # 412: for an update, a version that is not the newest
        raise EhrConflict from error


def _has_tag(provenance: Json, identifier: str) -> bool:
    tags = (provenance.get("meta") or {}).get("tag") or ()
    return any(each.get("code") == retraction_tag(identifier) for each in tags)
