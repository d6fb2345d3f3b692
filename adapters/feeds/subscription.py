"""The Subscription that Nadi keeps in an EHR, written as its owner wants it.

Plain R4 names search criteria; the Backport names a topic, and the criteria as its filter. The
header carries the credential with which the EHR calls; nobody else has it.

Source: FHIR R4 Subscription; Subscriptions R5 Backport, backport-subscription.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

_IG = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition"
#: Statuses of a Subscription that works, or is about to.
WORKING = frozenset({"requested", "active"})


@dataclass(frozen=True)
class Wanted:
    """What a Subscription is to say.

    Attributes:
        criteria: For example `Observation?category=laboratory`.
        endpoint: Nadi's FHIR base as the EHR reaches it.
        reason: Who keeps it, and why.
        topic: Canonical of the topic; None for plain R4.
        content: `full-resource`, `id-only` or `empty`.
        heartbeat_s: Of a topic-based one; None for none.
    """

    criteria: str
    endpoint: str
    reason: str
    topic: str | None = None
    content: str = "full-resource"
    heartbeat_s: int | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of all that it says but the credential."""
        return sha256(orjson.dumps(self.resource(""), option=orjson.OPT_SORT_KEYS)).hexdigest()

    def resource(self, token: str, *, resource_id: str | None = None) -> dict[str, Any]:
        """Write it.

        Args:
            token: Credential with which the EHR calls.
            resource_id: Of the one that it is to replace.
        """
        named = {"id": resource_id} if resource_id else {}
        head = {"resourceType": "Subscription", **named, "status": "requested"}
        head |= {"reason": self.reason}
        return head | (self._plain(token) if self.topic is None else self._of_topic(token))

    def is_in(self, resource: Mapping[str, Any]) -> bool:
        """Say whether a Subscription of an EHR is this one, whatever state it is in."""
        channel = resource.get("channel") or {}
        same = str(channel.get("endpoint", "")).rstrip("/") == self.endpoint.rstrip("/")
        return same and self._criteria_of(resource) == self._criteria()

    def _criteria(self) -> tuple[str, str]:
        """Give what tells it from others: topic and criteria."""
        return (self.topic or "", _with_mark(self.criteria))

    def _criteria_of(self, resource: Mapping[str, Any]) -> tuple[str, str]:
        if self.topic is None:
            return ("", _with_mark(str(resource.get("criteria", ""))))
        listed = (resource.get("_criteria") or {}).get("extension") or ()
        filters = [each.get("valueString", "") for each in listed]
        return (str(resource.get("criteria", "")), _with_mark("".join(filters)))

    def _plain(self, token: str) -> dict[str, Any]:
        payload = {} if self.content == "empty" else {"payload": "application/fhir+json"}
        return {
            "criteria": _with_mark(self.criteria),
            "channel": {**self._channel(token), **payload},
        }

    def _of_topic(self, token: str) -> dict[str, Any]:
        beat = {"url": f"{_IG}/backport-heartbeat-period", "valueUnsignedInt": self.heartbeat_s}
        content = {"url": f"{_IG}/backport-payload-content", "valueCode": self.content}
        filters = {"url": f"{_IG}/backport-filter-criteria", "valueString": self.criteria}
        return {
            "meta": {"profile": [f"{_IG}/backport-subscription"]},
            "criteria": self.topic,
            "_criteria": {"extension": [filters]},
            "channel": {
                **({"extension": [beat]} if self.heartbeat_s else {}),
                **self._channel(token),
                "payload": "application/fhir+json",
                "_payload": {"extension": [content]},
            },
        }

    def _channel(self, token: str) -> dict[str, Any]:
        return {
            "type": "rest-hook",
            "endpoint": self.endpoint,
            "header": [f"Authorization: Bearer {token}"],
        }


def _with_mark(criteria: str) -> str:
    """Write criteria with their question mark, which HAPI insists on even where nothing follows."""
    return criteria if "?" in criteria else f"{criteria}?"
