"""What Nadi holds of one EHR: references, a batch at a time, for the EHR to be asked after.

What was never in that EHR is left out: what a listener made of a message, what lay in a folder.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from adapters.site import Site
from gateway.core.deletion import is_deleted
from gateway.core.errors import Unsealable
from gateway.core.feeds import FEEDS
from gateway.store.events import Event
from gateway.store.identity import named_key
from gateway.store.listener_credentials import ListenerCredentials
from gateway.store.unit_of_work import Store, UnitOfWork

#: Listeners of what is in no EHR.
_ELSEWHERE = frozenset({"mllp", "dicom", "drop"})
_CONSENT = "Consent"


@dataclass(frozen=True)
class HeldBatch:
    """Some of what is held.

    Attributes:
        references: `Type/id` of what the EHR should have.
        last: Where the next batch begins.
        is_last: Whether nothing comes after it.
    """

    references: tuple[str, ...]
    last: str
    is_last: bool


class Held:
    """What is held of one system."""

    def __init__(self, store: Store, system: str, site: Callable[[], Site]) -> None:
        """Take whose it is, and what gives the site in force."""
        self._store = store
        self._system = system
        self._site = site

    def batch(self, kind: str, after: str, limit: int, *, came_before_ms: int) -> HeldBatch:
        """Give the current resources of a type that the EHR should have, oldest first.

        Args:
            kind: Resource type.
            after: `last` of the batch before; empty for the first.
            limit: How many are looked at.
            came_before_ms: What came later is left out: an EHR may not show yet what it pushed.
        """
        elsewhere = self._elsewhere()
        with self._store.read() as uow:
            events = uow.events.current_of(self._system, kind, after=after, limit=limit)
            found = [
                _reference(uow, each)
                for each in events
                if each.principal_id not in elsewhere and each.received_ms < came_before_ms
            ]
        last = events[-1].id if events else after
        return HeldBatch(tuple(filter(None, found)), last, len(events) < limit)

    def worth_telling(self, deleted: Sequence[str]) -> list[str]:
        """Give of what an EHR deleted what is to be received as deleted.

        That is what is held and not yet received so. Of Consents also those that never came: one
        that is still on its way must not come into force.
        """
        pairs = {each: each.split("/", 1) for each in deleted}
        with self._store.read() as uow:
            keys = {
                each: named_key(uow.sealer, self._system, kind, name)
                for each, (kind, name) in pairs.items()
            }
            known = uow.events.current(list(keys.values()))
            return [
                each
                for each, key in keys.items()
                if (_reference(uow, known[key]) is not None if key in known else _matters(each))
            ]

    def _elsewhere(self) -> frozenset[str]:
        """Give the principals whose resources are in no EHR."""
        credentials = ListenerCredentials(self._store.sealer)
        feeds = self._site().feeds.items()
        return frozenset(
            credentials.credential_id(name) for name, feed in feeds if feed.kind in _ELSEWHERE
        )


def _matters(reference: str) -> bool:
    return reference.startswith(f"{_CONSENT}/")


def _reference(uow: UnitOfWork, event: Event) -> str | None:
    """Give the reference of what the EHR should have; None of what is deleted, erased or ours."""
    try:
        content = orjson.loads(uow.events.content(event))
    except Unsealable:
        return None
    source = str((content.get("meta") or {}).get("source", ""))
    if "id" not in content or is_deleted(content) or source.startswith(FEEDS):
        return None
    return f"{content['resourceType']}/{content['id']}"
