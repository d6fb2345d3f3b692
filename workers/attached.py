"""(4.2) What was received and an event's resource points at: its Binary, Media or document.

A reference is followed within what the same system sent: by type and id, or by the `fullUrl` of an
entry of the Bundle that the event came in. What belongs to another patient is left out; a Binary
that names no patient counts as belonging to who points at it.

Source: FHIR R4 Bundle, resolving references (http://hl7.org/fhir/R4/bundle.html#references).
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from gateway.core.attachments import DEEPEST, HOLDERS, MOST_REFERENCES, references
from gateway.core.event import relative_reference
from gateway.store.events import Event
from gateway.store.identity import named_key
from gateway.store.unit_of_work import UnitOfWork

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Whose:
    """Whose resource points at something, and what it came with.

    Attributes:
        system: System of the site file that it comes from.
        patient_key: Keyed hash of the patient.
        submission_id: The Bundle that it came in, if it came in one.
    """

    system: str
    patient_key: str | None
    submission_id: str | None


class Received:
    """What was received and may be pointed at."""

    def __init__(self, uow: UnitOfWork, whose: Whose, base_url: str | None) -> None:
        self._uow = uow
        self._whose = whose
        self._base_url = base_url

    def attached(self, content: Json, unseal: Callable[[Event], Json]) -> dict[str, Json]:
        """Give what a resource points at, and what that points at, by the reference it uses.

        Args:
            content: The resource.
            unseal: Opens an event.
        """
        found: dict[str, Json] = {}
        wanted = references(content)
        for _ in range(DEEPEST):
            near = [each for each in wanted if each not in found][:MOST_REFERENCES]
            events = self._locate(near)
            opened = {literal: unseal(event) for literal, event in events.items()}
            found |= opened
            wanted = [literal for each in opened.values() for literal in references(each)]
        return found

    def _locate(self, literals: Collection[str]) -> dict[str, Event]:
        named = {each: key for each in literals if (key := self._key(each))}
        current = self._uow.events.current(set(named.values())) if named else {}
        events = {each: current[key] for each, key in named.items() if key in current}
        others = [each for each in literals if each not in events]
        ids = {each: self._entries[each] for each in others if each in self._entries}
        by_id = self._uow.events.get_many(set(ids.values())) if ids else {}
        events |= {each: by_id[event_id] for each, event_id in ids.items() if event_id in by_id}
        return {each: event for each, event in events.items() if self._is_own(event)}

    def _key(self, literal: str) -> str | None:
        reference = relative_reference(literal, base_url=self._base_url)
        kind, _, name = (reference or "").partition("/")
        if kind not in HOLDERS:
            return None
        return named_key(self._uow.sealer, self._whose.system, kind, name)

    @cached_property
    def _entries(self) -> Mapping[str, str]:
        """The ids of what came in the same Bundle, by `fullUrl`."""
        submission = self._whose.submission_id
        return self._uow.events.ids_of_entries(submission) if submission else {}

    def _is_own(self, event: Event) -> bool:
        is_nobodys = event.patient_key is None and event.resource_type == "Binary"
        return is_nobodys or event.patient_key == self._whose.patient_key
