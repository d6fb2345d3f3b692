"""(1) What an EHR deleted, turned into the last version of each resource (`gateway.core.deletion`).

* A DELETE of a resource, or an entry of a Bundle that is one, is received as that version.
* A second one is the same version: nothing happens twice.
* What was never received gets such a version all the same: one that arrives later, though it was
  written before, must not come into force.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from gateway.core.deletion import deleted_version, is_deleted
from gateway.core.errors import Unsealable
from gateway.core.fhir import BundleEntry, ParsedBundle, Resource
from gateway.core.r4_schema import resource_types
from gateway.store.events import Event
from gateway.store.identity import named_key
from gateway.store.unit_of_work import Store, UnitOfWork

#: HAPI's history names the version too.
_ADDRESS = re.compile(r"(?:.*/)?([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[^/]+)?")


def deleted_resource(store: Store, system: str, reference: tuple[str, str]) -> Resource:
    """Give the version that says a resource was deleted.

    Args:
        store: Where its newest version is looked for.
        system: Whose it is.
        reference: Its type and id.
    """
    with store.read() as uow:
        return _versions(uow, system, [reference])[reference]


def with_deletions(store: Store, system: str, bundle: ParsedBundle) -> ParsedBundle:
    """Put into each entry that is a deletion the version that says so."""
    named = {entry.index: found for entry in bundle.entries if (found := _deleted_by(entry))}
    if not named:
        return bundle
    with store.read() as uow:
        versions = _versions(uow, system, list(named.values()))
    entries = [
        _filled(entry, versions.get(named[entry.index])) if entry.index in named else entry
        for entry in bundle.entries
    ]
    return replace(bundle, entries=tuple(entries))


def _deleted_by(entry: BundleEntry) -> tuple[str, str] | None:
    if entry.method != "DELETE" or entry.resource is not None or entry.issues:
        return None
    return address_of(entry.url or "")


def address_of(written: str) -> tuple[str, str] | None:
    """Read the type and id that an address names; None where it names no resource of R4."""
    found = _ADDRESS.fullmatch(written.strip())
    return (found[1], found[2]) if found and found[1] in resource_types() else None


def _filled(entry: BundleEntry, version: Resource | None) -> BundleEntry:
    return entry if version is None else replace(entry, resource=version, method="PUT")


def _versions(
    uow: UnitOfWork, system: str, references: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Resource]:
    keys = {each: named_key(uow.sealer, system, *each) for each in references}
    current = uow.events.current(list(keys.values()))
    found = {}
    for reference, key in keys.items():
        event = current.get(key)
        raw = _opened(uow, event) if event else None
        known: Mapping[str, Any] | None = orjson.loads(raw) if raw else None
        if raw and known and is_deleted(known):
            found[reference] = Resource(reference[0], dict(known), raw)
        else:
            found[reference] = deleted_version(reference, known, uow.now)
    return found


def _opened(uow: UnitOfWork, event: Event) -> bytes | None:
    """Open a version; what was erased meanwhile counts as never received."""
    try:
        return uow.events.content(event)
    except Unsealable:
        return None
