"""(2) Admit: from one received resource to jobs, or a reasoned refusal.

Steps, in this order:

(2.1) a version older than one already here changes nothing;
(2.2) the routes whose trigger it matches;
(2.3) it names a patient;
(2.4) the model is installed and in service;
(2.5) the patient's consent permits the route's purpose.

Every matched route gives exactly one job: ready, or rejected with the reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.core.consent import ConsentRecord, ConsentRequest, decide
from gateway.core.event import Facts
from gateway.core.jobs import BusinessStatus, EventId, JobState, NewJob
from gateway.core.routing import Route, matching_routes


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A valid resource that was received and is about to be stored.

    Attributes:
        raw: Its bytes exactly as received.
        sha256: Of `raw`, hexadecimal.
        dedupe_key: Equal for the same version of the same resource, or the same bytes.
        is_current: False when a newer version is already here.
    """

    id: EventId
    system: str
    principal_id: str
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


def admit(
    arrival: Arrival,
    *,
    routes: Sequence[Route],
    models: Mapping[str, str],
    consents: Sequence[ConsentRecord],
    now: datetime,
) -> tuple[NewJob, ...]:
    """Decide what an arrival sets going.

    Args:
        arrival: The newest known version of its resource (2.1 is the store's: it holds versions).
        routes: The routes of the site in force.
        models: Route's model name to the digest of the installed package.
        consents: Everything on record for the patient.
        now: The moment of the decision.

    Returns:
        One job per matched route: READY, or REJECTED with a business status and a reason.
    """
    # (2.2) the routes it triggers
    matched = matching_routes(routes, arrival.system, arrival.facts.resource_type, arrival.content)
    return tuple(
        _job(arrival, route, models, _judge(arrival, route, models, consents, now))
        for route in matched
    )


@dataclass(frozen=True)
class _Verdict:
    status: BusinessStatus
    reason: str = ""
    decisions: tuple[dict[str, object], ...] = ()


def _judge(
    arrival: Arrival,
    route: Route,
    models: Mapping[str, str],
    consents: Sequence[ConsentRecord],
    now: datetime,
) -> _Verdict:
    # (2.3) whose it is
    patient = arrival.facts.patient
    if patient is None:
        return _Verdict(BusinessStatus.PATIENT_UNKNOWN, "The resource names no patient.")
    # (2.4) is the model there
    if route.model not in models:
        return _Verdict(BusinessStatus.MODEL_UNAVAILABLE, f"Model {route.model} is not installed.")
    # (2.5) does the patient permit it
    request = ConsentRequest(patient, route.purpose, now)
    decision = decide(request, consents, default=route.consent_default)
    status = BusinessStatus.QUEUED if decision.is_permitted else BusinessStatus.CONSENT_DENIED
    reason = "" if decision.is_permitted else " ".join(decision.reasons)
    return _Verdict(status, reason, (decision.as_json("admit", now),))


def _job(arrival: Arrival, route: Route, models: Mapping[str, str], verdict: _Verdict) -> NewJob:
    is_ready = verdict.status is BusinessStatus.QUEUED
    return NewJob(
        event_id=arrival.id,
        route=route.name,
        model=route.model,
        model_digest=models.get(route.model, ""),
        patient_key=arrival.patient_key,
        state=JobState.READY if is_ready else JobState.REJECTED,
        business_status=verdict.status,
        reason=verdict.reason,
        decisions=verdict.decisions,
    )
