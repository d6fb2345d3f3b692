"""What a Subscription notification says: its kind, its numbers, and what it points at.

A notification is a Bundle whose first entry is a SubscriptionStatus: in R4 a Parameters resource
in a `history` Bundle, as the Subscriptions R5 Backport writes it; in R4B a SubscriptionStatus in a
`subscription-notification` Bundle. Both are read into one `Notification`.

* Event numbers are 64-bit numbers written as text; a number in JSON is taken too.
* What is written wrongly is refused with the place of it and none of its content.

Source: http://hl7.org/fhir/uv/subscriptions-backport (1.1, 1.2 ballot),
backport-subscription-status-r4 and backport-subscription-notification-r4; FHIR R4B
SubscriptionStatus.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.core.errors import InvalidResource, Issue

Json = Mapping[str, Any]

_BUNDLES = frozenset({"history", "subscription-notification", "searchset"})
_LARGEST = 2**63 - 1
_NUMBER = re.compile(r"[0-9]{1,19}")
_STATUS_PROFILE = "/StructureDefinition/backport-subscription-status"
_AT = "Bundle.entry[0].resource"


class NotificationType(StrEnum):
    """Codes of `SubscriptionStatus.type`."""

    HANDSHAKE = "handshake"
    HEARTBEAT = "heartbeat"
    EVENT = "event-notification"
    QUERY_STATUS = "query-status"
    QUERY_EVENT = "query-event"


_TYPES = {kind.value: kind for kind in NotificationType}


@dataclass(frozen=True)
class NotifiedEvent:
    """One event of a notification.

    Attributes:
        number: Its place in the count of the Subscription.
        focus: Reference of the resource it is about, as written; None in an empty payload.
    """

    number: int
    focus: str | None


@dataclass(frozen=True)
class Notification:
    """What a SubscriptionStatus says.

    Attributes:
        subscription: Reference of the Subscription, as written.
        status: `requested`, `active`, `error` or `off`; empty when it does not say.
        total: Events since the Subscription started; None when it does not say.
        events: Those this notification is about, in the order in which they are written.
        has_errors: Whether it reports a problem of the Subscription.
    """

    type: NotificationType
    subscription: str
    status: str
    total: int | None
    events: tuple[NotifiedEvent, ...] = ()
    has_errors: bool = False


def is_notification(bundle_type: str, first: object) -> bool:
    """Say whether a Bundle is a notification, by its type and its first resource."""
    if bundle_type not in _BUNDLES or not isinstance(first, Mapping):
        return False
    kind = first.get("resourceType")
    return kind == "SubscriptionStatus" or (kind == "Parameters" and _is_status(first))


def read_status(resource: Json, *, at: str = _AT) -> Notification:
    """Read a SubscriptionStatus in either form.

    Args:
        resource: Parameters, or a SubscriptionStatus.
        at: FHIRPath of the resource, for messages.

    Raises:
        InvalidResource: It names no Subscription or type, or a number is none of 64 bits.
    """
    is_parameters = resource.get("resourceType") == "Parameters"
    found = _of_parameters(resource) if is_parameters else _of_status(resource)
    kind = _TYPES.get(str(found.type))
    if kind is None or not found.subscription:
        words = "A notification names its type and its Subscription."
        raise InvalidResource((Issue("required", words, at),))
    return Notification(
        type=kind,
        subscription=found.subscription,
        status=found.status,
        total=None if found.total is None else _number(found.total, at),
        events=tuple(
            NotifiedEvent(_number(number, at), focus or None) for number, focus in found.events
        ),
        has_errors=found.has_errors,
    )


@dataclass(frozen=True)
class _Written:
    """What stands in either form, not yet judged."""

    type: object
    subscription: str
    status: str
    total: object
    events: Sequence[tuple[object, str]]
    has_errors: bool


def _of_parameters(resource: Json) -> _Written:
    parts = _parts(resource.get("parameter"))
    by_name = dict(reversed(parts))
    return _Written(
        type=_value(by_name.get("type")),
        subscription=_reference(_value(by_name.get("subscription"))),
        status=str(_value(by_name.get("status")) or ""),
        total=_value(by_name.get("events-since-subscription-start")),
        events=[_event_of_part(part) for name, part in parts if name == "notification-event"],
        has_errors="error" in by_name,
    )


def _event_of_part(part: Json) -> tuple[object, str]:
    inner = dict(_parts(part.get("part")))
    return _value(inner.get("event-number")), _reference(_value(inner.get("focus")))


def _of_status(resource: Json) -> _Written:
    return _Written(
        type=resource.get("type"),
        subscription=_reference(resource.get("subscription")),
        status=str(resource.get("status") or ""),
        total=resource.get("eventsSinceSubscriptionStart"),
        events=[
            (each.get("eventNumber"), _reference(each.get("focus")))
            for each in _objects(resource.get("notificationEvent"))
        ],
        has_errors=bool(resource.get("error")),
    )


def _is_status(parameters: Json) -> bool:
    """Recognise a status by its profile, or by what a status has to say."""
    meta = parameters.get("meta")
    profiles = meta.get("profile", ()) if isinstance(meta, Mapping) else ()
    if any(_STATUS_PROFILE in str(profile) for profile in profiles):
        return True
    names = {name for name, _ in _parts(parameters.get("parameter"))}
    return {"subscription", "type", "status"} <= names


def _parts(listed: object) -> list[tuple[str, Json]]:
    return [(str(each.get("name")), each) for each in _objects(listed)]


def _objects(listed: object) -> Iterator[Json]:
    for each in listed if isinstance(listed, list) else ():
        if isinstance(each, Mapping):
            yield each


def _value(part: Json | None) -> object:
    """Give the `value[x]` of a parameter, whichever type a server chose for it."""
    named = (value for name, value in (part or {}).items() if name.startswith("value"))
    return next(named, None)


def _reference(element: object) -> str:
    return str(element.get("reference", "")) if isinstance(element, Mapping) else ""


def _number(written: object, at: str) -> int:
    """Read a 64-bit number that is written as text, or as a number.

    Raises:
        InvalidResource: It is none.
    """
    text = str(written) if isinstance(written, int | str) else ""
    if isinstance(written, bool) or not _NUMBER.fullmatch(text) or int(text) > _LARGEST:
        words = "An event number is a whole number of 64 bits, written as text."
        raise InvalidResource((Issue("value", words, at),))
    return int(text)
