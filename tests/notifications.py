"""Subscription notifications for tests: the published examples, and others like them."""

from collections.abc import Sequence
from typing import Any

SUBSCRIPTION = "https://example.org/fhir/Subscription/admission"
ENCOUNTER = "https://example.org/fhir/Encounter/86009987-eabe-42bf-8c02-b112b18cb616"

_PROFILE = (
    "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
    "backport-subscription-status-r4"
)


def status_of(
    kind: str,
    *,
    subscription: str = SUBSCRIPTION,
    status: str = "active",
    total: object = None,
    events: Sequence[tuple[object, str | None]] = (),
) -> dict[str, Any]:
    """Write a SubscriptionStatus as the Backport has it in R4.

    Args:
        kind: Code of the type.
        subscription: Reference of the Subscription.
        status: Of the Subscription.
        total: Events since its start; left out when None.
        events: Number and focus of each.
    """
    parameters = [
        {"name": "subscription", "valueReference": {"reference": subscription}},
        {"name": "status", "valueCode": status},
        {"name": "type", "valueCode": kind},
        *([] if total is None else [_number("events-since-subscription-start", total)]),
        *(_event(number, focus) for number, focus in events),
    ]
    meta = {"profile": [_PROFILE]}
    return {"resourceType": "Parameters", "meta": meta, "parameter": parameters}


def notification(
    kind: str, *, resources: Sequence[dict[str, Any]] = (), **status: Any
) -> dict[str, Any]:
    """Write a notification with the resources that it carries."""
    subscription = status.get("subscription", SUBSCRIPTION)
    first = {
        "fullUrl": "urn:uuid:5d4b1f5e-6a3c-4a53-9d51-0d0c4cf0a001",
        "resource": status_of(kind, **status),
        "request": {"method": "GET", "url": f"{subscription}/$status"},
        "response": {"status": "200"},
    }
    entries = [
        {
            "fullUrl": f"https://example.org/fhir/{each['resourceType']}/{each['id']}",
            "resource": each,
            "request": {"method": "PUT", "url": f"{each['resourceType']}/{each['id']}"},
            "response": {"status": "200"},
        }
        for each in resources
    ]
    return {"resourceType": "Bundle", "type": "history", "entry": [first, *entries]}


def _event(number: object, focus: str | None) -> dict[str, Any]:
    named = [{"name": "focus", "valueReference": {"reference": focus}}] if focus else []
    return {"name": "notification-event", "part": [_number("event-number", number), *named]}


def _number(name: str, value: object) -> dict[str, Any]:
    return {"name": name, "valueString": value}
