"""The parameters of `GET /fhir/AuditEvent`: what each asks of the log.

A parameter may be given once (`date` twice), with one value: what is not understood is refused, as
an answer that leaves it out would mislead.

Source: FHIR R4 AuditEvent search parameters; IHE ITI-81; the parameters of IHE BALP 1.1. `purpose`
is an extension: the purpose of use of an agent.
"""

from dataclasses import dataclass, replace
from datetime import datetime

import orjson
from starlette.requests import Request

from gateway.api.edge import Edge
from gateway.api.paging import count_of, insist_on_known, whole_number
from gateway.core import balp, clinical_time
from gateway.core.audit_event import (
    AGENT_SYSTEM,
    EVENT_SYSTEM,
    JOB_SYSTEM,
    MODEL_SYSTEM,
    PATIENT_KEY_SYSTEM,
)
from gateway.core.audit_terms import USUAL_CODES, entity_term, purpose_term
from gateway.core.clock import to_ms
from gateway.core.errors import ContentError
from gateway.store.audit_questions import Named
from gateway.store.audit_search import AuditFilter

#: Name and FHIR type of each parameter, as the CapabilityStatement lists them.
PARAMETERS = {
    "_id": "token",
    "date": "date",
    "patient": "reference",
    "patient.identifier": "token",
    "agent": "reference",
    "agent.identifier": "token",
    "entity": "reference",
    "entity.identifier": "token",
    "type": "token",
    "subtype": "token",
    "action": "token",
    "outcome": "token",
    "purpose": "token",
}
#: Those that shape the answer or say whose patient it is.
CONTROLS = ("system", "_sort")

_OUTCOMES = frozenset({"0", "4", "8", "12"})
_ACTIONS = frozenset("CRUDE")
_SORTS = {"date": True, "-date": False}
_RESTFUL = "http://hl7.org/fhir/restful-interaction"
_CONSENT = "AuthZ-Consent"


@dataclass(frozen=True)
class Wanted:
    """A search as it was asked for.

    Attributes:
        resource: A resource that the events have to name, to be looked up first.
    """

    filter: AuditFilter
    resource: Named | None = None


def wanted_of(request: Request, edge: Edge) -> Wanted:
    """Read the parameters of a search.

    Raises:
        ContentError: One is not known, or not understood.
    """
    insist_on_known(request, *PARAMETERS, *CONTROLS)
    given = request.query_params
    since, until = _period(given.getlist("date"))
    wanted = AuditFilter(
        id=given.get("_id"),
        patient_key=_patient(request, edge),
        since_ms=since,
        until_ms=until,
        outcome=_one_of(request, "outcome", _OUTCOMES),
        action=_one_of(request, "action", _ACTIONS),
        agent=_agent(request),
        before_seq=whole_number(request, "before"),
        is_ascending=_is_ascending(request),
        limit=count_of(request),
    )
    wanted = _with_type(_with_subtype(_with_purpose(wanted, request), request), request)
    return _with_entity(_with_identifier(wanted, request), request, edge)


def safe_query(wanted: Wanted) -> str:
    """Write a search down: the patient as a keyed hash, a resource by its type alone."""
    asked = wanted.filter
    named = {
        "_id": asked.id,
        "patient-key": asked.patient_key,
        "since": asked.since_ms,
        "until": asked.until_ms,
        "outcome": asked.outcome,
        "action": asked.action,
        "agent": asked.agent,
        "subtype": asked.event,
        "job": asked.job_id,
        "terms": ",".join(asked.terms) or None,
        "entity-type": wanted.resource.resource_type if wanted.resource else None,
        "_count": asked.limit,
    }
    return "AuditEvent?" + "&".join(f"{k}={v}" for k, v in named.items() if v is not None)


def _patient(request: Request, edge: Edge) -> str | None:
    by_reference, token = edge.patient_key_of(request), _token(request, "patient.identifier")
    if token is None:
        return by_reference
    system, key = token
    if system not in ("", PATIENT_KEY_SYSTEM) or by_reference not in (None, key):
        message = f"patient.identifier takes keys of the system {PATIENT_KEY_SYSTEM}."
        raise ContentError(message, location="patient.identifier")
    return key


def _agent(request: Request) -> str | None:
    by_name, token = request.query_params.get("agent"), _token(request, "agent.identifier")
    if token is None:
        return by_name
    system, identifier = token
    if system not in ("", AGENT_SYSTEM) or by_name not in (None, identifier):
        message = f"agent.identifier takes ids of the system {AGENT_SYSTEM}."
        raise ContentError(message, location="agent.identifier")
    return identifier


def _with_purpose(wanted: AuditFilter, request: Request) -> AuditFilter:
    token = _token(request, "purpose")
    return _having(wanted, purpose_term(token[1])) if token else wanted


def _with_type(wanted: AuditFilter, request: Request) -> AuditFilter:
    token = _token(request, "type")
    if token is None:
        return wanted
    _, code = token
    if code not in USUAL_CODES:
        return _having(wanted, f"type:{code}")
    return _written(wanted, b'"type":{"code":' + orjson.dumps(code) + b",")


def _with_subtype(wanted: AuditFilter, request: Request) -> AuditFilter:
    token = _token(request, "subtype")
    if token is None:
        return wanted
    system, code = token
    if code == _CONSENT:
        return replace(wanted, event="consent")
    if code in USUAL_CODES and system != balp.EVENT_SYSTEM:
        names = b",".join(
            b'"' + name + b'":' + orjson.dumps(value)
            for name, value in ((b"code", code), (b"display", code), (b"system", _RESTFUL))
        )
        return _written(wanted, names)
    if code.isdecimal() or system not in ("", balp.EVENT_SYSTEM):
        return _having(wanted, f"subtype:{code}")
    return replace(wanted, event=code)


def _with_identifier(wanted: AuditFilter, request: Request) -> AuditFilter:
    token = _token(request, "entity.identifier")
    if token is None:
        return wanted
    system, value = token
    if not system:
        message = "entity.identifier needs its system: system|value."
        raise ContentError(message, location="entity.identifier")
    if system == JOB_SYSTEM:
        return replace(wanted, job_id=value)
    if system == PATIENT_KEY_SYSTEM and wanted.patient_key in (None, value):
        return replace(wanted, patient_key=value)
    term = entity_term(system, value)
    if term is not None:
        return _having(wanted, term)
    named = orjson.dumps({"system": system, "value": value}, option=orjson.OPT_SORT_KEYS)
    return _written(wanted, b'"identifier":' + named)


def _with_entity(wanted: AuditFilter, request: Request, edge: Edge) -> Wanted:
    given = request.query_params.get("entity")
    if given is None:
        return Wanted(wanted)
    kind, _, identifier = given.partition("/")
    if not (kind and identifier) or "/" in identifier:
        raise ContentError("entity has to be Type/id.", location="entity")
    if kind == "Task":
        return Wanted(replace(wanted, job_id=identifier))
    if kind == "Device":
        return Wanted(_having(wanted, str(entity_term(MODEL_SYSTEM, identifier))))
    return Wanted(wanted, Named(edge.system_of(request), kind, identifier))


def needles_of(resource: Named, versions: frozenset[str]) -> tuple[bytes, ...]:
    """Give what stands in the events that name a resource, by reference or by a version of it."""
    reference = orjson.dumps(f"{resource.resource_type}/{resource.resource_id}")
    named = [b'"valueString":' + orjson.dumps(each) for each in sorted(versions)]
    events = [
        orjson.dumps({"system": EVENT_SYSTEM, "value": each}, option=orjson.OPT_SORT_KEYS)
        for each in sorted(versions)
    ]
    return (b'"reference":' + reference, *named, *events)


def _having(wanted: AuditFilter, term: str) -> AuditFilter:
    return replace(wanted, terms=(*wanted.terms, term))


def _written(wanted: AuditFilter, needle: bytes) -> AuditFilter:
    return replace(wanted, written=(*wanted.written, needle))


def _token(request: Request, name: str) -> tuple[str, str] | None:
    """Read `[system|]code`; the system is empty where none is given."""
    given = request.query_params.get(name)
    if given is None:
        return None
    if "," in given:
        raise ContentError(f"{name} takes one value.", location=name)
    system, bar, code = given.rpartition("|")
    if not code or (bar and not system):
        raise ContentError(f"{name} has to be a code, or system|code.", location=name)
    return system, code


def _one_of(request: Request, name: str, known: frozenset[str]) -> str | None:
    given = request.query_params.get(name)
    if given is not None and given not in known:
        words = ", ".join(sorted(known, key=lambda word: (len(word), word)))
        raise ContentError(f"{name} has to be one of {words}.", location=name)
    return given


def _is_ascending(request: Request) -> bool:
    given = request.query_params.get("_sort", "-date")
    if given not in _SORTS:
        raise ContentError("_sort takes date or -date.", location="_sort")
    return _SORTS[given]


def _period(dates: list[str]) -> tuple[int | None, int | None]:
    """Read `date=ge…&date=lt…` and whole days into a half-open span of milliseconds."""
    since: int | None = None
    until: int | None = None
    for given in dates:
        prefix, text = (given[:2], given[2:]) if given[:2].isalpha() else ("eq", given)
        first, last = _span(text)
        starts, ends = _bounds(prefix, first, last)
        since = max(filter(None, (since, starts)), default=None)
        until = min(filter(None, (until, ends)), default=None)
    return since, until


def _span(text: str) -> tuple[datetime, datetime]:
    # A `+` of a time zone arrives as a space when the caller did not encode it.
    span = clinical_time.parse(text.replace(" ", "+"))
    if span is None:
        raise ContentError("date has to be a FHIR date or dateTime.", location="date")
    return span.first, span.last


def _bounds(prefix: str, first: datetime, last: datetime) -> tuple[int | None, int | None]:
    lower, upper = to_ms(first), to_ms(last) + 1
    bounds = {
        "eq": (lower, upper),
        "ge": (lower, None),
        "gt": (upper, None),
        "le": (None, upper),
        "lt": (None, lower),
    }
    if prefix not in bounds:
        raise ContentError("date takes the prefixes eq, ge, gt, le and lt.", location="date")
    return bounds[prefix]
