"""What can be searched of one resource, taken out once when it is written.

Searching then never parses a stored body again, which keeps this EHR cheap: it shares the machine
with the gateway that is being measured.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from adapters.sandbox.dates import BEGINNING, END, Range, parse_range
from adapters.sandbox.parameters import Parameter, parameters_of

Resource = dict[str, Any]
#: (parameter, system, code); a reference has an empty system and `Type/id` as its code.
Token = tuple[str, str, str]

_REFERENCE = re.compile(r"(?:.*/)?([A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64})(?:/_history/[^/]+)?")


@dataclass(frozen=True, slots=True)
class SearchKeys:
    """Everything searchable of one resource, by the kind of parameter."""

    tokens: tuple[Token, ...] = ()
    dates: tuple[tuple[str, Range], ...] = ()
    strings: tuple[tuple[str, str], ...] = ()


def search_keys(resource: Resource) -> SearchKeys:
    """Take out of a resource what its type's search parameters look at."""
    tokens: dict[Token, None] = {}
    dates: list[tuple[str, Range]] = []
    strings: list[tuple[str, str]] = []
    for parameter in parameters_of(resource["resourceType"]).values():
        for element in _elements(resource, parameter):
            if parameter.kind == "date":
                dates.extend((parameter.name, each) for each in _ranges(element))
            elif parameter.kind == "string":
                strings.append((parameter.name, str(element).casefold()))
            else:
                found = (_shared(parameter.name, *each) for each in _tokens(element))
                tokens.update(dict.fromkeys(found))
    return SearchKeys(tuple(tokens), tuple(dates), tuple(strings))


def indexed_tokens(resource_type: str, keys: SearchKeys) -> Iterator[Token]:
    """Give the tokens that the store keeps an index of."""
    parameters = parameters_of(resource_type)
    return (token for token in keys.tokens if parameters[token[0]].is_indexed)


@lru_cache(maxsize=4096)
def _shared(name: str, system: str, code: str) -> Token:
    """Make a token, the same object for the same values: most resources share theirs."""
    return name, system, code


def normal_reference(reference: str) -> str:
    """Shorten a reference to `Type/id`, whatever base or version it was written with."""
    form = _REFERENCE.fullmatch(reference)
    return form[1] if form else reference


def _elements(resource: Resource, parameter: Parameter) -> Iterator[Any]:
    for path in parameter.paths:
        yield from _walk(resource, path.split("."))


def _walk(node: object, steps: list[str]) -> Iterator[Any]:
    if isinstance(node, list):
        for each in node:
            yield from _walk(each, steps)
    elif not steps:
        yield node
    elif isinstance(node, dict) and steps[0] in node:
        yield from _walk(node[steps[0]], steps[1:])


def _tokens(element: object) -> Iterator[tuple[str, str]]:
    if not isinstance(element, dict):
        yield "", _code(element)
    elif "coding" in element:
        for coding in element["coding"]:
            yield from _tokens(coding)
    elif "reference" in element:
        yield "", normal_reference(str(element["reference"]))
    elif "value" in element or "code" in element:
        yield str(element.get("system", "")), _code(element.get("value", element.get("code")))


def _code(value: object) -> str:
    """Write a primitive as search values write it: booleans as in JSON."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ranges(element: object) -> Iterator[Range]:
    if isinstance(element, dict):
        start = parse_range(str(element.get("start", "")))
        end = parse_range(str(element.get("end", "")))
        yield (start[0] if start else BEGINNING), (end[1] if end else END)
    else:
        found = parse_range(str(element))
        if found is not None:
            yield found
