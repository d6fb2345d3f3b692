"""Check one resource against the generated JSON Schema of FHIR R4, and explain what it refuses.

The schema of every type is in `data/r4-schema.json.gz`, made by `scripts/generate_r4_schema.py`
from the official definitions. A validator is compiled when its resource type first comes (about
5 ms, 1.5 MB) and the latest few are kept. Its regular expressions run on an engine with linear
time. Nested resources (contained, Bundle entries, Parameters) are opaque here: `fhir` checks each
by itself.
"""

import gzip
import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from importlib import resources
from itertools import islice
from typing import Any

import jsonschema_rs
import orjson

from gateway.core.r4_document import JsonPath, Violation
from gateway.core.r4_json import ELEMENT_NAME
from gateway.core.r4_rules import INVARIANTS, is_wrong_target, repeated_choice

MAX_ISSUES = 20
_MAX_TYPES_KEPT = 40
# Every error costs up to 50 µs to make, and all are made at once: of a larger document only the
# first is asked for.
_MAX_EXPLAINED_BYTES = 64 * 1024
_REFERENCE_TO = re.compile(rb'"#/definitions/([^"]+)"')

Schema = dict[str, Any]


@cache
def _artefact() -> tuple[dict[str, bytes], frozenset[str]]:
    """Read the definitions, each left as bytes, and the names of the resource types."""
    packed = resources.files("gateway.core").joinpath("data/r4-schema.json.gz").read_bytes()
    document = orjson.loads(gzip.decompress(packed))
    definitions = {name: orjson.dumps(each) for name, each in document["definitions"].items()}
    return definitions, frozenset(document["resources"])


def resource_types() -> frozenset[str]:
    """Give the names of all concrete resource types of R4."""
    return _artefact()[1]


@cache
def _definition(name: str) -> Schema:
    definition: Schema = orjson.loads(_artefact()[0][name])
    return definition


def is_valid(resource: Mapping[str, Any]) -> bool:
    """Say whether a resource of a known type keeps its schema."""
    valid: bool = _validator(resource["resourceType"]).is_valid(resource)
    return valid


def schema_violations(resource: Mapping[str, Any], size_bytes: int) -> Iterator[Violation]:
    """Explain why a resource does not keep its schema; the first `MAX_ISSUES` reasons.

    Args:
        resource: A resource of a known type.
        size_bytes: Length of the document that it came in.
    """
    validator = _validator(resource["resourceType"])
    if size_bytes <= _MAX_EXPLAINED_BYTES:
        for error in islice(validator.iter_errors(resource), MAX_ISSUES):
            yield from _violations(error)
        return
    try:
        validator.validate(resource)
    except jsonschema_rs.ValidationError as error:
        yield from _violations(error)


@lru_cache(maxsize=_MAX_TYPES_KEPT)
def _validator(resource_type: str) -> jsonschema_rs.Validator:
    """Compile the validator of one resource type, with only the definitions that it reaches."""
    definitions = _artefact()[0]
    needed, todo = {resource_type}, [resource_type]
    while todo:
        found = {name.decode() for name in _REFERENCE_TO.findall(definitions[todo.pop()])}
        todo += found - needed
        needed |= found
    members = b",".join(b'"%s":%s' % (name.encode(), definitions[name]) for name in sorted(needed))
    schema = b'{"$ref":"#/definitions/%s","definitions":{%s}}' % (resource_type.encode(), members)
    return jsonschema_rs.Draft4Validator(
        schema.decode(),
        keywords={"fhirChoice": _Choice, "fhirInvariant": _Invariant, "fhirTarget": _Target},
        pattern_options=jsonschema_rs.RegexOptions(),
        validate_formats=False,
        mask="(value)",
    )


class _Broken(ValueError):
    """A rule of ours is broken; the words say which, never with a value."""


class _Choice:
    def __init__(self, _parent: Schema, choices: dict[str, str], _path: list[str]) -> None:
        self._choices = choices

    def validate(self, element: Any) -> None:  # noqa: ANN401 - any JSON value
        choice = repeated_choice(element, self._choices) if isinstance(element, dict) else None
        if choice:
            raise _Broken(choice)


class _Invariant:
    def __init__(self, _parent: Schema, key: str, _path: list[str]) -> None:
        self._key, self._holds = key, INVARIANTS[key]

    def validate(self, element: Any) -> None:  # noqa: ANN401 - any JSON value
        if isinstance(element, dict) and not self._holds(element):
            raise _Broken(self._key)


class _Target:
    def __init__(self, _parent: Schema, allowed: list[str], _path: list[str]) -> None:
        self._allowed = frozenset(allowed)

    def validate(self, reference: Any) -> None:  # noqa: ANN401 - any JSON value
        if is_wrong_target(reference, self._allowed, resource_types()):
            raise _Broken(", ".join(sorted(self._allowed)))


def expression(resource_type: str, path: JsonPath) -> str:
    """Write a JSON path as FHIRPath: `valueQuantity` is `value.ofType(Quantity)`.

    Args:
        resource_type: Type of the resource that the path begins in.
        path: Property names and indexes, which the definitions know.
    """
    text, definition = resource_type, resource_type
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
            continue
        name = step.removeprefix("_")
        known = _definition(definition) if definition in _artefact()[0] else {}
        stem = known.get("fhirChoice", {}).get(name)
        text += f".{stem}.ofType({_type_name(name[len(stem) :])})" if stem else f".{name}"
        definition = _type_of(known.get("properties", {}).get(step, {}))
    return text


def _type_name(suffix: str) -> str:
    """Turn `DateTime` of `valueDateTime` back into `dateTime`."""
    lower = suffix[:1].lower() + suffix[1:]
    return lower if lower in _artefact()[0] else suffix


def _type_of(schema: Schema) -> str:
    """Name the definition that a property's schema refers to."""
    schema = schema.get("items", schema)
    for choice in (schema, *schema.get("allOf", ()), *schema.get("anyOf", ())):
        if "$ref" in choice:
            name: str = choice["$ref"].removeprefix("#/definitions/")
            return name.partition(":")[0].removesuffix("?")
    return ""


def _violations(error: jsonschema_rs.ValidationError) -> Iterator[Violation]:
    """Translate one error of the validator; its own message is never used."""
    path = tuple(error.instance_path)
    rule = _rule_at(error.schema_path)
    if rule is not None:
        yield _broken_rule(path, rule)
        return
    kind: Any = error.kind
    name = type(kind).__name__
    if name == "AdditionalProperties":
        yield from (_unknown(path, each) for each in kind.unexpected)
    elif name == "Required":
        yield _missing(path, kind.property)
    elif name == "Custom":
        yield _broken_keyword(path, kind.keyword, kind.message)
    else:
        yield _simple(path, name, error)


def _rule_at(schema_path: list[str | int]) -> Schema | None:
    """Find the titled rule, if any, that an error of the schema belongs to."""
    if len(schema_path) < 2 or schema_path[0] != "definitions":  # noqa: PLR2004
        return None
    schema: Any = _definition(str(schema_path[1]))
    for step in schema_path[2:]:
        if isinstance(schema, dict) and "title" in schema:
            return schema
        schema = schema[step]
    return None


def _broken_rule(path: JsonPath, rule: Schema) -> Violation:
    title: str = rule["title"]
    if title.startswith("required "):
        return _missing(path, title.removeprefix("required "))
    if title == "ele-1":
        return Violation(path, "structure", "An id alone is no content (ele-1).")
    if title == "binding":
        return Violation(path, "code-invalid", "No coding is of the required value set.")
    if title == "txt-1":
        return Violation(path, "invariant", "txt-1: Active content is not allowed in a narrative.")
    return Violation(path, "invariant", f"{title}: {rule['description']}")


def _missing(path: JsonPath, name: str) -> Violation:
    return Violation((*path, name), "required", f"The element '{name}' is required.")


def _unknown(path: JsonPath, name: str) -> Violation:
    """Name an unknown property only if it looks like an element: it could hold anything."""
    shown = f" ('{name}')" if ELEMENT_NAME.fullmatch(name) else ""
    return Violation(path, "structure", f"R4 has no such element here{shown}.")


def _broken_keyword(path: JsonPath, keyword: str, words: str) -> Violation:
    if keyword == "fhirChoice":
        return Violation(path, "structure", f"'{words}[x]' is given in more than one type.")
    return Violation(path, "structure", f"The reference must be to one of: {words}.")


def _simple(path: JsonPath, name: str, error: jsonschema_rs.ValidationError) -> Violation:
    """Explain an error of a standard keyword."""
    owner = str(error.schema_path[1]) if len(error.schema_path) > 1 else ""
    owner = owner.removesuffix("?")
    if name == "Enum":
        _, _, value_set = owner.partition(":")
        of = f"of the required value set '{value_set}'" if value_set else "that is allowed here"
        return Violation(path, "code-invalid", f"The code is not one {of}.")
    if name == "Pattern":
        return Violation(path, "value", f"The value does not have the form of the type '{owner}'.")
    if name == "Type":
        kind: Any = error.kind
        wanted = " or ".join(each for each in kind.types if each != "null")
        return Violation(path, "structure", f"JSON {wanted} is wanted here.")
    code, words = _SIMPLE.get(name, ("structure", "The element is not as R4 defines it."))
    return Violation(path, code, words)


_SIMPLE = {
    "MaxLength": ("too-long", "The value is longer than its type allows."),
    "Minimum": ("value", "The number is smaller than its type allows."),
    "Maximum": ("value", "The number is larger than its type allows."),
    "MinItems": ("structure", "An array can't be empty."),
    "MinProperties": ("structure", "An object can't be empty."),
    "MaxItems": ("structure", "The element is repeated more often than R4 allows."),
}
