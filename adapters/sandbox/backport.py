"""Topic-based Subscriptions as the R5 Backport has them in R4: what is counted, and what is sent.

* The topic stands in `criteria`, what is wanted of it in the extension for filters.
* Every event gets the next number of its Subscription, whether or not it can be sent.
* Notifications are `history` Bundles: a handshake, heartbeats, and events with nothing, with
  references or with the resources, as `backport-payload-content` asks.

Source: http://hl7.org/fhir/uv/subscriptions-backport (1.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from adapters.sandbox.keys import Resource
from adapters.sandbox.refusal import Refusal
from adapters.sandbox.store import Record, instant

_IG = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition"
_CONTENTS = frozenset({"empty", "id-only", "full-resource"})


@dataclass(frozen=True)
class Topic:
    """How a topic-based Subscription wants to be told.

    Attributes:
        canonical: Of the topic.
        filter: What is wanted, as `Observation?code=1`.
        content: `empty`, `id-only` or `full-resource`.
        heartbeat_s: Longest silence; None for no heartbeat.
    """

    canonical: str
    filter: str
    content: str
    heartbeat_s: int | None


@dataclass
class EventCount:
    """The events of one Subscription, numbered from 1.

    Attributes:
        records: The resource of each, in the order of their numbers.
    """

    topic: Topic
    subscription_id: str
    records: list[Record] = field(default_factory=list)

    def add(self, record: Record) -> int:
        """Count an event; give its number."""
        self.records.append(record)
        return len(self.records)

    def notification(
        self,
        kind: str,
        status: str,
        base_url: str,
        *,
        numbers: Sequence[int] = (),
        content: str = "",
    ) -> bytes:
        """Write a notification.

        Args:
            kind: Code of the type.
            status: Of the Subscription.
            base_url: Of this EHR.
            numbers: Of the events that it is about.
            content: What is said of them, where not what the Subscription asks for.
        """
        subscription = f"{base_url}/Subscription/{self.subscription_id}"
        told = content or self.topic.content
        events = [self._event(number, told, base_url) for number in numbers]
        first = {
            "fullUrl": f"urn:uuid:{self._status_uuid(kind, numbers)}",
            "resource": self._status(kind, status, subscription, events),
            "request": {"method": "GET", "url": f"{subscription}/$status"},
            "response": {"status": "200"},
        }
        brought = [] if told == "empty" else [self.records[number - 1] for number in numbers]
        entries = [_entry(each, base_url, is_full=told == "full-resource") for each in brought]
        bundle = {"resourceType": "Bundle", "type": "history", "entry": [first, *entries]}
        return orjson.dumps(bundle)

    def status_bundle(self, status: str, base_url: str) -> bytes:
        """Write the answer to `$status`."""
        subscription = f"{base_url}/Subscription/{self.subscription_id}"
        resource = self._status("query-status", status, subscription, [])
        entry = {"resource": resource, "search": {"mode": "match"}}
        bundle = {"resourceType": "Bundle", "type": "searchset", "total": 1, "entry": [entry]}
        return orjson.dumps(bundle)

    def _status(
        self, kind: str, status: str, subscription: str, events: Sequence[Resource]
    ) -> Resource:
        total = str(len(self.records))
        return {
            "resourceType": "Parameters",
            "meta": {"profile": [f"{_IG}/backport-subscription-status-r4"]},
            "parameter": [
                {"name": "subscription", "valueReference": {"reference": subscription}},
                {"name": "topic", "valueCanonical": self.topic.canonical},
                {"name": "status", "valueCode": status},
                {"name": "type", "valueCode": kind},
                {"name": "events-since-subscription-start", "valueString": total},
                *events,
            ],
        }

    def _event(self, number: int, content: str, base_url: str) -> Resource:
        record = self.records[number - 1]
        parts: list[Resource] = [
            {"name": "event-number", "valueString": str(number)},
            {"name": "timestamp", "valueInstant": instant(record.updated_ms)},
        ]
        if content != "empty":
            focus = {"reference": f"{base_url}/{record.reference}"}
            parts.append({"name": "focus", "valueReference": focus})
        return {"name": "notification-event", "part": parts}

    def _status_uuid(self, kind: str, numbers: Sequence[int]) -> str:
        """Give each notification a name of its own that is the same whenever it is sent."""
        named = sum(map(ord, kind)) * 2**32 + (max(numbers) if numbers else len(self.records))
        return f"00000000-0000-4000-8000-{named % 16**12:012x}"


def read_topic(resource: Resource) -> Topic | None:
    """Read how a Subscription wants to be told; None when it is not topic-based.

    Raises:
        Refusal: It names no filter, or a content that there is not (422).
    """
    filters = _extensions(resource.get("_criteria"), "backport-filter-criteria")
    channel = resource.get("channel", {})
    contents = _extensions(channel.get("_payload"), "backport-payload-content")
    if not filters and not contents:
        return None
    if len(filters) != 1 or (contents or ["id-only"])[0] not in _CONTENTS:
        raise Refusal(422, "value", "The Subscription needs one filter and a known content.")
    heartbeats = _extensions(channel, "backport-heartbeat-period")
    return Topic(
        canonical=str(resource.get("criteria", "")),
        filter=str(filters[0]),
        content=str((contents or ["id-only"])[0]),
        heartbeat_s=int(heartbeats[0]) if heartbeats else None,
    )


def _extensions(element: object, name: str) -> list[Any]:
    """Give the values of an extension of the Backport on an element."""
    listed = element.get("extension", ()) if isinstance(element, dict) else ()
    wanted = [each for each in listed if each.get("url") == f"{_IG}/{name}"]
    return [value for each in wanted for key, value in each.items() if key.startswith("value")]


def _entry(record: Record, base_url: str, *, is_full: bool) -> Resource:
    method, status = ("POST", "201") if record.version == 1 else ("PUT", "200")
    url = record.resource_type if record.version == 1 else record.reference
    entry: Resource = {
        "fullUrl": f"{base_url}/{record.reference}",
        "request": {"method": method, "url": url},
        "response": {"status": status},
    }
    return entry | ({"resource": orjson.Fragment(record.body)} if is_full else {})
