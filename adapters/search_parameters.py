"""The search parameters of FHIR R4, and what is wrong with a search that a site file asks for.

An EHR refuses a parameter that it does not know, or leaves it out in silence and sends everything;
so a misspelt one is found here. An EHR may have parameters of its own: they are given as `own`,
written as `Observation:ward`. Rules:

1. what stands before `=` is a parameter of the type, perhaps with a modifier of its kind, or a
   chain that begins with a reference (`subject:Patient.identifier`), or `_has`;
2. it has a value;
3. it is none that Nadi sends itself, or that would bring parts of resources only.

Source: SearchParameters of FHIR R4 4.0.1 (`search_parameters.csv`, made by
`scripts/generate_search_parameters.py`); http://hl7.org/fhir/R4/search.html.
"""

import csv
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path

from adapters.site_trigger import resource_types
from adapters.site_yaml import suggestion

Kinds = Mapping[str, str]

_TABLE = Path(__file__).parent / "search_parameters.csv"
#: Those that every type has.
_OF_ALL = ("Resource", "DomainResource")
#: Of every type, and no SearchParameter in the standard.
_WITHOUT_DEFINITION = {"_filter": "special", "_list": "special"}
#: What no search of a site file may say, and why.
_NOT_HERE = {
    "_lastUpdated": "Nadi asks for it itself",
    "_sort": "Nadi asks for it itself",
    "_count": "Nadi asks for it itself (`page`)",
    "_format": "Nadi asks for JSON itself",
    "_include": "write it under `include`",
    "_revinclude": "name the type that points here among `types`",
    "_summary": "a model needs whole resources",
    "_elements": "a model needs whole resources",
    "_contained": "a model needs whole resources",
    "_containedType": "a model needs whole resources",
    "_total": "nothing is counted",
}
#: Modifiers by kind of parameter; a reference takes a resource type besides.
_MODIFIERS: Mapping[str, frozenset[str]] = {
    "string": frozenset({"missing", "exact", "contains", "text"}),
    "token": frozenset({"missing", "text", "not", "above", "below", "in", "not-in", "of-type"}),
    "reference": frozenset({"missing", "identifier", "above", "below"}),
    "uri": frozenset({"missing", "above", "below"}),
}
_MISSING = frozenset({"missing"})
_OWN = "One of the EHR's own is named in `search_parameters` of its system."
_HAS_PARTS = 4
#: The kind of a parameter of which only the name is known.
_ANY = "any"


def search_problems(search: str, own: Collection[str] = ()) -> Iterator[str]:
    """Say what is wrong with a search, such as `Observation?category=laboratory`.

    Args:
        search: A known resource type, perhaps with a query.
        own: Parameters that the EHR has beyond the standard's, as `Observation:ward`.
    """
    resource_type, _, query = search.partition("?")
    for condition in query.split("&") if query else ():
        name, _, value = condition.partition("=")
        yield from _name_problems(resource_type, name, own)
        if not value:
            yield f"'{name}' has no value: write {name}=…"


def include_problems(include: str, own: Collection[str] = ()) -> Iterator[str]:
    """Say what is wrong with an include, such as `Observation:subject`, of a known type."""
    resource_type, _, name = include.partition(":")
    kinds = parameters_of(resource_type, own)
    if name not in kinds:
        references = [each for each, kind in kinds.items() if kind == "reference"]
        yield _unknown(resource_type, name, references)
    elif kinds[name] not in ("reference", _ANY):
        yield f"'{name}' of {resource_type} points at no other resource"


def asked_by(search: str) -> tuple[str, list[str]]:
    """Give the type of a valid search, and the type's own parameters that it asks by.

    What every type has (`_id`, `_has`) is left out.
    """
    resource_type, _, query = search.partition("?")
    names = (condition.partition("=")[0] for condition in query.split("&") if query)
    links = (name.partition(".")[0].partition(":")[0] for name in names)
    return resource_type, [each for each in links if not each.startswith("_")]


def parameters_of(resource_type: str, own: Collection[str] = ()) -> Kinds:
    """Give the search parameters of a type, each with its kind."""
    table = _table()
    parts = [table.get(each, {}) for each in (*_OF_ALL, resource_type)]
    pairs = (each.partition(":") for each in own)
    known = {name: _ANY for owner, _, name in pairs if owner == resource_type}
    for part in (_WITHOUT_DEFINITION, *parts):
        known |= part
    return known


@cache
def _table() -> Mapping[str, Kinds]:
    """Read the table: parameters with their kinds, by resource type."""
    found: dict[str, dict[str, str]] = {}
    with _TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["type"], {})[row["name"]] = row["kind"]
    return found


def _name_problems(resource_type: str, name: str, own: Collection[str]) -> Iterator[str]:
    if name.startswith("_has:"):
        yield from _reverse_problems(name, own)
        return
    link, dot, rest = name.partition(".")
    parameter, _, modifier = link.partition(":")
    kinds = parameters_of(resource_type, own)
    if parameter in _NOT_HERE:
        yield f"'{parameter}' does not belong here: {_NOT_HERE[parameter]}"
    elif parameter not in kinds:
        yield _unknown(resource_type, parameter, kinds)
    elif dot:
        yield from _chain_problems(parameter, kinds[parameter], (modifier, rest), own)
    elif modifier:
        yield from _modifier_problems(parameter, kinds[parameter], modifier)


def _chain_problems(
    parameter: str, kind: str, linked: tuple[str, str], own: Collection[str]
) -> Iterator[str]:
    """Look at what follows a reference: the type that it points at, and a parameter of that."""
    target, rest = linked
    if kind not in ("reference", _ANY):
        yield f"'{parameter}' is no reference: nothing may follow it by a dot"
    elif target in resource_types():
        yield from _name_problems(target, rest, own)
    elif target:
        yield _unknown_type(target)
    elif rest.startswith("_has:"):
        yield from _reverse_problems(rest, own)
    elif not any(rest.partition(":")[0].partition(".")[0] in known for known in _table().values()):
        yield f"no resource type has a search parameter '{rest}'. {_OWN}"


def _reverse_problems(name: str, own: Collection[str]) -> Iterator[str]:
    """Look at `_has:Type:reference:parameter`."""
    parts = name.split(":", _HAS_PARTS - 1)
    if len(parts) < _HAS_PARTS:
        yield "_has is written as _has:Type:reference:parameter=…"
        return
    _, resource_type, reference, parameter = parts
    if resource_type not in resource_types():
        yield _unknown_type(resource_type)
        return
    yield from include_problems(f"{resource_type}:{reference}", own)
    yield from _name_problems(resource_type, parameter, own)


def _modifier_problems(parameter: str, kind: str, modifier: str) -> Iterator[str]:
    allowed = _MODIFIERS.get(kind, _MISSING)
    is_type = kind == "reference" and modifier in resource_types()
    if kind != _ANY and modifier not in allowed and not is_type:
        yield f"'{parameter}' has no modifier '{modifier}'{suggestion(modifier, allowed)}"


def _unknown_type(name: str) -> str:
    return f"unknown resource type '{name}'{suggestion(name, resource_types())}"


def _unknown(resource_type: str, name: str, known: Collection[str]) -> str:
    offer = suggestion(name, known)
    end = "" if offer.endswith("?") else "."
    return f"{resource_type} has no search parameter '{name}'{offer}{end} {_OWN}"
