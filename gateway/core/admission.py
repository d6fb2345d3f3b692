"""(2) Admit: from one received resource to jobs, or a reasoned refusal.

Steps, in this order:

(2.1) a version older than one already here changes nothing;
(2.2) the routes whose trigger it matches;
(2.3) it was not made by AI, and is final: an answer never feeds itself, and what was cancelled,
      retracted or is still preliminary sets nothing going;
(2.4) it names a patient;
(2.5) the model is on the register and in service;
(2.6) the patient's consent permits the route's purpose.

Every matched route gives exactly one job: ready, or rejected with the reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from gateway.core.consent import (
    READ,
    About,
    ConsentDecision,
    ConsentRecord,
    Model,
    question,
)
from gateway.core.event import Facts, is_made_by_ai, is_unsettled
from gateway.core.jobs import BusinessStatus, EventId, JobState, NewJob
from gateway.core.lanes import Lane, most_urgent
from gateway.core.routing import Route, matching_routes


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A valid resource that was received and is about to be stored.

    Attributes:
        raw: Its bytes exactly as received.
        sha256: Of `raw`, hexadecimal.
        dedupe_key: Equal for the same version of the same resource, or the same bytes.
        is_update: Whether it came as an update (PUT).
        address: Network address it came from.
        awaited_by: Route whose result somebody waits for; its job is stat.
        is_ours: Whether it is a result that Nadi wrote, whatever label is left of it.
        is_record: Whether it is only kept for the record, and sets nothing going.
        is_told: Whether it came with all that the EHR has of what the awaited model reads.
    """

    id: EventId
    system: str
    principal_id: str
    principal_name: str
    address: str | None
    is_update: bool
    request_id: str | None
    facts: Facts
    content: Mapping[str, Any]
    raw: bytes
    sha256: str
    dedupe_key: str
    resource_key: str | None
    patient_key: str | None
    submission_id: str | None = None
    entry_index: int | None = None
    awaited_by: str | None = None
    is_ours: bool = False
    is_record: bool = False
    is_told: bool = False


@dataclass(frozen=True)
class Admission:
    """What became of one route: its job, and the consent decision if it came to that."""

    job: NewJob
    decision: ConsentDecision | None


def admit(
    arrival: Arrival,
    *,
    routes: Sequence[Route],
    models: Mapping[str, str],
    consents: Sequence[ConsentRecord],
    now: datetime,
    ordered: Lane | None = None,
) -> tuple[Admission, ...]:
    """Decide what an arrival sets going.

    Args:
        arrival: The newest known version of its resource (2.1 is the store's: it holds versions).
        routes: The routes of the site in force.
        models: Route's model name to the digest of the newest that fits and is in service.
        consents: Everything on record for the patient.
        now: The moment of the decision.
        ordered: How urgent the order is that it was made for; None when that is not known.

    Returns:
        For each matched route a job: READY, or REJECTED with a business status and a reason.
    """
    # (2.2) the routes it triggers
    matched = matching_routes(routes, arrival.system, arrival.facts.resource_type, arrival.content)
    return tuple(
        _in_lane(_admit(arrival, route, models, consents, now), arrival, route, ordered)
        for route in matched
    )


def _in_lane(
    admission: Admission, arrival: Arrival, route: Route, ordered: Lane | None
) -> Admission:
    is_awaited = arrival.awaited_by == route.name
    awaited = Lane.STAT if is_awaited else None
    lane = most_urgent(arrival.facts.lane, ordered, route.lane, awaited)
    is_told = is_awaited and arrival.is_told
    return replace(admission, job=replace(admission.job, lane=lane, is_told=is_told))


def _admit(
    arrival: Arrival,
    route: Route,
    models: Mapping[str, str],
    consents: Sequence[ConsentRecord],
    now: datetime,
) -> Admission:
    # (2.3) may it set something going at all
    if arrival.is_ours or is_made_by_ai(arrival.content):
        reason = "It was made by AI; such a resource never triggers a model."
        return _refused(arrival, route, models, BusinessStatus.MADE_BY_AI, reason)
    if is_unsettled(arrival.content):
        reason = "It is not final: only final, amended and corrected results trigger a model."
        return _refused(arrival, route, models, BusinessStatus.NOT_FINAL, reason)
    # (2.4) whose it is
    patient = arrival.facts.patient
    if patient is None:
        reason = "The resource names no patient."
        return _refused(arrival, route, models, BusinessStatus.PATIENT_UNKNOWN, reason)
    # (2.5) is the model there
    if route.model not in models:
        reason = f"Model {route.model} is not in service."
        return _refused(arrival, route, models, BusinessStatus.MODEL_UNAVAILABLE, reason)
    # (2.6) does the patient permit it
    about, model = About(patient, arrival.id, now), Model(route.model, models[route.model])
    decision = question(route.asks, about, consents, model, READ).decide(arrival.content)
    status = BusinessStatus.QUEUED if decision.is_permitted else BusinessStatus.CONSENT_DENIED
    reason = "" if decision.is_permitted else " ".join(decision.reasons)
    decided = (decision.as_json("admit", now),)
    job = _job(arrival, route, models, status, reason=reason, decisions=decided)
    return Admission(job, decision)


def _refused(
    arrival: Arrival,
    route: Route,
    models: Mapping[str, str],
    status: BusinessStatus,
    reason: str,
) -> Admission:
    return Admission(_job(arrival, route, models, status, reason=reason), None)


def _job(
    arrival: Arrival,
    route: Route,
    models: Mapping[str, str],
    status: BusinessStatus,
    *,
    reason: str,
    decisions: tuple[dict[str, object], ...] = (),
) -> NewJob:
    is_ready = status is BusinessStatus.QUEUED
    return NewJob(
        event_id=arrival.id,
        route=route.name,
        model=route.model,
        model_digest=models.get(route.model, ""),
        patient_key=arrival.patient_key,
        state=JobState.READY if is_ready else JobState.REJECTED,
        business_status=status,
        reason=reason,
        decisions=decisions,
    )
