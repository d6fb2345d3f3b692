"""The one import surface for incoming FHIR: bytes to valid R4 4.0.1 resources.

What is checked, and what is not, is in docs/validation.md. Two steps:

1. every event: strict JSON, the generated schema, the rules that a schema can't say;
2. only what was refused: an explanation, as issues of an OperationOutcome without any value.

Source: FHIR R4 4.0.1, http://hl7.org/fhir/R4/validation.html, json.html, http.html.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from gateway.core.errors import InvalidResource, Issue, MalformedJson, TooLarge
from gateway.core.r4_document import Clues
from gateway.core.r4_json import (
    count_strings,
    decode,
    decode_repeating,
    repeats_a_property,
    repetition,
)
from gateway.core.r4_validation import bundle_issues, issues_of

__all__ = [
    "DEFAULT_LIMITS",
    "BundleEntry",
    "ParseLimits",
    "ParsedBundle",
    "Resource",
    "parse_bundle",
    "parse_resource",
    "resource_type_of",
]


@dataclass(frozen=True)
class ParseLimits:
    """How much of a document is accepted; its size in bytes is checked by the HTTP edge.

    Attributes:
        max_depth: Nesting of JSON objects and arrays.
        max_entries: Entries of one Bundle.
    """

    max_depth: int = 40
    max_entries: int = 1000


DEFAULT_LIMITS = ParseLimits()


@dataclass(frozen=True)
class Resource:
    """One parsed and valid resource.

    Attributes:
        type: Its `resourceType`.
        content: Decoded JSON, for reading: never write it out again, 1.50 has become 1.5 in it.
        raw: Exactly the bytes that were received for this resource.
    """

    type: str
    content: dict[str, Any]
    raw: bytes


@dataclass(frozen=True)
class BundleEntry:
    """One entry of a Bundle.

    Attributes:
        index: Its position, from 0.
        full_url: `fullUrl`.
        method: `request.method`.
        url: `request.url`.
        resource: The resource, if the entry has one and it is valid.
        issues: What is wrong with the resource of this entry.
    """

    index: int
    full_url: str | None
    method: str | None
    url: str | None
    resource: Resource | None
    issues: tuple[Issue, ...]


@dataclass(frozen=True)
class ParsedBundle:
    """A Bundle whose own elements are valid; the resources in it may not be.

    Attributes:
        type: `Bundle.type`.
        content: The Bundle's own elements, its entries without their resources.
        entries: Its entries in order.
        raw: Exactly the bytes that were received.
    """

    type: str
    content: dict[str, Any]
    entries: tuple[BundleEntry, ...]
    raw: bytes


class _Peek(msgspec.Struct):
    resourceType: str | None = None  # noqa: N815 - FHIR's name


class _EntrySlice(msgspec.Struct):
    resource: msgspec.Raw = msgspec.Raw()


class _BundleSlices(msgspec.Struct):
    entry: list[_EntrySlice] = []


_peek = msgspec.json.Decoder(_Peek)
_slices = msgspec.json.Decoder(_BundleSlices)


def resource_type_of(raw: bytes) -> str | None:
    """Look at the `resourceType` without checking anything else."""
    try:
        return _peek.decode(raw).resourceType
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def parse_resource(
    raw: bytes, *, limits: ParseLimits = DEFAULT_LIMITS, expected_type: str | None = None
) -> Resource:
    """Read one resource, with everything that is nested in it.

    Args:
        raw: JSON as received.
        limits: How much is accepted.
        expected_type: Resource type that the URL names, if it does.

    Raises:
        MalformedJson: Not JSON, or a property is given twice.
        TooLarge: Nested too deep, or a Bundle with too many entries.
        InvalidResource: Not a valid resource of R4, or not one of the expected type.
    """
    content = decode(raw, max_depth=limits.max_depth)
    _refuse_many_entries(content, limits)
    _refuse_other_types(content, expected_type)
    issues = issues_of(content, Clues.of(raw))
    if issues or not isinstance(content, dict):
        raise InvalidResource(issues)
    return Resource(content["resourceType"], content, raw)


def parse_bundle(raw: bytes, *, limits: ParseLimits = DEFAULT_LIMITS) -> ParsedBundle:
    """Read a Bundle; what is wrong with the resource of an entry is said at that entry.

    One type that R4 does not have is taken: `subscription-notification`, of R4B.

    Args:
        raw: JSON as received.
        limits: How much is accepted.

    Raises:
        MalformedJson: Not JSON, or a property of the Bundle itself is given twice.
        TooLarge: Nested too deep, or too many entries.
        InvalidResource: Not a Bundle, or its own elements are not valid.
    """
    content = decode_repeating(raw, max_depth=limits.max_depth)
    _refuse_many_entries(content, limits)
    _refuse_other_types(content, "Bundle")
    envelope, clues = _without_resources(content), Clues.of(raw)
    issues = bundle_issues(_as_of_r4(content), _as_of_r4(envelope), clues)
    if issues or not isinstance(content, dict):
        raise InvalidResource(issues)
    slices = _resource_slices(raw)
    repeating = _repeating_entries(raw, content, slices)
    entries: list[BundleEntry] = []
    for index, (entry, part) in enumerate(zip(content.get("entry", []), slices, strict=True)):
        at = f"Bundle.entry[{index}].resource"
        if part is None:
            found: tuple[Issue, ...] = ()
        elif index in repeating:
            found = _repetition_at(part, at)
        else:
            found = issues_of(entry["resource"], clues, at=at)
        entries.append(_entry(index, entry, part, found))
    return ParsedBundle(content["type"], envelope, tuple(entries), raw)


def _as_of_r4(bundle: Any) -> Any:  # noqa: ANN401 - not validated yet
    """Judge a notification of R4B as the history that it would be in R4."""
    is_of_r4b = isinstance(bundle, dict) and bundle.get("type") == "subscription-notification"
    return {**bundle, "type": "history"} if is_of_r4b else bundle


def _refuse_other_types(content: object, expected_type: str | None) -> None:
    name = content.get("resourceType") if isinstance(content, dict) else None
    if expected_type is not None and isinstance(name, str) and name != expected_type:
        words = "The resourceType is not the one that is wanted here."
        raise InvalidResource((Issue("invalid", words, "resourceType"),))


def _refuse_many_entries(content: object, limits: ParseLimits) -> None:
    entries = content.get("entry") if isinstance(content, dict) else None
    if isinstance(entries, list) and len(entries) > limits.max_entries:
        raise TooLarge(
            f"A Bundle may have {limits.max_entries} entries here; send it in parts.",
            location="Bundle.entry",
        )


def _without_resources(content: Any) -> Any:  # noqa: ANN401 - not validated yet
    entries = content.get("entry") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        return content
    return {**content, "entry": [_without_resource(entry) for entry in entries]}


def _without_resource(entry: Any) -> Any:  # noqa: ANN401 - not validated yet
    if not isinstance(entry, dict):
        return entry
    return {name: value for name, value in entry.items() if name != "resource"}


def _resource_slices(raw: bytes) -> list[bytes | None]:
    """Cut the bytes of the entries' resources out of those of a Bundle."""
    try:
        entries = _slices.decode(raw).entry
    except (msgspec.MsgspecError, RecursionError) as error:
        raise MalformedJson from error
    return [bytes(entry.resource) or None for entry in entries]


def _repeating_entries(
    raw: bytes, bundle: dict[str, Any], slices: list[bytes | None]
) -> frozenset[int]:
    """Give the entries whose resource has a repeated property.

    Raises:
        MalformedJson: A property outside of the resources is repeated.
    """
    if not repeats_a_property(raw, bundle):
        return frozenset()
    lost = {
        index: count_strings(resource) - count_strings(orjson.dumps(entry["resource"]))
        for index, (entry, resource) in enumerate(zip(bundle.get("entry", []), slices, strict=True))
        if resource is not None
    }
    if count_strings(raw) - count_strings(orjson.dumps(bundle)) != sum(lost.values()):
        raise repetition(raw)
    return frozenset(index for index, count in lost.items() if count)


def _entry(
    index: int, entry: dict[str, Any], raw: bytes | None, issues: tuple[Issue, ...]
) -> BundleEntry:
    request = entry.get("request", {})
    resource = None
    if raw is not None and not issues:
        content = entry["resource"]
        resource = Resource(content["resourceType"], content, raw)
    return BundleEntry(
        index=index,
        full_url=entry.get("fullUrl"),
        method=request.get("method"),
        url=request.get("url"),
        resource=resource,
        issues=issues,
    )


def _repetition_at(raw: bytes, at: str) -> tuple[Issue, ...]:
    error = repetition(raw)
    return (Issue(error.issue_type, error.message, at),)
