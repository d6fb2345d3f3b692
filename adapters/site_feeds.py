"""The feeds of a site: which listeners it wants, and what its file may not say of them.

A feed is one listener of one system. It has a name of its own, `system/kind`, under which it
identifies itself to the API, remembers, is counted and stands in the audit log.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from adapters.search_parameters import include_problems, search_problems
from adapters.site_patients import PatientsEntry
from adapters.site_receive import PUSH, kind_of
from adapters.site_trigger import resource_types
from adapters.site_yaml import Document, Problem, suggestion

_FOLLOWING = frozenset({"poll", "subscription", "atom"})
#: Listeners to which a patient is a number.
_NUMBERING = frozenset({"dicom", "mllp"})
#: Kinds of systems without a FHIR API.
_WITHOUT_API = frozenset({"hl7v2", "dicom", "folder"})
#: How what is followed begins: a resource type.
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")
#: What says what is wrong with the searches under a key.
_SEARCHED = {"types": search_problems, "include": include_problems}


@dataclass(frozen=True)
class Feed:
    """One listener of one system.

    Attributes:
        system: Whose feed it is.
        kind: Which listener serves it.
        speaks_for: The system whose patients it is about, and as whose its events are received.
        entry: Its settings in the site file.
        patients: How it names its patients; None where it speaks FHIR.
    """

    system: str
    kind: str
    speaks_for: str
    entry: BaseModel
    patients: PatientsEntry | None = None

    @property
    def name(self) -> str:
        """Its name in the audit log, in metrics and for what it remembers."""
        return f"{self.system}/{self.kind}"


def feeds_of(name: str, receive: list[Any], patients: PatientsEntry | None) -> Iterator[Feed]:
    """Give the feeds of a system.

    Args:
        name: Of the system.
        receive: Its key `receive`, valid.
        patients: Its key `patients`.
    """
    speaks_for = (patients.of if patients else None) or name
    for item in receive:
        kind = kind_of(item)
        if kind is not None and kind != PUSH:
            yield Feed(name, kind, speaks_for, getattr(item, kind), patients)


def feed_problems(document: Document) -> Iterator[Problem]:
    """Say what is wrong with how systems are received, and with whose patients they have."""
    systems = _mapping(_mapping(document.value).get("systems"))
    for name, written in systems.items():
        entry = _mapping(written)
        yield from _owner_problems(document, systems, name)
        yield from _receive_problems(document, name, entry)
        yield from _search_problems(document, name, entry)
    yield from _port_problems(document, systems)
    yield from _route_problems(document, systems)


def _owner_problems(document: Document, systems: Mapping[str, Any], name: str) -> Iterator[Problem]:
    entry = _mapping(systems[name])
    at, owner = ("systems", name, "patients"), _owner(entry)
    if owner is None:
        return
    if entry.get("kind") not in _WITHOUT_API:
        yield document.problem((*at, "of"), "a system with a FHIR API has patients of its own")
    elif owner not in systems:
        message = f"unknown system '{owner}'{suggestion(owner, systems)}"
        yield document.problem((*at, "of"), message)
    elif _owner(_mapping(systems[owner])) is not None:
        yield document.problem((*at, "of"), f"'{owner}' has no patients of its own")


def _receive_problems(document: Document, name: str, entry: Mapping[str, Any]) -> Iterator[Problem]:
    at, seen = ("systems", name, "receive"), set()
    for index, item in enumerate(_listed(entry.get("receive"))):
        kind = kind_of(item)
        if kind in seen:
            words = f"{kind} stands there twice; give the second one a system of its own"
            yield document.problem((*at, index), words)
        seen.add(kind)
        if kind in _FOLLOWING and entry.get("kind") in _WITHOUT_API:
            words = f"{kind} needs a system with a FHIR API, of kind fhir-rest"
            yield document.problem((*at, index), words)
        if kind == PUSH and entry.get("kind") in _WITHOUT_API:
            yield document.problem((*at, index), "a system that pushes FHIR is of kind fhir-rest")
        if kind in _NUMBERING and "patients" not in entry:
            words = "needs `patients`: whose they are, and the URI of their number"
            yield document.problem(("systems", name, "patients"), words)


def _search_problems(document: Document, name: str, entry: Mapping[str, Any]) -> Iterator[Problem]:
    """Name what is followed and is nothing: an EHR would refuse it, or leave it out in silence."""
    own = [each for each in _listed(entry.get("search_parameters")) if isinstance(each, str)]
    for index, item in enumerate(_listed(entry.get("receive"))):
        kind = str(kind_of(item)) if kind_of(item) in _FOLLOWING else ""
        settings = _mapping(_mapping(item).get(kind))
        for key, look in _SEARCHED.items():
            for place, text in enumerate(_listed(settings.get(key))):
                at = ("systems", name, "receive", index, kind, key, place)
                for words in _unknown_types(text) or look(str(text), own):
                    yield document.problem(at, words)
    for place, text in enumerate(own):
        for words in _unknown_types(text):
            yield document.problem(("systems", name, "search_parameters", place), words)


def _unknown_types(text: object) -> list[str]:
    """Say that what a search is for is no resource type."""
    known = _TYPE.match(str(text))
    if known is None or known[0] in resource_types():
        return []
    return [f"unknown resource type '{known[0]}'{suggestion(known[0], resource_types())}"]


def _port_problems(document: Document, systems: Mapping[str, Any]) -> Iterator[Problem]:
    taken: dict[int, str] = {}
    for name, entry in systems.items():
        for index, item in enumerate(_listed(_mapping(entry).get("receive"))):
            kind = kind_of(item)
            settings = _mapping(item).get(kind) if kind else None
            port = _mapping(settings).get("port")
            if not isinstance(port, int):
                continue
            if port in taken:
                at = ("systems", name, "receive", index, str(kind), "port")
                yield document.problem(at, f"port {port} is that of '{taken[port]}' already")
            taken.setdefault(port, name)


def _route_problems(document: Document, systems: Mapping[str, Any]) -> Iterator[Problem]:
    for name, written in _mapping(_mapping(document.value).get("routes")).items():
        route = _mapping(written)
        source = route.get("source")
        owner = _owner(_mapping(systems.get(str(source))))
        if owner is not None:
            words = f"'{source}' speaks of the patients of '{owner}': write source: {owner}"
            yield document.problem(("routes", name, "source"), words)
        sink = str(_mapping(route.get("sink")).get("system"))
        into = _mapping(systems.get(sink))
        if into.get("kind") in _WITHOUT_API and "oru" not in into:
            words = f"'{sink}' takes no results: it has neither a FHIR API nor `oru`"
            yield document.problem(("routes", name, "sink", "system"), words)


def _owner(entry: Mapping[str, Any]) -> str | None:
    owner = _mapping(entry.get("patients")).get("of")
    return owner if isinstance(owner, str) else None


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: object) -> dict[str, Any]:
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}
