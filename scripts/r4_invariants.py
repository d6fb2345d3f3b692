"""Turn the simple FHIRPath invariants of the R4 definitions into JSON Schema (draft 4).

Most invariants only say which elements may, must or must not stand together. Those become
`required`, `not`, `anyOf` and `enum`, which `jsonschema-rs` checks natively. What is not of that
kind raises `Untranslatable`: it is either written by hand in `gateway/core/r4_rules.py` or listed
in `docs/validation.md` as not checked.

Source: FHIR R4 http://hl7.org/fhir/R4/conformance-rules.html#constraints and
http://hl7.org/fhirpath/N1/.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]

_PATH = r"[A-Za-z]\w*(?:\.[A-Za-z]\w*)*?"
_EXISTENCE = re.compile(rf"^({_PATH})\.(exists|empty|hasValue)\(\)(\.not\(\))?$")
_WHERE = re.compile(rf"^({_PATH})\.where\((.*)\)\.(exists|empty)\(\)(\.not\(\))?$")
_LITERAL = re.compile(rf"^({_PATH})\s*(!=|=)\s*('[^']*'|true|false|\d+)$")
_LIMIT = re.compile(rf"^({_PATH}) (>=|<=|>|<) (\d+)$")
_MEMBER = re.compile(rf"^({_PATH}) in \(([^()]*)\)$")
_COUNT_OVER_ZERO = re.compile(r"^\(([^()]*\(\)(?: \+ [^()]*\(\))*)\) > 0$")
_NEGATED_GROUP = re.compile(r"^(\(.*\))\.not\(\)$")
_UCUM = "'http://unitsofmeasure.org'"
_BINARY = (" implies ", " xor ", " or ", " and ", " != ", " = ")


class Untranslatable(ValueError):
    """The invariant needs more than draft 4 of JSON Schema can say."""


@dataclass(frozen=True)
class Element:
    """What an invariant needs to know of one element of a definition.

    Attributes:
        properties: Its JSON properties: several for `[x]`, with `_name` for primitives.
        values: Those of them that hold a value rather than the id and extensions of one.
        repeats: Whether JSON writes it as an array.
        definition: Name of the schema definition of its type, if that is an object.
    """

    properties: tuple[str, ...]
    values: tuple[str, ...]
    repeats: bool
    definition: str | None


Lookup = Callable[[str, str], Element | None]


def translate(expression: str, definition: str, lookup: Lookup) -> Schema:
    """Give the schema that holds exactly for objects that keep the invariant.

    Args:
        expression: FHIRPath, evaluated on an object of `definition`.
        definition: Name of a definition, for example `Observation.referenceRange`.
        lookup: Finds the element of a definition by its FHIRPath name.

    Raises:
        Untranslatable: The expression is of another kind.
    """
    text = " ".join(expression.replace("%ucum", _UCUM).split())
    inner = _unwrapped(text)
    if inner != text:
        return translate(inner, definition, lookup)
    for operator in _BINARY:
        parts = _split(text, operator)
        if len(parts) > 1:
            return _combine(operator.strip(), parts, definition, lookup)
    return _leaf(text, definition, lookup)


def _combine(operator: str, parts: list[str], definition: str, lookup: Lookup) -> Schema:
    if operator in {"=", "!="} and _LITERAL.match(f" {operator} ".join(parts)):
        return _leaf(f" {operator} ".join(parts), definition, lookup)
    schemas = [translate(part, definition, lookup) for part in parts]
    if operator == "or":
        return {"anyOf": schemas}
    if operator == "and":
        return {"allOf": schemas}
    if len(schemas) != 2:  # noqa: PLR2004 - implies, xor and = are only used with two sides
        raise Untranslatable(operator)
    left, right = schemas
    if operator == "implies":
        return {"anyOf": [{"not": left}, right]}
    if operator == "=":
        return {"anyOf": [{"allOf": [left, right]}, {"not": {"anyOf": [left, right]}}]}
    return {"oneOf": [left, right]}


def _leaf(text: str, definition: str, lookup: Lookup) -> Schema:
    text = re.sub(rf"^{re.escape(definition)}\.", "", text)
    if match := _NEGATED_GROUP.match(text):
        return {"not": translate(match[1], definition, lookup)}
    if match := _EXISTENCE.match(text):
        return _existence(match, definition, lookup)
    if match := _WHERE.match(text):
        condition = match[2]
        found = _at(match[1], definition, lookup, lambda name: translate(condition, name, lookup))
        return {"not": found} if (match[3] == "empty") != bool(match[4]) else found
    return _value_leaf(text, definition, lookup)


def _value_leaf(text: str, definition: str, lookup: Lookup) -> Schema:
    if match := _LIMIT.match(text):
        return _within(match[1], match[2], int(match[3]), definition, lookup)
    if match := _LITERAL.match(text):
        found = _equal(match[1], [match[3]], definition, lookup)
        return {"not": found} if match[2] == "!=" else found
    if match := _MEMBER.match(text):
        return _equal(match[1], match[2].split("|"), definition, lookup)
    if match := _COUNT_OVER_ZERO.match(text):
        counted = [part.replace(".count()", ".exists()") for part in match[1].split(" + ")]
        return {"anyOf": [translate(part, definition, lookup) for part in counted]}
    raise Untranslatable(text)


def _existence(match: re.Match[str], definition: str, lookup: Lookup) -> Schema:
    path, test, negation = match[1], match[2], match[3]
    found = _at(path, definition, lookup, None, values_only=test == "hasValue")
    return {"not": found} if (test == "empty") != bool(negation) else found


def _equal(path: str, literals: list[str], definition: str, lookup: Lookup) -> Schema:
    values = [_value(literal.strip()) for literal in literals]
    *parents, last = path.split(".")

    def holds(owner: str) -> Schema:
        element = lookup(owner, last)
        if element is None or element.repeats or len(element.values) != 1:
            raise Untranslatable(path)
        name = element.values[0]
        return {"required": [name], "properties": {name: {"enum": values}}}

    return _at(".".join(parents), definition, lookup, holds) if parents else holds(definition)


def _within(name: str, operator: str, limit: int, definition: str, lookup: Lookup) -> Schema:
    """Bound a number; where there is none, there is nothing to compare."""
    element = lookup(definition, name)
    if element is None or element.repeats or len(element.values) != 1:
        raise Untranslatable(name)
    side = "inimum" if operator.startswith(">") else "aximum"
    bound: Schema = {f"m{side}": limit}
    if "=" not in operator:
        bound[f"exclusiveM{side}"] = True
    return {"properties": {element.values[0]: bound}}


def _at(
    path: str,
    definition: str,
    lookup: Lookup,
    condition: Callable[[str], Schema] | None,
    *,
    values_only: bool = False,
) -> Schema:
    """Say that `path` leads to something, and to something for which `condition` holds."""
    name, _, rest = path.partition(".")
    element = lookup(definition, name)
    if element is None:
        raise Untranslatable(path)
    if not rest and condition is None:
        names = element.values if values_only else element.properties
        found: list[Schema] = [{"required": [each]} for each in names]
        return found[0] if len(found) == 1 else {"anyOf": found}
    if element.definition is None:
        raise Untranslatable(path)
    below = (
        _at(rest, element.definition, lookup, condition, values_only=values_only)
        if rest
        else (condition or _never)(element.definition)
    )
    if element.repeats:
        below = {"not": {"items": {"not": below}}}
    return {"required": [name], "properties": {name: below}}


def _never(definition: str) -> Schema:
    raise Untranslatable(definition)


def _value(literal: str) -> str | bool | int:
    if literal.startswith("'"):
        return literal[1:-1]
    return int(literal) if literal.isdigit() else literal == "true"


def _split(text: str, operator: str) -> list[str]:
    """Split at an operator that is outside parentheses and quotes."""
    parts, depth, quoted, start = [], 0, False, 0
    for index, character in enumerate(text):
        quoted ^= character == "'"
        depth += 0 if quoted else (character == "(") - (character == ")")
        if depth == 0 and not quoted and text.startswith(operator, index):
            parts.append(text[start:index])
            start = index + len(operator)
    return [*parts, text[start:]]


def _unwrapped(text: str) -> str:
    """Take off one pair of parentheses if it embraces the whole text."""
    if not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0 and index < len(text) - 1:
            return text
    return text[1:-1]
