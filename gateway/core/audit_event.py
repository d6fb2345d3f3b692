"""An AuditEvent: put together from a BALP pattern and its parts, and read back from its bytes.

* The body is canonical JSON (sorted keys, no spaces, UTF-8): its bytes are the leaf of the Merkle
  log, and everything the database keeps beside it can be read back out of it (`read_record`).
* A body holds no patient value: a patient is a keyed hash.
* An event claims an IHE BALP profile only when it fulfils it: a failure claims none of the REST
  profiles, as these are for success.

Source: FHIR R4 AuditEvent (http://hl7.org/fhir/R4/auditevent.html); IHE ITI BALP 1.1
(https://profiles.ihe.net/ITI/BALP). Sorted keys make the bytes those of RFC 8785, as there are no
numbers in them and every key is ASCII.
"""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any

import orjson

from gateway.core import balp
from gateway.core.audit_terms import (
    code_terms,
    entity_term,
    gathered,
    identifiers_of,
    refusal_term,
    terms_of,
)
from gateway.core.balp import AgentKind, Json, Pattern, Written
from gateway.core.clock import new_id
from gateway.core.errors import ProcessingError
from gateway.core.jobs import Job

SID = f"{balp.NADI}/sid"
PATIENT_KEY_SYSTEM = f"{SID}/patient-key"
JOB_SYSTEM = f"{SID}/job"
EVENT_SYSTEM = f"{SID}/event"
RESULT_SYSTEM = f"{SID}/result"
PAYLOAD_SYSTEM = f"{SID}/payload-sha256"
RESOURCE_SYSTEM = f"{SID}/resource-key"
AGENT_SYSTEM = f"{SID}/agent"
MODEL_SYSTEM = f"{SID}/model"
CREDENTIAL_SYSTEM = f"{SID}/credential"
SITE_SYSTEM = f"{SID}/site"

_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"

_DETAIL_SYSTEMS = {"job": JOB_SYSTEM, "event": EVENT_SYSTEM}
_CACHED = 2048


class AuditEventMalformed(ProcessingError):
    """The stored bytes are not an AuditEvent that this gateway wrote."""

    issue_type = "security"


class AuditEventChanged(AuditEventMalformed):
    """An AuditEvent that is to be shown is not what was written."""

    issue_type = "exception"


class Outcome(StrEnum):
    """How a step ended (AuditEvent.outcome)."""

    SUCCESS = "0"
    MINOR_FAILURE = "4"
    SERIOUS_FAILURE = "8"
    MAJOR_FAILURE = "12"


@dataclass(frozen=True)
class AuditRecord:
    """An AuditEvent with what the store keeps beside it to search by.

    Attributes:
        event: Our short name of the event.
        outcome: AuditEvent.outcome: 0, 4, 8 or 12.
        action: AuditEvent.action: C, R, U, D or E.
        body: Canonical JSON; these bytes are the leaf of the Merkle log.
        terms: What else it is found by, see `audit_terms`.
    """

    id: str
    recorded: datetime
    event: str
    outcome: str
    action: str
    patient_key: str | None
    job_id: str | None
    event_id: str | None
    body: bytes
    terms: tuple[str, ...] = ()


@dataclass(frozen=True)
class AuditAgent:
    """Somebody or something that takes part in an event.

    Attributes:
        identifier: Opaque id: a credential's, a system's of the site file, a model's.
        name: Name for people; never a patient's.
        role: One of our five roles, where it has one.
        address: Network address, for clients and servers: host name, IP address or URL.
        purpose: v3-ActReason code that a user acts for.
    """

    identifier: str
    name: str
    kind: AgentKind
    role: str | None = None
    address: str | None = None
    purpose: str | None = None


@dataclass(frozen=True)
class Source:
    """Which of our processes writes the event.

    Attributes:
        site: Name of the site.
        process: Name of the process, for example `api` or `worker-infer@host`.
        address: Its network address: host name, IP address or URL.
    """

    site: str
    process: str
    address: str | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """When, where and about what a step happened, and how it ended.

    Attributes:
        id: FHIR id of the AuditEvent.
        recorded: Aware time; kept to the millisecond.
        event_id: The received resource version that it is about.
        request_id: X-Request-Id of the call, where there was one.
        reason: Why it ended so; never a patient value.
    """

    id: str
    recorded: datetime
    source: Source
    patient_key: str | None = None
    job_id: str | None = None
    event_id: str | None = None
    request_id: str | None = None
    outcome: Outcome = Outcome.SUCCESS
    reason: str = ""


def job_step(
    job: Job,
    recorded: datetime,
    source: Source,
    *,
    outcome: Outcome = Outcome.SUCCESS,
    reason: str = "",
    request_id: str | None = None,
) -> Step:
    """Give the frame of an event about a job: an id of its own, its patient and what caused it.

    Args:
        job: The job.
        recorded: When it happened.
        source: Who writes the event.
        outcome: How it ended.
        reason: Why it ended so; never a patient value.
        request_id: X-Request-Id of the call, where there was one.
    """
    return Step(
        id=new_id(),
        recorded=recorded,
        source=source,
        patient_key=job.patient_key,
        job_id=job.id,
        event_id=job.event_id,
        request_id=request_id,
        outcome=outcome,
        reason=reason,
    )


def write_record(
    event: str,
    step: Step,
    pattern: Pattern,
    *,
    agents: Sequence[AuditAgent],
    entities: Sequence[Json],
    facts: Mapping[str, str | None] | None = None,
) -> AuditRecord:
    """Put an event together from its pattern and its parts."""
    recorded, instant = _instant(step.recorded)
    shared = _shared(pattern, event, step.source, tuple(agents))
    content: Json = {
        **shared.content,
        "id": step.id,
        "recorded": instant,
        "outcome": step.outcome,
        "entity": [*_context(event, step, pattern, facts or {}), *entities],
    }
    if step.reason:
        content["outcomeDesc"] = step.reason
    profile = _profile(pattern, step, entities)
    if profile:
        content["meta"] = {"profile": [profile]}
    if not content["entity"]:
        del content["entity"]
    return AuditRecord(
        id=step.id,
        recorded=recorded,
        event=event,
        outcome=str(step.outcome),
        action=pattern.action,
        patient_key=step.patient_key,
        job_id=step.job_id,
        event_id=step.event_id,
        body=_canonical(content),
        terms=_terms(event, step, entities, shared.terms),
    )


def read_record(body: bytes) -> AuditRecord:
    """Read out of a body everything that the store keeps beside it, so that both can be compared.

    Raises:
        AuditEventMalformed: These are not the bytes of an event that this gateway wrote.
    """
    try:
        event = orjson.loads(body)
        if _canonical(event) != body:
            raise AuditEventMalformed
        found = dict(_correlations(event.get("entity", ())))
        name = _event_name(event["subtype"])
        return AuditRecord(
            id=event["id"],
            recorded=datetime.fromisoformat(event["recorded"]),
            event=name,
            outcome=event["outcome"],
            action=event["action"],
            patient_key=found.get(PATIENT_KEY_SYSTEM),
            job_id=found.get(JOB_SYSTEM),
            event_id=found.get(EVENT_SYSTEM),
            body=body,
            terms=terms_of(name, event),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AuditEventMalformed from error


def identified(system: str, value: str, resource_type: str = "") -> Json:
    """Give a reference by identifier: it names without pointing at anything that can be read."""
    reference: Json = {"identifier": {"system": system, "value": value}}
    if resource_type:
        reference["type"] = resource_type
    return reference


def entity_details(facts: Mapping[str, str | None]) -> list[Json]:
    """Give AuditEvent.entity.detail; what is empty is left out."""
    return [{"type": name, "valueString": value} for name, value in facts.items() if value]


def _context(
    event: str, step: Step, pattern: Pattern, facts: Mapping[str, str | None]
) -> list[Json]:
    """Give the entities that say what the step was about: patient, call, job."""
    patient = _patient(step)
    if pattern is balp.CONSENT_DECISION and patient:
        # BALP closes this list: nothing but patient and consents may stand in it.
        known = {"job": step.job_id, "event": step.event_id, "request": step.request_id}
        return [{**patient, "detail": entity_details({**facts, **known})}]
    entities = [patient] if patient else []
    if step.request_id:
        what = {"identifier": {"value": step.request_id}}
        entities.append({**balp.TRANSACTION_ENTITY, "what": what})
    if step.job_id or facts or (step.event_id and event != "receive"):
        entities.append(_task(step, facts))
    return entities


def _patient(step: Step) -> Json | None:
    if step.patient_key is None:
        return None
    what = identified(PATIENT_KEY_SYSTEM, step.patient_key, "Patient")
    return {**balp.PATIENT_ENTITY, "what": what}


def _task(step: Step, facts: Mapping[str, str | None]) -> Json:
    entity: Json = dict(balp.TASK_ENTITY)
    if step.job_id:
        entity["what"] = identified(JOB_SYSTEM, step.job_id, "Task")
        facts = {**facts, "event": step.event_id}
    elif step.event_id:
        entity["what"] = identified(EVENT_SYSTEM, step.event_id, "Task")
    found = entity_details(facts)
    return {**entity, "detail": found} if found else entity


def _profile(pattern: Pattern, step: Step, entities: Sequence[Json]) -> str | None:
    """Give the profile that this event fulfils."""
    if pattern is balp.CONSENT_DECISION:
        return pattern.patient_profile if step.patient_key and entities else None
    if step.outcome != Outcome.SUCCESS:
        return None
    return pattern.profile if step.patient_key is None else pattern.patient_profile


@lru_cache(maxsize=64)
def _instant(moment: datetime) -> tuple[datetime, str]:
    """Give a moment to the millisecond, and as it is written; a transaction has one for all."""
    moment = moment.astimezone(UTC)
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    return moment, f"{moment.isoformat(timespec='milliseconds')[:-6]}Z"


@dataclass(frozen=True)
class _Shared:
    """What comes again with every event of the same kind, process and agents.

    Attributes:
        content: Elements of the event, already written.
        terms: Those of pattern and agents.
    """

    content: Json
    terms: tuple[str, ...]


@lru_cache(maxsize=_CACHED)
def _shared(
    pattern: Pattern, event: str, source: Source, agents: tuple[AuditAgent, ...]
) -> _Shared:
    return _Shared(
        content={
            "resourceType": "AuditEvent",
            "type": pattern.type,
            "subtype": _subtypes(pattern, event),
            "action": pattern.action,
            "agent": balp.written([_agent(pattern, agent) for agent in agents]),
            "source": _source(pattern, source),
        },
        terms=_shared_terms(pattern, source, agents),
    )


def _shared_terms(
    pattern: Pattern, source: Source, agents: tuple[AuditAgent, ...]
) -> tuple[str, ...]:
    kind, *subtypes = (orjson.loads(orjson.dumps(c)) for c in (pattern.type, *pattern.subtypes))
    return gathered(
        ((agent.identifier, agent.purpose) for agent in agents),
        (),
        own=(source.process, source.site),
        known=code_terms("type", [kind]) | code_terms("subtype", subtypes),
    )


def _terms(
    event: str, step: Step, entities: Sequence[Json], shared: tuple[str, ...]
) -> tuple[str, ...]:
    own = {term for pair in identifiers_of(entities) if (term := entity_term(*pair))}
    refusal = refusal_term(event, step.outcome, step.reason)
    if refusal:
        own.add(refusal)
    return tuple(sorted(own.union(shared))) if own else shared


def _subtypes(pattern: Pattern, event: str) -> Written:
    named = [balp.coding(balp.EVENT_SYSTEM, event)] if pattern.is_named else []
    return balp.written([*pattern.subtypes, *named])


def _source(pattern: Pattern, source: Source) -> Written:
    return balp.written(
        {
            "site": source.site,
            "observer": _who(source.process, source.process),
            "type": [pattern.source_type],
        }
    )


def _agent(pattern: Pattern, agent: AuditAgent) -> Json:
    """Give one agent as this pattern allows it: BALP lets only some say more than who."""
    is_user = agent.kind == AgentKind.USER
    value: Json = {
        "type": {"coding": [pattern.agents[agent.kind]]},
        "who": _who(agent.identifier, agent.name),
        "requestor": is_user,
    }
    if is_user:
        value["name"] = agent.name
    if agent.role and (is_user or pattern is not balp.CONSENT_DECISION):
        value["role"] = [{"coding": [balp.coding(balp.ROLE_SYSTEM, agent.role)]}]
    if agent.purpose:
        value["purposeOfUse"] = [{"coding": [balp.coding(balp.ACT_REASON, agent.purpose)]}]
    if agent.kind in (AgentKind.CLIENT, AgentKind.SERVER):
        value["network"] = _network(agent.address)
    return value


def _who(identifier: str, name: str) -> Json:
    return {"identifier": {"system": AGENT_SYSTEM, "value": identifier}, "display": name}


def _network(address: str | None) -> Json:
    """Give AuditEvent.agent.network; type 1 is a machine name, 2 an IP address, 5 a URI."""
    if not address:
        absent = {"url": _ABSENT, "valueCode": "unknown"}
        return {"_address": {"extension": [absent]}}
    if "://" in address:
        return {"address": address, "type": "5"}
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return {"address": address, "type": "1"}
    return {"address": address, "type": "2"}


def _canonical(content: object) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)


def _correlations(entities: Sequence[Any]) -> Iterator[tuple[str, str]]:
    for entity in entities:
        identifier = entity.get("what", {}).get("identifier", {})
        # Only these entities hold ids in their details; elsewhere a caller may name them at will.
        if identifier.get("system") in (JOB_SYSTEM, PATIENT_KEY_SYSTEM):
            for detail in entity.get("detail", ()):
                if detail["type"] in _DETAIL_SYSTEMS:
                    yield _DETAIL_SYSTEMS[detail["type"]], detail["valueString"]
        if "system" in identifier:
            yield identifier["system"], identifier["value"]


def _event_name(subtypes: Sequence[Any]) -> str:
    """Give our own name of an event; only the consent decision has no room for it."""
    named = [coding["code"] for coding in subtypes if coding["system"] == balp.EVENT_SYSTEM]
    return str(named[0]) if named else "consent"
