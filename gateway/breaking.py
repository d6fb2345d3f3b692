"""Break-glass: a clinician runs a route for one patient although consent would not permit it.

1. Who may is named in the site file, by credential of role clinician; a reason is required.
2. The newest event of the patient that the route's trigger matches is run, for purpose BTG, under
   the name of the route with `+btg`; whatever asks for consent later asks for BTG too.
3. A patient's refusal of all AI is never overridden (`gateway.core.consent.breaking`).
4. It is told at once: in the log, in a metric and where the site wants it; and a review is opened,
   which somebody else has to close.

Job, review and AuditEvents are one transaction. For the API and the command line alike.
"""

from dataclasses import dataclass, replace
from datetime import timedelta

import httpx
import orjson

from adapters.site import Site
from adapters.site_break_glass import BreakGlassEntry
from gateway import telemetry
from gateway.core import audit
from gateway.core.audit import AgentKind, AuditAgent, Outcome, Source, Step
from gateway.core.audit_answers import LOGIN
from gateway.core.clock import from_ms, new_id, to_ms
from gateway.core.consent import (
    BREAK_GLASS,
    READ,
    About,
    ConsentDecision,
    Model,
    question,
)
from gateway.core.errors import (
    ConsentDenied,
    ContentError,
    Forbidden,
    InvalidTransition,
    NotFound,
)
from gateway.core.event import is_made_by_ai, is_unsettled
from gateway.core.jobs import BusinessStatus, EventId, JobState, NewJob
from gateway.core.lanes import Lane
from gateway.core.principal import Permission, Principal, Role
from gateway.core.routing import Route, broken
from gateway.store.break_glass import ReviewVerdict, Use
from gateway.store.events import Event
from gateway.store.unit_of_work import Store, UnitOfWork
from models.versions import routable

_MOST_REASON = 2000
_LONGEST_ROUTE = 64

log = telemetry.get_logger()


@dataclass(frozen=True, kw_only=True)
class Emergency:
    """Who wants what, and why.

    Attributes:
        patient_key: Keyed hash of the patient.
        route: Name of the route.
        reason: In the clinician's words; kept sealed.
        login: At which login of this machine it was asked for; empty over the API.
    """

    clinician: Principal
    patient_key: str
    route: str
    reason: str
    login: str = ""


@dataclass(frozen=True)
class _Chosen:
    """What is to be run."""

    route: Route
    event: Event
    patient: str
    digest: str


@dataclass(frozen=True)
class _Scene:
    """What is decided, about what, for whom."""

    source: Source
    wanted: Emergency
    chosen: _Chosen
    decision: ConsentDecision

    def step(self, uow: UnitOfWork, job_id: str | None) -> Step:
        """Give the frame of an audit event."""
        return Step(
            id=new_id(),
            recorded=uow.now,
            source=self.source,
            patient_key=self.wanted.patient_key,
            job_id=job_id,
            event_id=self.chosen.event.id,
        )

    def tried(self, uow: UnitOfWork, job_id: str | None) -> Step:
        """Give the frame of the event of the use itself, with the reasons of consent.

        What the clinician said stays sealed.
        """
        decision = self.decision
        outcome = Outcome.SUCCESS if decision.is_permitted else Outcome.SERIOUS_FAILURE
        return replace(self.step(uow, job_id), outcome=outcome, reason=" ".join(decision.reasons))


def break_glass(store: Store, site: Site, source: Source, wanted: Emergency) -> Use:
    """Run a route for a patient in an emergency, open its review, and tell it.

    Raises:
        Forbidden: The clinician is not named for it.
        ContentError: There is no reason, or no such route.
        NotFound: Nothing was received that the route would run on, or its model is not in service.
        ConsentDenied: The patient refuses all AI, or forbade this for emergencies too.
        InvalidTransition: The glass was broken for this very event already.
    """
    rules = _permitted(site, wanted)
    with store.write() as uow:
        uow.canary.insist()
        chosen = _chosen(uow, site, wanted)
        decision = _decided(uow, site, chosen)
        scene = _Scene(source, wanted, chosen, decision)
        if decision.is_permitted:
            use = _run(uow, scene, rules)
        else:
            _record(uow, scene, job_id=None)
    telemetry.count_break_glass(wanted.route, "run" if decision.is_permitted else "refused")
    if not decision.is_permitted:
        log.critical("break-glass-refused", route=wanted.route)
        raise ConsentDenied(" ".join(decision.reasons))
    log.critical("break-glass", route=wanted.route, job_id=use.job_id)
    _alert(rules, use)
    return use


def review(  # noqa: PLR0913 - who, what, and from where
    store: Store,
    source: Source,
    use_id: str,
    *,
    reviewer: Principal,
    verdict: ReviewVerdict,
    comment: str,
    login: str = "",
) -> Use:
    """Close the review of a use.

    Args:
        store: Where it is.
        source: Which process closes it.
        use_id: Of the use.
        reviewer: Who reviewed it.
        verdict: What was found.
        comment: In a sentence; kept sealed.
        login: At which login of this machine it was done; empty over the API.

    Raises:
        NotFound: There is no such use.
        ContentError: Nothing is said about it.
        Forbidden: It was the reviewer's own.
        InvalidTransition: It was reviewed already.
    """
    reviewer.require(Permission.REVIEW_BREAK_GLASS)
    if not comment.strip():
        raise ContentError("Say what was found, in a sentence.", location="comment")
    with store.write() as uow:
        use = uow.break_glass.get(use_id)
        if use is None:
            raise NotFound("There is no use of break-glass with this id.")
        if reviewer.id == use.clinician_id or reviewer.name == use.clinician:
            raise Forbidden("Nobody reviews their own use of break-glass.")
        if not uow.break_glass.review(use, reviewer, verdict, comment.strip()):
            raise InvalidTransition("It was reviewed already; a review is never changed.")
        agent = AuditAgent(reviewer.id, reviewer.name, AgentKind.USER, role=reviewer.role.value)
        step = Step(
            id=new_id(),
            recorded=uow.now,
            source=source,
            patient_key=use.patient_key,
            job_id=use.job_id,
        )
        details = {"review": use.id, "verdict": verdict.value, "route": use.route, LOGIN: login}
        uow.audit(audit.noted(step, "break-glass-review", agents=[agent], details=details))
        reviewed = uow.break_glass.get(use_id)
    return reviewed or use


# --- who may, and what ----------------------------------------------------------------------


def _permitted(site: Site, wanted: Emergency) -> BreakGlassEntry:
    clinician, rules = wanted.clinician, site.break_glass
    clinician.require(Permission.BREAK_GLASS)
    if rules is None or clinician.name not in rules.clinicians or clinician.role != Role.CLINICIAN:
        raise Forbidden(
            "This credential may not break the glass: the site file names who may "
            "(break_glass.clinicians)."
        )
    if not wanted.reason.strip():
        raise ContentError("Say why, in a sentence.", location="reason")
    if len(wanted.reason) > _MOST_REASON:
        raise ContentError(f"The reason is longer than {_MOST_REASON} signs.", location="reason")
    return rules


def _chosen(uow: UnitOfWork, site: Site, wanted: Emergency) -> _Chosen:
    route = next((each for each in site.routes if each.name == wanted.route), None)
    if route is None or len(broken(route).name) > _LONGEST_ROUTE:
        raise ContentError("The site in force has no such route.", location="route")
    digest = routable(uow.models.in_service()).get(route.model)
    if digest is None:
        raise NotFound(f"Model {route.model} is not in service.")
    uow.patient_keys.load({wanted.patient_key})
    event = _newest(uow, route, wanted.patient_key)
    patient = uow.events.patient(event) if event else None
    if event is None or patient is None:
        raise NotFound("Nothing was received of this patient that this route would run on.")
    return _Chosen(broken(route), event, patient, digest)


def _newest(uow: UnitOfWork, route: Route, patient_key: str) -> Event | None:
    """Give the newest event of the patient that the trigger matches."""
    found = uow.events.newest_of_patient(patient_key, route.source, route.resource_type)
    return next((each for each in found if _triggers(uow, route, each)), None)


def _triggers(uow: UnitOfWork, route: Route, event: Event) -> bool:
    content = orjson.loads(uow.events.content(event))
    if is_made_by_ai(content) or is_unsettled(content):
        return False
    return route.trigger(content)


def _decided(uow: UnitOfWork, site: Site, chosen: _Chosen) -> ConsentDecision:
    key = str(chosen.event.patient_key)
    consents = uow.consents.of([key], site.abdm_policy)[key]
    about = About(chosen.patient, chosen.event.id, uow.now)
    model = Model(chosen.route.model, chosen.digest)
    asked = question(chosen.route.asks, about, consents, model, READ)
    return asked.decide(orjson.loads(uow.events.content(chosen.event)))


# --- what comes of it -----------------------------------------------------------------------


def _run(uow: UnitOfWork, scene: _Scene, rules: BreakGlassEntry) -> Use:
    job = _job(uow, scene)
    uow.jobs.add([job])
    if uow.jobs.get(job.id) is None:
        raise InvalidTransition(
            "The glass was broken for this patient's newest event already; `nadi jobs list` shows "
            "what came of it."
        )
    wanted = scene.wanted
    use = Use(
        id=new_id(),
        job_id=job.id,
        patient_key=wanted.patient_key,
        route=wanted.route,
        clinician_id=wanted.clinician.id,
        clinician=wanted.clinician.name,
        used_ms=uow.now_ms,
        due_ms=to_ms(uow.now + timedelta(hours=rules.review_within_h)),
    )
    uow.break_glass.add(use, wanted.reason.strip())
    _record(uow, scene, job_id=job.id, use=use)
    step, details = scene.step(uow, job.id), {"route": job.route, "model": job.model}
    state, status = job.state, job.business_status
    uow.audit(
        audit.job_changed(step, "admit", state=state, business_status=status, details=details)
    )
    return use


def _job(uow: UnitOfWork, scene: _Scene) -> NewJob:
    chosen = scene.chosen
    return NewJob(
        event_id=EventId(chosen.event.id),
        route=chosen.route.name,
        model=chosen.route.model,
        model_digest=chosen.digest,
        patient_key=scene.wanted.patient_key,
        state=JobState.READY,
        business_status=BusinessStatus.QUEUED,
        decisions=(scene.decision.as_json("admit", uow.now),),
        lane=Lane.STAT,
    )


def _record(uow: UnitOfWork, scene: _Scene, *, job_id: str | None, use: Use | None = None) -> None:
    """Put on record who broke the glass, or tried to, and what consent said to it."""
    who, decision = scene.wanted.clinician, scene.decision
    agent = AuditAgent(who.id, who.name, AgentKind.USER, role=who.role.value, purpose=BREAK_GLASS)
    wanted = scene.wanted
    details = {"route": wanted.route, "purpose": BREAK_GLASS, LOGIN: wanted.login}
    if use is not None:
        # The row says until when; whoever changes it there contradicts this.
        details |= {"review": use.id, "due-ms": str(use.due_ms)}
    uow.audit(
        audit.noted(scene.tried(uow, job_id), "break-glass", agents=[agent], details=details),
        audit.consent_decided(scene.step(uow, job_id), decision, stage="admit", user=agent),
    )


def _alert(rules: BreakGlassEntry, use: Use) -> None:
    """Tell it where the site wants it told; the review is open whether it arrives or not."""
    if rules.alert is None:
        return
    told = {
        "event": "break-glass",
        "review": use.id,
        "route": use.route,
        "clinician": use.clinician,
        "at": from_ms(use.used_ms).isoformat(),
        "review_by": from_ms(use.due_ms).isoformat(),
    }
    try:
        answer = httpx.post(rules.alert.url, json=told, timeout=rules.alert.timeout_s)
        is_told = answer.is_success
    except httpx.HTTPError:
        is_told = False
    if not is_told:
        log.error("break-glass-alert-failed", job_id=use.job_id)
