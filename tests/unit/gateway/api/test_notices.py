"""Pings and notifications of Subscriptions, as the receiver of the API takes them."""

import json
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.core.fhir import parse_resource
from gateway.core.notice import PING, Notice
from tests.conftest import Api, shared_data
from tests.factories import SITE, consent, creatinine, raw
from tests.notifications import ENCOUNTER, SUBSCRIPTION, notification, status_of

FOLLOWED = SITE.replace("[push]", "[push, {poll: {types: [Observation]}}]")


pytestmark = pytest.mark.parametrize("api", [FOLLOWED], indirect=True, ids=["followed"])


def kept(api: Api) -> list[Notice]:
    with api.store.read() as uow:
        return [each.notice for each in uow.notices.waiting("ehr", limit=100)]


def events(api: Api) -> int:
    with api.store.read() as uow:
        return uow.connection.scalar(sa.text("select count(*) from events")) or 0


def push(api: Api, bundle: dict[str, Any]) -> list[dict[str, Any]]:
    """Push a notification that has to be taken; give the entries of the answer."""
    answer = api.post(raw(bundle))
    assert answer.status_code == 200, answer.text
    parse_resource(answer.content, expected_type="Bundle")
    found: list[dict[str, Any]] = answer.json().get("entry", [])
    return found


def example(name: str) -> dict[str, Any]:
    file = shared_data("subscriptions-backport") / f"Bundle-r4-notification-{name}.json"
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.mark.parametrize("path", ["/fhir", "/fhir/"])
@pytest.mark.parametrize("content_type", [{}, {"Content-Type": "application/fhir+json"}])
def test_an_empty_post_says_that_something_changed(api: Api, path: str, content_type):
    answer = api.client.post(path, headers={**api.headers(), **content_type})

    assert answer.status_code == 200
    parse_resource(answer.content, expected_type="OperationOutcome")
    assert kept(api) == [Notice(PING, is_blind=True)]


def test_an_empty_post_needs_a_credential_and_a_system(api: Api):
    assert api.client.post("/fhir").status_code == 401
    assert api.client.post("/fhir", headers=api.headers("nobody")).status_code == 403
    assert kept(api) == []


@pytest.mark.parametrize("name", ["full-resource", "full-resource-with-query"])
def test_a_published_notification_brings_its_resource(api: Api, name: str):
    (entry,) = push(api, example(name))

    assert entry["response"]["status"] == "202"
    told = Notice("event-notification", SUBSCRIPTION, "active", 2, (2,))
    assert (kept(api), events(api)) == ([told], 1)
    assert not told.asks


@pytest.mark.parametrize(
    ("name", "asked"),
    [("id-only", {"wanted": (ENCOUNTER,)}), ("empty-with-auth", {"is_blind": True})],
)
def test_a_published_notification_that_only_points_is_kept_for_the_listener(
    api: Api, name: str, asked: dict[str, Any]
):
    assert push(api, example(name)) == []

    told = Notice("event-notification", SUBSCRIPTION, "active", 2, (2,), **asked)
    assert (kept(api), events(api)) == ([told], 0)
    assert told.asks


def test_a_published_heartbeat_asks_for_nothing(api: Api):
    assert push(api, example("heartbeat")) == []

    assert kept(api) == [Notice("heartbeat", SUBSCRIPTION, "active", 2)]
    assert not kept(api)[0].asks


def test_a_handshake_is_answered_well(api: Api):
    assert push(api, notification("handshake", status="requested", total=0)) == []

    assert kept(api) == [Notice("handshake", SUBSCRIPTION, "requested", 0)]


def test_a_notification_of_r4b_is_read_too(api: Api):
    status = {
        "resourceType": "SubscriptionStatus",
        "type": "event-notification",
        "status": "active",
        "subscription": {"reference": SUBSCRIPTION},
        "eventsSinceSubscriptionStart": "3",
        "notificationEvent": [{"eventNumber": "3", "focus": {"reference": "Observation/o1"}}],
    }
    bundle = notification("event-notification", resources=[creatinine(1)])
    bundle["entry"][0]["resource"] = status

    (entry,) = push(api, {**bundle, "type": "subscription-notification"})

    assert entry["response"]["status"] == "202"
    assert kept(api)[0].numbers == (3,)


def test_a_resource_of_a_notification_is_admitted_as_any_other(api: Api):
    api.post(raw(consent(1)))
    bundle = notification(
        "event-notification", total=1, events=[(1, "Observation/o1")], resources=[creatinine(1)]
    )

    (entry,) = push(api, bundle)

    assert entry["resource"]["status"] == "ready"


def test_nineteen_copies_of_a_notification_are_one_event(api: Api):
    bundle = notification("event-notification", total=1, resources=[creatinine(1)])

    locations = {push(api, bundle)[0]["response"]["location"] for _ in range(19)}

    assert (len(locations), events(api)) == (1, 1)


def test_what_a_refused_entry_was_about_is_not_asked_for_again(api: Api):
    bad = {**creatinine(1), "status": "bogus"}

    (entry,) = push(api, notification("event-notification", total=1, resources=[bad]))

    assert entry["response"]["status"].startswith("4")
    assert not kept(api)[0].wanted


def test_a_deletion_in_a_notification_is_looked_after(api: Api):
    bundle = notification("event-notification", total=4)
    gone = {"method": "DELETE", "url": "Observation/o1"}
    bundle["entry"].append({"request": gone, "response": {"status": "204"}})

    assert push(api, bundle) == []

    assert kept(api)[0].wanted == ("Observation/o1",)


def test_a_number_that_is_none_refuses_the_whole(api: Api):
    bundle = notification("event-notification", events=[("seven", None)], resources=[creatinine(1)])

    answer = api.post(raw(bundle))

    assert answer.status_code == 400
    assert (kept(api), events(api)) == ([], 0)


def test_an_ordinary_history_is_received_as_before(api: Api):
    bundle = notification("event-notification", resources=[creatinine(1)])
    bundle["entry"].pop(0)

    (entry,) = push(api, bundle)

    assert (entry["response"]["status"], kept(api)) == ("202", [])


def test_references_lie_sealed_in_the_database(api: Api):
    push(api, example("id-only"))

    with api.store.read() as uow:
        body: bytes = uow.connection.scalar(sa.text("select body from notices"))
    assert b"86009987" not in body


def test_what_is_done_is_forgotten(api: Api):
    for total in (1, 2):
        push(api, notification("heartbeat", total=total))
    with api.store.write() as uow:
        first, _ = uow.notices.waiting("ehr", limit=10)
        uow.notices.remove([first.id])
        assert uow.notices.depths() == {"ehr": 1}

    assert [each.total for each in kept(api)] == [2]


def test_a_status_that_is_no_valid_r4_is_refused(api: Api):
    bundle = notification("heartbeat", total=1)
    bundle["entry"][0]["resource"] = {**status_of("heartbeat"), "parameter": []}

    assert api.post(raw(bundle)).status_code == 400


def test_what_waits_for_a_listener_is_in_the_metrics(api: Api):
    for total in (1, 2):
        push(api, notification("heartbeat", total=total))

    assert 'nadi_notices{system="ehr"} 2.0' in api.client.get("/metrics").text
