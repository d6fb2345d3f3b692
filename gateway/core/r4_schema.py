"""Check one resource against the generated JSON Schema of FHIR R4, and explain what it refuses.

The schema of every type is in `data/r4-schema.json.gz`, made by `scripts/generate_r4_schema.py`
from the official definitions. A validator is compiled when its resource type first comes (about
10 ms, 2.5 MB) and the latest few are kept. Its regular expressions run on an engine with linear
time. Nested resources (contained, Bundle entries, Parameters) are opaque here: `fhir` checks each
by itself.
"""

import gzip
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from importlib import resources
from itertools import islice
from typing import Any

import jsonschema_rs
import orjson

from gateway.core.r4_document import JsonPath, Violation
from gateway.core.r4_json import ELEMENT_NAME
from gateway.core.r4_rules import INVARIANTS, repeated_choice

MAX_ISSUES = 20
_MAX_TYPES_KEPT = 32
_MAX_RULES_KEPT = 256
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


def prepare_for(names: Iterable[str]) -> None:
    """Compile the validators of resource types ahead of the first resource."""
    for name in names:
        _validator(name)


def is_valid(resource: Mapping[str, Any]) -> bool:
    """Say whether a resource of a known type keeps its schema."""
    valid: bool = _validator(resource["resourceType"]).is_valid(resource)
    return valid


def schema_violations(resource: Mapping[str, Any], *, is_small: bool) -> Iterator[Violation]:
    """Explain why a resource does not keep its schema.

    Args:
        resource: A resource of a known type.
        is_small: Whether there are few enough elements to look for the first `MAX_ISSUES`
            reasons; otherwise only the first is given. The validator makes all errors at once,
            and each costs some 50 µs.
    """
    validator = _explainer(resource["resourceType"])
    if is_small:
        for error in islice(validator.iter_errors(resource), MAX_ISSUES):
            yield from _violations(error)
        return
    try:
        validator.validate(resource)
    except jsonschema_rs.ValidationError as error:
        yield from _violations(error)


@lru_cache(maxsize=_MAX_TYPES_KEPT)
def _validator(resource_type: str) -> jsonschema_rs.Validator:
    return _compiled(_schema(resource_type))


@lru_cache(maxsize=_MAX_TYPES_KEPT)
def _explainer(resource_type: str) -> jsonschema_rs.Validator:
    """Compile a validator that names the rule that is broken, and not the parts of that rule."""
    return _compiled(orjson.dumps(_with_named_rules(orjson.loads(_schema(resource_type)))))


def _compiled(schema: bytes) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft4Validator(
        schema.decode(),
        keywords={"fhirChoice": _Choice, "fhirInvariant": _Invariant, "fhirRule": _Rule},
        pattern_options=jsonschema_rs.RegexOptions(),
        validate_formats=False,
        mask="(value)",
    )


def _schema(resource_type: str) -> bytes:
    """Write the schema of one resource type with only the definitions that it reaches."""
    definitions = _artefact()[0]
    needed, todo = {resource_type}, [resource_type]
    while todo:
        found = {name.decode() for name in _REFERENCE_TO.findall(definitions[todo.pop()])}
        todo += found - needed
        needed |= found
    members = b",".join(b'"%s":%s' % (name.encode(), definitions[name]) for name in sorted(needed))
    return b'{"$ref":"#/definitions/%s","definitions":{%s}}' % (resource_type.encode(), members)


def _with_named_rules(schema: Any) -> Any:  # noqa: ANN401 - any part of a schema
    """Wrap every titled rule into one keyword of ours, so that it gives one error."""
    if isinstance(schema, list):
        return [_with_named_rules(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(schema.get("title"), str):
        return {"fhirRule": schema}
    return {name: _with_named_rules(each) for name, each in schema.items()}


class _Broken(ValueError):
    """A rule of ours is broken; the words say which, never with a value."""


class _Choice:
    def __init__(self, _parent: Schema, choices: dict[str, str], _path: list[str]) -> None:
        self._choices = choices
        self._names = choices.keys() | {f"_{name}" for name in choices}

    def validate(self, element: Any) -> None:  # noqa: ANN401 - any JSON value
        if not isinstance(element, dict) or len(self._names & element.keys()) < 2:  # noqa: PLR2004
            return
        choice = repeated_choice(element, self._choices)
        if choice:
            raise _Broken(choice)


class _Invariant:
    def __init__(self, _parent: Schema, key: str, _path: list[str]) -> None:
        self._key, self._holds = key, INVARIANTS[key]

    def validate(self, element: Any) -> None:  # noqa: ANN401 - any JSON value
        if isinstance(element, dict) and not self._holds(element):
            raise _Broken(self._key)


class _Rule:
    def __init__(self, _parent: Schema, rule: Schema, _path: list[str]) -> None:
        self._schema = orjson.dumps(rule)
        self._words = f"{rule['title']}\n{rule.get('description', '')}"

    def validate(self, element: Any) -> None:  # noqa: ANN401 - any JSON value
        if not _rule_validator(self._schema).is_valid(element):
            raise _Broken(self._words)


@lru_cache(maxsize=_MAX_RULES_KEPT)
def _rule_validator(rule: bytes) -> jsonschema_rs.Validator:
    """Compile one titled rule, when an element that it is about is first explained."""
    shared = {name: _definition(name) for name in ("resource-type", "typed-reference")}
    return _compiled(orjson.dumps({**orjson.loads(rule), "definitions": shared}))


def expression(resource_type: str, path: JsonPath) -> str:
    """Write a JSON path as FHIRPath: `valueQuantity` is `value.ofType(Quantity)`.

    Args:
        resource_type: Type of the resource that the path begins in.
        path: Property names and indexes. It is followed as far as its names look like elements: of
            a property that R4 does not know, the name may be anything, also a patient's value.
    """
    text, definition = resource_type, resource_type
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
            continue
        name = step.removeprefix("_")
        known = _definition(definition) if definition in _artefact()[0] else {}
        if step not in known.get("properties", {}) and not ELEMENT_NAME.fullmatch(name):
            break
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
    kind: Any = error.kind
    name = type(kind).__name__
    if name == "AdditionalProperties":
        yield from (_unknown(path, each) for each in kind.unexpected)
    elif name == "Required":
        yield _missing(path, kind.property)
    elif name == "Custom" and kind.keyword == "fhirRule":
        yield _broken_rule(path, *kind.message.split("\n", 1))
    elif name == "Custom":
        yield Violation(path, "structure", f"'{kind.message}[x]' is given in more than one type.")
    else:
        yield _simple(path, name, error)


def _broken_rule(path: JsonPath, title: str, description: str) -> Violation:
    if title.startswith("required "):
        return _missing(path, title.removeprefix("required "))
    if title == "target":
        return Violation(path, "structure", f"The reference must be to one of: {description}.")
    code, words = _RULES.get(title, ("invariant", f"{title}: {description}"))
    return Violation(path, code, words)


_RULES = {
    "ele-1": ("structure", "An id alone is no content (ele-1)."),
    "binding": ("code-invalid", "No coding is of the required value set."),
    "txt-1": ("invariant", "txt-1: Active content is not allowed in a narrative."),
}


def _missing(path: JsonPath, name: str) -> Violation:
    return Violation((*path, name), "required", f"The element '{name}' is required.")


def _unknown(path: JsonPath, name: str) -> Violation:
    """Name an unknown property only if it looks like an element: it could hold anything."""
    shown = f" ('{name}')" if ELEMENT_NAME.fullmatch(name) else ""
    return Violation(path, "structure", f"R4 has no such element here{shown}.")


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
