"""(1) What an EHR says about changes: a ping, or a notification of the Subscriptions Backport.

* The resources that a notification brings are received as those of any Bundle.
* What it says beside them (numbers, references, the state of the Subscription) is kept for the
  listener of its system, before the answer.
* Where no listener of the site would fetch what is only pointed at, it is refused: a 2xx would
  lose it. What asks for nothing is then not kept.

Source: FHIR R4 Subscription (rest-hook); http://hl7.org/fhir/uv/subscriptions-backport.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import orjson

from adapters.feeds.notification import (
    Notification,
    NotificationType,
    is_notification,
    read_status,
)
from adapters.site import Site
from gateway.core.errors import ProcessingError
from gateway.core.fhir import BundleEntry, ParsedBundle, Resource
from gateway.core.notice import PING, Notice
from gateway.store.group_commit import GroupCommit
from gateway.store.unit_of_work import Store

#: Listeners that do what a notice asks for.
_FOLLOWING = frozenset({"subscription", "poll"})
_BRINGS_EVENTS = frozenset({NotificationType.EVENT, NotificationType.QUERY_EVENT})
_HISTORIES = frozenset({"history", "subscription-notification"})


class NothingFollows(ProcessingError):
    """This only says that something changed, and no listener of the site would ask what.

    Give the system a `subscription` or a `poll` in its `receive`, or let it send whole resources.
    """

    issue_type = "business-rule"


class _Entry(msgspec.Struct):
    resource: msgspec.Raw = msgspec.Raw()


class _Entries(msgspec.Struct):
    entry: list[_Entry] = []


_entries = msgspec.json.Decoder(_Entries)


class NoticeBox:
    """Keeps notices, many in one commit."""

    def __init__(self, store: Store, site: Callable[[], Site]) -> None:
        """Take where notices are kept, and what gives the site in force."""
        self._store = store
        self._site = site
        self._commit = GroupCommit(self._write, limit=256, max_waiting=10_000)

    async def ping(self, system: str) -> None:
        """Keep that something changed.

        Raises:
            NothingFollows: No listener would ask what it was.
            StoreUnavailable: It was not kept.
        """
        await self.keep(system, Notice(PING, is_blind=True))

    async def keep(self, system: str, notice: Notice) -> None:
        """Keep a notice; it is durable when this returns.

        Raises:
            NothingFollows: It asks for something that no listener would fetch.
            StoreUnavailable: It was not kept.
        """
        known = self._site().system(system)
        if not known or not any(feed.kind in _FOLLOWING for feed in known.feeds):
            if notice.asks:
                raise NothingFollows
            return
        await asyncio.wrap_future(self._commit.submit((system, notice)))

    def close(self) -> None:
        """Write what waits."""
        self._commit.close()

    def _write(self, said: Sequence[tuple[str, Notice]]) -> list[None]:
        with self._store.write() as uow:
            # Who says the same many times at once is asked once.
            uow.notices.add(list(dict.fromkeys(said)))
        return [None] * len(said)


def notification_in(bundle: ParsedBundle) -> Notification | None:
    """Read the notification that a Bundle is; None when it is none.

    Raises:
        InvalidResource: Its status says too little, or an event number is none.
    """
    if bundle.type not in _HISTORIES or not bundle.entries:
        return None
    # Its own schema may be that of R4B, so it is looked at whether or not it is valid R4.
    raw = bytes(_entries.decode(bundle.raw).entry[0].resource)
    first: Any = orjson.loads(raw) if raw else None
    return read_status(first) if is_notification(bundle.type, first) else None


def brought(bundle: ParsedBundle) -> ParsedBundle:
    """Leave of a notification what it brings: its resources, without the status."""
    entries = tuple(each for each in bundle.entries[1:] if each.resource or each.issues)
    return replace(bundle, entries=entries)


def notice_of(said: Notification, bundle: ParsedBundle) -> Notice:
    """Give what a listener has to know of a notification.

    Args:
        said: Its status.
        bundle: The whole of it.
    """
    here = {f"{each.type}/{each.content.get('id')}" for each in _resources(bundle)}
    focuses = [event.focus for event in said.events if event.focus]
    pointed = [*focuses, *filter(None, map(_address, bundle.entries[1:]))]
    wanted = [each for each in dict.fromkeys(pointed) if _relative(each) not in here]
    brings_events = said.type in _BRINGS_EVENTS
    is_empty = not here and not pointed
    return Notice(
        kind=said.type.value,
        subscription=said.subscription,
        status="error" if said.has_errors and not said.status else said.status,
        total=said.total,
        numbers=tuple(event.number for event in said.events),
        wanted=tuple(wanted) if brings_events else (),
        is_blind=brings_events and is_empty,
    )


def _resources(bundle: ParsedBundle) -> list[Resource]:
    return [each.resource for each in bundle.entries[1:] if each.resource is not None]


def _address(entry: BundleEntry) -> str | None:
    """Say what an entry without a resource is about; a refused resource is not fetched again."""
    if entry.resource is not None or entry.issues:
        return None
    literal = entry.full_url or entry.url or ""
    return None if literal.startswith("urn:") else literal or None


def _relative(reference: str) -> str:
    return "/".join(reference.split("/_history/", maxsplit=1)[0].rstrip("/").split("/")[-2:])
