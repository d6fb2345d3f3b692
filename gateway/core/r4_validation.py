"""Validate decoded R4 resources, and say as issues of an OperationOutcome what is wrong.

A resource is checked by the schema of its type and by the rules about it as a whole; then each
resource nested in it (contained, Bundle entries, Parameters) by itself. Nothing is explained
unless it is refused.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from gateway.core.errors import Issue
from gateway.core.r4_document import Clues, JsonPath, Violation, document_violations
from gateway.core.r4_schema import (
    MAX_ISSUES,
    expression,
    is_valid,
    resource_types,
    schema_violations,
)

Object = dict[str, Any]


def issues_of(content: object, clues: Clues, *, at: str | None = None) -> tuple[Issue, ...]:
    """Validate one resource and everything nested in it.

    Args:
        content: A decoded JSON document.
        clues: Of the bytes it was decoded from.
        at: FHIRPath of the resource in a larger one, for example `Bundle.entry[0].resource`.

    Returns:
        The first `MAX_ISSUES` problems; none if it is valid.
    """
    return tuple(islice(_resource_issues(content, clues, at), MAX_ISSUES))


def bundle_issues(bundle: object, envelope: object, clues: Clues) -> tuple[Issue, ...]:
    """Validate a Bundle's own elements, but not the resources of its entries.

    Args:
        bundle: The decoded document.
        envelope: The same without the resources.
        clues: Of the bytes it was decoded from.
    """
    issues = _type_issues(bundle, "Bundle") or _own_issues(bundle, clues, "Bundle", envelope)
    return tuple(islice(issues, MAX_ISSUES))


def _resource_issues(content: object, clues: Clues, at: str | None) -> Iterator[Issue]:
    problems = _type_issues(content, at)
    if problems or not isinstance(content, dict):
        yield from problems
        return
    here = at or content["resourceType"]
    yield from _own_issues(content, clues, here, content)
    for path, nested in _nested(content):
        yield from _resource_issues(nested, clues, _join(here, content["resourceType"], path))


def _type_issues(content: object, at: str | None) -> tuple[Issue, ...]:
    """Refuse what is not an object with the type of a resource."""
    if not isinstance(content, dict):
        return (Issue("structure", "A resource is a JSON object.", at),)
    name = content.get("resourceType")
    if not isinstance(name, str):
        return (Issue("required", "The property 'resourceType' is required.", at),)
    if name not in resource_types():
        return (Issue("not-supported", "R4 has no resource of this resourceType.", at),)
    return ()


def _own_issues(content: Any, clues: Clues, at: str, document: Any) -> Iterator[Issue]:  # noqa: ANN401
    """Find what is wrong with one resource, apart from resources nested in it."""
    for violation in _violations(content, clues, document, is_contained=".contained[" in at):
        place = _join(at, content["resourceType"], violation.path)
        yield Issue(violation.code, violation.diagnostics, place)


def _violations(
    content: Object, clues: Clues, document: Object, *, is_contained: bool
) -> Iterator[Violation]:
    if not is_valid(content):
        yield from schema_violations(content, is_small=clues.is_small)
    if not is_contained:  # the walk through the container has been there
        yield from document_violations(document, clues)


def _join(at: str, resource_type: str, path: JsonPath) -> str:
    """Write the FHIRPath of an element below the place of its resource."""
    return at + expression(resource_type, path).removeprefix(resource_type)


def _nested(resource: Object) -> Iterator[tuple[JsonPath, object]]:
    """Give the resources directly in a resource, with their paths; each has been found once."""
    yield from (((*path,), item) for path, item in _items(resource, "contained"))
    if resource["resourceType"] == "Bundle":
        yield from _in_entries(resource)
    elif resource["resourceType"] == "Parameters":
        yield from _in_parameters(resource, "parameter", ())


def _in_entries(bundle: Object) -> Iterator[tuple[JsonPath, object]]:
    for path, entry in _items(bundle, "entry"):
        if isinstance(entry, dict) and "resource" in entry:
            yield (*path, "resource"), entry["resource"]
        response = entry.get("response") if isinstance(entry, dict) else None
        if isinstance(response, dict) and "outcome" in response:
            yield (*path, "response", "outcome"), response["outcome"]


def _in_parameters(owner: Object, name: str, at: JsonPath) -> Iterator[tuple[JsonPath, object]]:
    for path, parameter in _items(owner, name):
        if isinstance(parameter, dict):
            if "resource" in parameter:
                yield (*at, *path, "resource"), parameter["resource"]
            yield from _in_parameters(parameter, "part", (*at, *path))


def _items(owner: Object, name: str) -> Iterator[tuple[JsonPath, object]]:
    items = owner.get(name)
    if isinstance(items, list):
        yield from (((name, index), item) for index, item in enumerate(items))
