import json
from collections import Counter
from typing import Any

import pytest

from adapters.feeds.notification import (
    NotificationType,
    NotifiedEvent,
    is_notification,
    read_status,
)
from gateway.core.errors import InvalidResource
from tests.conftest import shared_data
from tests.notifications import ENCOUNTER, SUBSCRIPTION, status_of

LARGEST = 2**63 - 1


def load(name: str) -> dict[str, Any]:
    file = shared_data("subscriptions-backport") / f"{name}.json"
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.mark.parametrize(
    ("name", "kind", "focus"),
    [
        ("empty-with-auth", NotificationType.EVENT, None),
        ("id-only", NotificationType.EVENT, ENCOUNTER),
        ("full-resource", NotificationType.EVENT, ENCOUNTER),
        ("full-resource-with-query", NotificationType.EVENT, ENCOUNTER),
        ("heartbeat", NotificationType.HEARTBEAT, None),
    ],
)
def test_each_published_example_is_read(name: str, kind: NotificationType, focus: str | None):
    bundle = load(f"Bundle-r4-notification-{name}")
    first = bundle["entry"][0]["resource"]

    assert is_notification(bundle["type"], first)
    found = read_status(first)

    events = () if kind is NotificationType.HEARTBEAT else (NotifiedEvent(2, focus),)
    assert found.events == events
    assert (found.type, found.subscription) == (kind, SUBSCRIPTION)
    assert (found.status, found.total, found.has_errors) == ("active", 2, False)


def test_every_published_file_is_a_notification_or_the_subscription_itself():
    files = shared_data("subscriptions-backport").iterdir()
    kinds = Counter(json.loads(file.read_text())["resourceType"] for file in files)

    assert kinds == {"Bundle": 5, "Subscription": 1}


@pytest.mark.parametrize("written", [str(LARGEST), LARGEST])
def test_a_number_may_have_64_bits_in_text_or_as_a_number(written: object):
    assert read_status(status_of("heartbeat", total=written)).total == LARGEST


@pytest.mark.parametrize("written", ["", "1.5", "-1", str(LARGEST + 1), "one", True, "9" * 4000])
def test_a_number_that_is_none_is_refused_without_repeating_it(written: object):
    with pytest.raises(InvalidResource) as refused:
        read_status(status_of("event-notification", events=[(written, None)]))

    issue = refused.value.issues[0]
    assert (issue.code, issue.expression) == ("value", "Bundle.entry[0].resource")
    assert "9999" not in issue.diagnostics


def test_what_names_no_type_or_no_subscription_is_refused():
    for status in (status_of("gossip"), status_of("heartbeat", subscription="")):
        with pytest.raises(InvalidResource, match="type and its Subscription"):
            read_status(status)


def test_a_batch_of_events_keeps_their_order():
    events = [(9, "Observation/b"), (8, "Observation/a")]

    found = read_status(status_of("event-notification", events=events))

    assert found.events == (NotifiedEvent(9, "Observation/b"), NotifiedEvent(8, "Observation/a"))


def test_an_error_of_the_subscription_is_noticed():
    status = status_of("query-status", status="error")
    status["parameter"].append({"name": "error", "valueCodeableConcept": {"text": "away"}})

    found = read_status(status)

    assert (found.status, found.has_errors) == ("error", True)


def test_a_status_without_a_profile_is_recognised_by_what_it_says():
    status = status_of("heartbeat")
    del status["meta"]

    assert is_notification("history", status)


def test_other_parameters_in_a_history_are_no_notification():
    other = {"resourceType": "Parameters", "parameter": [{"name": "type", "valueCode": "x"}]}

    assert not is_notification("history", other)
    assert not is_notification("history", None)
    assert not is_notification("transaction", status_of("heartbeat"))


def test_a_status_of_r4b_says_the_same():
    status = {
        "resourceType": "SubscriptionStatus",
        "type": "event-notification",
        "status": "active",
        "subscription": {"reference": "Subscription/s"},
        "eventsSinceSubscriptionStart": "7",
        "notificationEvent": [{"eventNumber": "7", "focus": {"reference": "Observation/o"}}],
    }

    assert is_notification("subscription-notification", status)
    found = read_status(status)

    assert (found.total, found.events) == (7, (NotifiedEvent(7, "Observation/o"),))
