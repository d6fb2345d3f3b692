"""The tables that say what of a message becomes what in FHIR, and in which code.

`segments.csv`: the field of a segment, how it is read, and where in which resource it goes.
`codes.csv`: HL7 table values and the FHIR codes that they are. `code_systems.csv`: names of coding
systems in HL7 table 0396. `units.csv`: how units are spelt, in small letters, and their UCUM code.
`messages.csv`: the messages that are taken.

Source: HL7 v2-to-FHIR (segment, data type and table maps); HL7 v2 tables; UCUM.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_HL7_TABLE = "HL7"
_V2_SYSTEM = "http://terminology.hl7.org/CodeSystem/v2-"
_OURS = "https://nadi.health/fhir"
#: Names of local coding systems in table 0396: ours, and anybody's.
_OWN, _LOCAL = "99NADI", "L"


@dataclass(frozen=True)
class Rule:
    """One line of `segments.csv`.

    Attributes:
        field: Number of the field.
        conversion: How it is read.
        argument: What the conversion needs to know besides.
        resource: Type of the resource, or an element of one as `Patient.contact`.
        path: The element; `[]` stands where each repetition adds one.
    """

    field: int
    conversion: str
    argument: str
    resource: str
    path: str


@cache
def rules_of(segment: str) -> tuple[Rule, ...]:
    """Give the lines of a segment, in order."""
    return _rules().get(segment, ())


@cache
def _rules() -> Mapping[str, tuple[Rule, ...]]:
    found: dict[str, list[Rule]] = {}
    for row in _rows("segments"):
        conversion, _, argument = row["type"].partition(":")
        rule = Rule(int(row["field"]), conversion, argument, row["resource"], row["path"])
        found.setdefault(row["segment"], []).append(rule)
    return {name: tuple(rules) for name, rules in found.items()}


@cache
def code_map(name: str) -> Mapping[str, str]:
    """Give a map of codes; empty when there is none of this name."""
    return {row["from"]: row["to"] for row in _rows("codes") if row["map"] == name}


@cache
def _code_systems() -> Mapping[str, str]:
    return {row["name"]: row["uri"] for row in _rows("code_systems")}


def known_code_systems() -> frozenset[str]:
    """Give the URIs of the code systems that have a name in table 0396."""
    return frozenset(_code_systems().values())


@cache
def ucum_spellings() -> Mapping[str, str]:
    """Give how units are spelt, in small letters, and the UCUM codes they mean."""
    return {row["spelling"]: row["ucum"] for row in _rows("units")}


@cache
def message_codes() -> frozenset[str]:
    """Give the message codes (MSH-9.1) that are taken."""
    return frozenset(row["code"] for row in _rows("messages"))


def code_system(name: str) -> str | None:
    """Give the URI of a coding system by its name in table 0396; None when it is not known."""
    plain = name.strip()
    if plain.upper().startswith(_HL7_TABLE) and plain[len(_HL7_TABLE) :].isdecimal():
        return f"{_V2_SYSTEM}{plain[len(_HL7_TABLE) :].zfill(4)}"
    if is_address(plain):
        return plain
    return _code_systems().get(plain.upper())


def is_address(text: str) -> bool:
    """Say whether a text is an address of the web or a name in the manner of one (URN)."""
    return text.startswith(("http://", "https://", "urn:")) and len(text.split()) == 1


def system_name(uri: str) -> str:
    """Give the name of a coding system in table 0396 by its URI; `L` where it has none there."""
    if not uri:
        return ""
    if uri.startswith(_V2_SYSTEM):
        return f"{_HL7_TABLE}{uri.removeprefix(_V2_SYSTEM)}"
    named = next((name for name, known in _code_systems().items() if known == uri), None)
    return named or (_OWN if uri.startswith(_OURS) else _LOCAL)


def _rows(name: str) -> list[dict[str, str]]:
    text = (files("adapters.hl7v2") / "tables" / f"{name}.csv").read_text("utf-8")
    return list(csv.DictReader(io.StringIO(text), strict=True))
