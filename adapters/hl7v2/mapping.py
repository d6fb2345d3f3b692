"""Puts the fields of a segment where `segments.csv` says, into the resource under construction."""

from typing import Any

from adapters.hl7v2.datatypes import CONVERSIONS, Json, Reading
from adapters.hl7v2.dialect import Dialect, Notes
from adapters.hl7v2.message import Segment
from adapters.hl7v2.tables import Rule, rules_of


def fill(target: Json, resource: str, segment: Segment, dialect: Dialect, notes: Notes) -> None:
    """Read what a segment says of a resource.

    What is there already stays: of several fields for one element the first that says something
    counts.

    Args:
        target: The resource or element.
        resource: How `segments.csv` calls it.
        segment: The segment.
        dialect: How the feed writes.
        notes: Takes what was left out.
    """
    for rule in rules_of(segment.name):
        if rule.resource == resource:
            _apply(target, rule, segment, dialect, notes)


def _apply(target: Json, rule: Rule, segment: Segment, dialect: Dialect, notes: Notes) -> None:
    reading = Reading(dialect, notes, segment.at(rule.field))
    convert = CONVERSIONS[rule.conversion]
    for value in segment.values(rule.field):
        made = convert(value, rule.argument, reading)
        if made is not None:
            put(target, rule.path, made)


def put(target: Json, path: str, value: Any) -> None:  # noqa: ANN401 (any JSON)
    """Put a value into a resource.

    Args:
        target: The resource.
        path: Names of elements; where one ends in `[]`, an item is added there.
        value: What to put there.
    """
    *steps, last = path.split(".")
    for step in steps:
        target = _entered(target, step)
    name = last.removesuffix("[]")
    if last.endswith("[]"):
        known = target.setdefault(name, [])
        if value not in known:
            known.append(value)
    else:
        target.setdefault(name, value)


def _entered(target: Json, step: str) -> Json:
    name = step.removesuffix("[]")
    if not step.endswith("[]"):
        entered: Json = target.setdefault(name, {})
        return entered
    added: Json = {}
    target.setdefault(name, []).append(added)
    return added
