"""Rules of R4 about a resource as a whole: placeholders and contained resources.

Both are rare, and a look at the bytes tells when they can't matter: the walks through the content
are only made when it holds `null`, `_name`, `#` references or contained resources.

Source: http://hl7.org/fhir/R4/json.html#primitive, domainresource.html#invs, references.html#invs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gateway.core.r4_json import may_hold

JsonPath = tuple[str | int, ...]
Object = dict[str, Any]

_REFERENCE_ELEMENTS = frozenset(
    {"id", "extension", "reference", "_reference", "type", "_type", "identifier"}
    | {"display", "_display"}
)
_MAX_EXPLAINED_COMMAS = 4000
_ALIGNMENT = (
    "null only holds a place where the other of the two arrays, values and extensions, has "
    "something; an id alone is no content."
)


@dataclass(frozen=True)
class Violation:
    """One broken rule.

    Attributes:
        path: Property names and indexes from the resource down to the element.
        code: FHIR `issue-type` code.
        diagnostics: What is wrong; never a value of the resource.
    """

    path: JsonPath
    code: str
    diagnostics: str


@dataclass(frozen=True)
class Clues:
    """What the bytes of a document tell before anything is walked through.

    Attributes:
        placeholders: There may be nulls or `_name` properties.
        local_references: There may be `#` references.
        is_small: There are few enough elements to explain every error in them.
    """

    placeholders: bool
    local_references: bool
    is_small: bool

    @classmethod
    def of(cls, raw: bytes) -> "Clues":
        """Look through the bytes of a document, once for all resources in it."""
        return cls(
            placeholders=b"null" in raw or may_hold(raw, b"_"),
            local_references=may_hold(raw, b"#"),
            is_small=raw.count(b",") <= _MAX_EXPLAINED_COMMAS,
        )


def document_violations(resource: Object, clues: Clues) -> Iterator[Violation]:
    """Find what is wrong with a resource as a whole.

    Args:
        resource: One resource; those of Bundle entries in it are left out.
        clues: Of the document that it came in.
    """
    if clues.placeholders:
        yield from _misplaced_nulls(resource)
    if "contained" in resource or clues.local_references:
        yield from _broken_local_references(resource)
    if "contained" in resource:
        yield from _wrongly_contained(resource)


def _misplaced_nulls(resource: Object) -> Iterator[Violation]:
    for path, element in _walk(resource):
        for key in element:
            name = key.removeprefix("_")
            if key == name and f"_{key}" in element:
                continue
            if not _is_aligned(element.get(name), element.get(f"_{name}")):
                yield Violation((*path, name), "structure", _ALIGNMENT)


def _is_aligned(values: object, shadows: object) -> bool:
    """Check `name` against `_name`."""
    if not isinstance(values, list) and not isinstance(shadows, list):
        return shadows is None or values is not None or _has_extension(shadows)
    ours = values if isinstance(values, list) else []
    theirs = shadows if isinstance(shadows, list) else []
    return all(
        (index < len(ours) and ours[index] is not None)
        or (index < len(theirs) and _has_extension(theirs[index]))
        for index in range(max(len(ours), len(theirs)))
    )


def _has_extension(shadow: object) -> bool:
    return isinstance(shadow, dict) and "extension" in shadow


def _broken_local_references(resource: Object) -> Iterator[Violation]:
    """ref-1: a `#id` is the id of a contained resource; `#` is the resource itself."""
    ids = {name for item in _contained(resource) if isinstance(name := item.get("id"), str)}
    for path, element in _walk(resource):
        reference = element.get("reference")
        if not (isinstance(reference, str) and reference.startswith("#")):
            continue
        if (
            len(reference) > 1
            and reference[1:] not in ids
            and element.keys() <= _REFERENCE_ELEMENTS
        ):
            yield Violation(path, "invariant", "ref-1: No contained resource has this id.")


def _wrongly_contained(resource: Object) -> Iterator[Violation]:
    """dom-2 to dom-5: what a contained resource must not hold, and that it is used."""
    strings = {text for _, element in _walk(resource) for text in _strings(element)}
    for index, item in enumerate(_contained(resource)):
        path = ("contained", index)
        meta = item.get("meta")
        meta = meta if isinstance(meta, dict) else {}
        if "contained" in item:
            yield Violation(path, "invariant", "dom-2: Contained resources can't be nested.")
        if meta.keys() & {"versionId", "lastUpdated"}:
            yield Violation(
                path, "invariant", "dom-4: A contained resource has no version and no lastUpdated."
            )
        if "security" in meta:
            yield Violation(path, "invariant", "dom-5: A contained resource has no security label.")
        if not (f"#{item.get('id')}" in strings or _refers_to_its_container(item)):
            yield Violation(path, "invariant", "dom-3: Nothing refers to this contained resource.")


def _refers_to_its_container(item: Object) -> bool:
    return any("#" in _strings(element) for _, element in _walk(item))


def _contained(resource: Object) -> list[Any]:
    items = resource.get("contained")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _strings(element: Object) -> Iterator[str]:
    for value in element.values():
        for item in value if isinstance(value, list) else (value,):
            if isinstance(item, str):
                yield item


def _walk(content: object, path: JsonPath = ()) -> Iterator[tuple[JsonPath, Object]]:
    """Give every object with its path, but not into the resources of Bundle entries."""
    if isinstance(content, dict):
        yield path, content
        children: Any = content.items()
    else:
        children = enumerate(content) if isinstance(content, list) else ()
    for key, value in children:
        if isinstance(value, (dict, list)) and not (key == "resource" and _is_resource(value)):
            yield from _walk(value, (*path, key))


def _is_resource(value: object) -> bool:
    return isinstance(value, dict) and "resourceType" in value
