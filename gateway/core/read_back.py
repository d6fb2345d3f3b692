"""(6) What an EHR kept of a result: compared with what was sent, element by element.

An EHR may answer 201 and drop the elements that say that a machine made it, and whose it is. What
is looked at are those that a reader or Nadi itself relies on. The label that an AI made it counts
as kept in `meta.security`; failing that, in words that a person sees beside the value.

Two resources are the same result where no identifier tells: same patient, code, clinical time and
value, and no identifier of another result.

Source: HL7 AI Transparency on FHIR (STU1 ballot), section on labels; docs/write-back.md.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from gateway.core.result_terms import AIAST, RESULT_SYSTEM, Json

#: What is said of a label.
AI_LABEL = "meta.security"
VALUE = "value"
IDENTIFIER = "identifier"
UNIT = "unit"
#: Elements that name the Device, by type.
_MADE_BY = {
    "Observation": "device",
    "RiskAssessment": "performer",
    "DocumentReference": "author",
    "Communication": "sender",
    "Task": "requester",
}
#: Elements that are looked at as "there or not".
_PLAIN = ("interpretation", "note", "method", "text", "derivedFrom", "basis", "component")
#: Elements in which a person reads what stands beside the value.
_SHOWN = ("text", "note", "conclusion", "description", "payload", "presentedForm", "valueString")
#: What a result was made from, by type.
_MADE_FROM = ("derivedFrom", "basis", "result")
_SAYS_AI = re.compile(r"\bAI\b")
_CLOSE = 1e-6
#: What UCUM says in braces counts for nothing.
_ANNOTATION = re.compile(r"\{[^}]*\}")
#: Types that are searched by their code.
_BY_CODE = frozenset({"Observation", "DiagnosticReport"})
#: Characters of a date.
_DAY = 10


class Label(StrEnum):
    """How the label that an AI made it came through."""

    CODED = "coded"
    WORDS = "words"
    LOST = "lost"


def label_of(kept: Json) -> Label:
    """Say how a resource in the EHR tells that an AI made it."""
    if any(_is_aiast(each) for each in _security(kept)):
        return Label.CODED
    shown = [kept.get("code"), kept.get("topic"), kept.get("type")]
    shown += [kept.get(name) for name in _SHOWN]
    return Label.WORDS if any(_says_ai(each) for each in shown if each) else Label.LOST


def kept_at_most(sent: Json, drops: Iterable[str]) -> Json:
    """Give what is left of a resource in an EHR that is known to drop elements.

    Args:
        sent: What is to be written.
        drops: Elements by name, or by the names on the way to them: `note`, `code.text`.
    """
    kept = sent
    for path in drops:
        first, _, rest = path.partition(".")
        inner = kept.get(first)
        if not rest:
            kept = {name: value for name, value in kept.items() if name != first}
        elif isinstance(inner, dict):
            kept = {**kept, first: kept_at_most(inner, [rest])}
    return kept


def lost_of(sent: Json, kept: Json) -> tuple[str, ...]:
    """Name what was sent and is not there, in the order of `_CHECKS`."""
    return tuple(name for name, is_lost in _CHECKS.items() if is_lost(sent, kept))


def is_same_result(sent: Json, kept: Json, identifier: str) -> bool:
    """Say whether a resource of the EHR is this result, as far as anybody can tell.

    Args:
        sent: What is to be written, or was.
        kept: What a search gave; the EHR may have ignored what it was asked for.
        identifier: Of the result.
    """
    own = [e.get("value") for e in _dicts(kept, "identifier") if e.get("system") == RESULT_SYSTEM]
    if own:
        return identifier in own
    return (
        sent["resourceType"] == kept.get("resourceType")
        and kept.get("status") != "entered-in-error"
        and _patient(sent) == _patient(kept)
        and _codes(sent) & _codes(kept) != set()
        and _moment(sent) == _moment(kept)
        and _is_same_value(sent, kept)
    )


def likeness(sent: Json, kept: Json) -> int:
    """Count what two have in common that may be the same: when they were made, and from what.

    An EHR may drop or rewrite either, so neither decides alone; of several it tells the likest.
    """
    issued = _is_same_instant(sent.get("issued"), kept.get("issued"))
    return issued + sum(_sources(sent, name) == _sources(kept, name) for name in _MADE_FROM)


def query_of(sent: Json) -> Iterator[list[tuple[str, str]]]:
    """Give the searches that find a result by what it is about, the narrowest first."""
    patient = ("patient", subject_of(sent))
    narrow = [patient]
    if sent["resourceType"] in _BY_CODE:
        narrow.append(("code", _token(sent)))
    day = _day(sent)
    if sent["resourceType"] != "Task" and day:
        # A day more on either side: an EHR may reckon days in another zone.
        name = "sent" if sent["resourceType"] == "Communication" else "date"
        one = timedelta(days=1)
        narrow += [(name, f"ge{day - one}"), (name, f"le{day + one}")]
    yield narrow
    if len(narrow) > 1:
        yield [patient]


def subject_of(sent: Json) -> str:
    """Give the reference of the patient whom a result is about."""
    subject = _object(sent, "subject") or _object(sent, "for")
    return str(subject.get("reference", ""))


def _value_lost(sent: Json, kept: Json) -> bool:
    return not _is_same_value(sent, kept)


def _unit_changed(sent: Json, kept: Json) -> bool:
    """Say whether a number stands there in another unit; one that tells none has not changed it."""
    told = _units(_object(kept, "valueQuantity"))
    return bool(told) and told.isdisjoint(_units(_object(sent, "valueQuantity")))


def _units(quantity: Mapping[str, Any]) -> set[str]:
    """Give the spellings of a unit, `1` for what has no dimension."""
    names = (str(quantity.get(name) or "") for name in ("code", "unit"))
    return {_ANNOTATION.sub("", name).strip().lower() or "1" for name in names if name}


def _identifier_lost(sent: Json, kept: Json) -> bool:
    wanted = {(e.get("system"), e.get("value")) for e in _dicts(sent, "identifier")}
    return not wanted <= {(e.get("system"), e.get("value")) for e in _dicts(kept, "identifier")}


def _device_lost(sent: Json, kept: Json) -> bool:
    name = _MADE_BY.get(str(sent["resourceType"]), "")
    return bool(sent.get(name)) and not kept.get(name)


def _status_changed(sent: Json, kept: Json) -> bool:
    names = ("status", "docStatus")
    return any(sent.get(name) != kept.get(name) for name in names if name in sent)


def _label_lost(_: Json, kept: Json) -> bool:
    return label_of(kept) is not Label.CODED


def _is_absent(name: str) -> Callable[[Json, Json], bool]:
    return lambda sent, kept: bool(sent.get(name)) and not kept.get(name)


_CHECKS: Mapping[str, Callable[[Json, Json], bool]] = {
    AI_LABEL: _label_lost,
    VALUE: _value_lost,
    UNIT: _unit_changed,
    IDENTIFIER: _identifier_lost,
    "status": _status_changed,
    "device": _device_lost,
    **{name: _is_absent(name) for name in _PLAIN},
}


def _is_same_value(sent: Json, kept: Json) -> bool:
    mine, theirs = _value(sent), _value(kept)
    if isinstance(mine, float) and isinstance(theirs, float):
        return math.isclose(mine, theirs, rel_tol=_CLOSE, abs_tol=_CLOSE)
    return mine == theirs


def _value(resource: Json) -> float | str | frozenset[str] | None:
    """Give the value of a result in a form that survives another spelling of it."""
    if resource.get("resourceType") == "RiskAssessment":
        first = next(_dicts(resource, "prediction"), {}).get("probabilityDecimal")
        return float(first) if isinstance(first, int | float) else None
    quantity, concept = resource.get("valueQuantity"), resource.get("valueCodeableConcept")
    if isinstance(quantity, dict) and isinstance(quantity.get("value"), int | float):
        return float(quantity["value"])
    if isinstance(concept, dict):
        return frozenset(str(each.get("code")) for each in _dicts(concept, "coding"))
    told = (resource.get(name) for name in ("valueString", "conclusion", "description"))
    return next((str(each) for each in told if each), None)


def _is_same_instant(one: object, other: object) -> bool:
    try:
        return datetime.fromisoformat(str(one)) == datetime.fromisoformat(str(other))
    except ValueError:
        return False


def _sources(resource: Json, name: str) -> set[str]:
    return {tail_of(str(each.get("reference", ""))) for each in _dicts(resource, name)}


def _patient(resource: Json) -> str:
    return tail_of(subject_of(resource))


def _token(sent: Json) -> str:
    """Give the first code of a result as a search value."""
    first = next(_dicts(_object(sent, "code"), "coding"), {})
    system, code = first.get("system"), str(first.get("code", ""))
    return f"{system}|{code}" if system else code


def _day(sent: Json) -> date | None:
    """Give the day of a result, which every EHR can search by; the moment is compared later."""
    names = ("effectiveDateTime", "effectiveInstant", "occurrenceDateTime", "date", "sent")
    told = next((str(sent[name]) for name in names if sent.get(name)), "")
    try:
        return date.fromisoformat(told[:_DAY])
    except ValueError:
        return None


def tail_of(reference: str) -> str:
    """Give `Type/id` of a reference that may be absolute, or name a version."""
    return "/".join(reference.partition("/_history/")[0].split("/")[-2:])


def _codes(resource: Json) -> set[str]:
    names = (resource.get(name) for name in ("code", "type", "topic"))
    concept = next((each for each in names if isinstance(each, dict)), {})
    codes = {str(each.get("code")) for each in _dicts(concept, "coding")}
    return codes or {str(concept.get("text", ""))}


def _moment(resource: Json) -> datetime | str | None:
    """Give the clinical time; two spellings of one instant are one."""
    names = ("effectiveDateTime", "effectiveInstant", "occurrenceDateTime", "date", "sent")
    period = _object(resource, "effectivePeriod") or _object(resource, "occurrencePeriod")
    told = next((str(resource[n]) for n in (*names, "authoredOn") if resource.get(n)), None)
    told = told or str(period.get("start", ""))
    try:
        moment = datetime.fromisoformat(told) if told else None
    except ValueError:
        return told
    return moment if moment is None or moment.tzinfo else told


def _security(resource: Json) -> Iterator[Mapping[str, Any]]:
    return _dicts(_object(resource, "meta"), "security")


def _is_aiast(coding: Mapping[str, Any]) -> bool:
    return (coding.get("system"), coding.get("code")) == (AIAST["system"], AIAST["code"])


def _says_ai(node: object) -> bool:
    if isinstance(node, str):
        return bool(_SAYS_AI.search(node))
    if isinstance(node, dict):
        return any(_says_ai(each) for key, each in node.items() if key not in ("data", "system"))
    return isinstance(node, list) and any(_says_ai(each) for each in node)


def _object(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Give an object; an EHR's answer may hold anything there."""
    found = parent.get(key)
    return found if isinstance(found, dict) else {}


def _dicts(parent: Mapping[str, Any], key: str) -> Iterator[dict[str, Any]]:
    """Give the objects of a list; an EHR's answer may hold anything there."""
    found = parent.get(key)
    return (
        (each for each in found if isinstance(each, dict)) if isinstance(found, list) else iter(())
    )
