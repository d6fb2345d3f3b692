"""Run the canary: post her event, let every stage be asked, look whether anything permitted her.

1. Her Consent is received once. It is never sent again: were it lost or changed, to send it anew
   would hide that.
2. A new version of her event is received, as any event is. Admission has to refuse each route.
3. A job and a result of hers are put where admission and inference would have left them. Whoever
   infers or delivers has to refuse them too.
4. The audit log is looked through for any decision about her that permits. One is enough: nothing
   is admitted any more (`gateway.store.canary`) until a person clears it.

For the API, which runs her at start and every few minutes, and for `nadi doctor`.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import orjson

from adapters.site import Site
from gateway import telemetry
from gateway.core import audit
from gateway.core.audit import AuditAgent, Outcome, Source, Step
from gateway.core.canary import (
    CANARY_PATIENT,
    CANARY_SYSTEM,
    STAGES,
    canary_consent,
    canary_event,
    canary_route,
    is_canary,
    split_name,
)
from gateway.core.clock import new_id
from gateway.core.delivery import NewDelivery
from gateway.core.findings import RESULT_SYSTEM
from gateway.core.jobs import Advance, BusinessStatus, EventId, Job, JobId, JobState, NewJob
from gateway.core.routing import Route
from gateway.store.canary import CanaryState
from gateway.store.unit_of_work import Store, UnitOfWork
from models.versions import routable

#: Receives a resource as the API does; gives the id of its event.
Post = Callable[[Mapping[str, Any]], str]

_LOOK_EVERY_S = 0.1
_LEASE_MS = 1000
_REFUSED = frozenset({BusinessStatus.CONSENT_DENIED, BusinessStatus.MODEL_UNAVAILABLE})

log = telemetry.get_logger()


@dataclass(frozen=True)
class CanaryReport:
    """What became of one run.

    Attributes:
        is_permitted: She was permitted: this gateway admits nothing any more.
        is_proven: She was asked about and refused.
        says: In a sentence.
    """

    is_permitted: bool
    is_proven: bool
    says: str


class Canary:
    """Runs her on one installation."""

    def __init__(self, store: Store, site: Callable[[], Site], post: Post, process: str) -> None:
        self._store = store
        self._site = site
        self._post = post
        self._process = process
        self._key = store.sealer.patient_key(CANARY_SYSTEM, CANARY_PATIENT)

    def run(self, *, wait_s: float) -> CanaryReport:
        """Run her once.

        Args:
            wait_s: How long to wait for the workers' refusals; those that come later are looked at
                in the next run.

        Raises:
            GatewayError: The database is away, or her event was not accepted.
        """
        site = self._site()
        with self._store.read() as uow:
            state = uow.canary.state()
        if state.tripped_ms is not None:
            return CanaryReport(is_permitted=True, is_proven=False, says=state.why)
        if not site.canary_routes:
            return CanaryReport(False, False, "No route is in force; nothing can be admitted.")
        if state.enrolled_ms is None:
            self._enrol()
        event_id = self._post(canary_event(*self._now()))
        probes = self._probe(site, event_id)
        self._wait_for(probes, wait_s)
        return self._judge(site, state, event_id)

    def _now(self) -> tuple[Any, int]:
        with self._store.read() as uow:
            return uow.now, uow.now_ms

    def _enrol(self) -> None:
        self._post(canary_consent())
        with self._store.write() as uow:
            uow.canary.keep(enrolled_ms=uow.now_ms, checked_seq=uow.canary.newest_seq())

    # -- beyond admission --------------------------------------------------------------------

    def _probe(self, site: Site, event_id: str) -> list[str]:
        """Put a job and a result where a permit would have left them, once for each purpose."""
        purposes = {route.purpose: route for route in site.routes if not is_canary(route.name)}
        with self._store.write() as uow:
            digests = routable(uow.models.in_service())
            added: list[str] = []
            for route in purposes.values():
                if route.model in digests:
                    added.append(self._add(uow, route, event_id, digests[route.model], "-infer"))
                    waiting = self._add(uow, route, event_id, digests[route.model], "-deliver")
                    _put_before_delivery(uow, JobId(waiting), self._key)
                    added.append(waiting)
        return added

    def _add(self, uow: UnitOfWork, route: Route, event_id: str, digest: str, stage: str) -> str:
        job = NewJob(
            event_id=EventId(event_id),
            route=canary_route(route, stage).name,
            model=route.model,
            model_digest=digest,
            patient_key=self._key,
            state=JobState.READY,
            business_status=BusinessStatus.QUEUED,
        )
        uow.jobs.add([job])
        uow.audit(
            audit.job_changed(
                self._step(uow, job_id=job.id, event_id=event_id),
                "admit",
                state=job.state,
                business_status=job.business_status,
                details={"route": job.route, "model": job.model},
            )
        )
        return job.id

    def _wait_for(self, probes: list[str], wait_s: float) -> None:
        until = time.monotonic() + wait_s
        while probes and time.monotonic() < until:
            with self._store.read() as uow:
                if all(job.state.is_final for job in uow.jobs.get_many(probes).values()):
                    return
            time.sleep(_LOOK_EVERY_S)

    # -- the verdict -------------------------------------------------------------------------

    def _judge(self, site: Site, state: CanaryState, event_id: str) -> CanaryReport:
        with self._store.write() as uow:
            newest = uow.canary.newest_seq()
            admitted = uow.jobs.of_events([event_id]).get(EventId(event_id), [])
            why = _why_permitted(uow.canary.permits(self._key, state.checked_seq), admitted)
            asked = [j for j in admitted if j.business_status is BusinessStatus.CONSENT_DENIED]
            is_proven = bool(asked) and not why
            uow.canary.keep(last_run_ms=uow.now_ms, is_proven=is_proven, checked_seq=newest)
            if why:
                uow.canary.keep(tripped_ms=uow.now_ms, why=why)
                step = self._step(uow, event_id=event_id, outcome=Outcome.SERIOUS_FAILURE)
                step = replace(step, reason=why)
                uow.audit(audit.noted(step, "canary", details={"what": "permitted", "why": why}))
        if why:
            log.critical("canary-permitted")
            return CanaryReport(is_permitted=True, is_proven=False, says=why)
        if not is_proven:
            log.error("canary-not-asked")
            says = "No route asked for her consent: is any of their models in service?"
            return CanaryReport(False, False, says)
        says = f"refused by {len(asked)} of {len(site.canary_routes)} routes"
        return CanaryReport(is_permitted=False, is_proven=True, says=says)

    def _step(
        self,
        uow: UnitOfWork,
        *,
        job_id: str | None = None,
        event_id: str | None = None,
        outcome: Outcome = Outcome.SUCCESS,
    ) -> Step:
        return Step(
            id=new_id(),
            recorded=uow.now,
            source=Source(self._site().name or "site", self._process),
            patient_key=self._key,
            job_id=job_id,
            event_id=event_id,
            outcome=outcome,
        )


def clear(store: Store, source: Source, by: AuditAgent, reason: str) -> bool:
    """Let the gateway admit again; say whether it had stopped.

    Args:
        store: The database.
        source: Who writes the audit event.
        by: The person who looked.
        reason: What was wrong and how it was mended; never a patient's value.
    """
    with store.write() as uow:
        state = uow.canary.state()
        if state.tripped_ms is None:
            return False
        uow.canary.keep(tripped_ms=None, why="", checked_seq=uow.canary.newest_seq())
        step = Step(id=new_id(), recorded=uow.now, source=source, reason=reason)
        uow.audit(audit.noted(step, "canary", agents=[by], details={"what": "cleared"}))
    return True


def _put_before_delivery(uow: UnitOfWork, job_id: JobId, patient_key: str) -> None:
    """Leave a job as inference leaves one whose result waits, with a result that says nothing."""
    (job,) = uow.jobs.claim([job_id], CANARY_SYSTEM, lease_ms=_LEASE_MS)
    identifier = sha256(job_id.encode()).hexdigest()
    result = {
        "resourceType": "Observation",
        "identifier": [{"system": RESULT_SYSTEM, "value": identifier}],
    }
    device = {"resourceType": "Device", "identifier": [{"value": CANARY_SYSTEM}]}
    body = orjson.dumps([result, device, None])
    uow.deliveries.add(
        [
            NewDelivery(
                job_id=job_id,
                system=CANARY_SYSTEM,
                patient_key=patient_key,
                identifier=identifier,
                body=body,
            )
        ]
    )
    state, status = JobState.IN_PROGRESS, BusinessStatus.DELIVERY_PENDING
    uow.jobs.advance([Advance(job=job, state=state, business_status=status)])


def _why_permitted(permits: list[str], admitted: list[Job]) -> str:
    """Say where she was permitted; empty where she was nowhere."""
    found = [name for name in permits if is_canary(name) or not name]
    for job in admitted:
        known = split_name(job.route)
        if known is not None and known[1] == "" and job.business_status not in _REFUSED:
            found.append(job.route)
    if not found:
        return ""
    places = sorted({STAGES[(split_name(name) or ("", ""))[1]] for name in found})
    routes = sorted({(split_name(name) or (name, ""))[0] for name in found if name})
    return f"She was permitted at {', '.join(places)} (routes: {', '.join(routes) or 'unknown'})."
