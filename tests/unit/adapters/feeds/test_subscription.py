import json
from dataclasses import replace

import pytest

from adapters.feeds.subscription import Wanted
from adapters.sandbox.backport import read_topic
from adapters.sandbox.subscriptions import read_subscriber
from gateway.core.fhir import parse_resource
from tests.conftest import shared_data
from tests.factories import raw

PLAIN = Wanted("Observation?category=laboratory", "https://nadi.test/fhir", "Nadi, feed ehr/x")
TOPIC = replace(PLAIN, topic="http://hl7.org/SubscriptionTopic/admission", heartbeat_s=60)


def test_the_published_subscription_is_understood():
    file = shared_data("subscriptions-backport") / "Subscription-subscription-admission.json"
    resource = json.loads(file.read_text())

    found = read_subscriber(resource, "s")

    assert found is not None
    assert found.topic is not None
    assert (found.topic.filter, found.topic.content) == ("Encounter?patient=Patient/123", "id-only")
    assert (found.topic.heartbeat_s, found.status) == (86_400, "active")


@pytest.mark.parametrize("wanted", [PLAIN, TOPIC, replace(PLAIN, content="empty")])
def test_what_is_written_is_valid_r4_and_understood(wanted: Wanted):
    resource = wanted.resource("secret")

    parse_resource(raw(resource), expected_type="Subscription")
    found = read_subscriber(resource, "s")
    assert found is not None
    assert found.headers == (("Authorization", "Bearer secret"),)
    assert found.query.resource_type == "Observation"


def test_a_topic_says_its_filter_content_and_heartbeat():
    topic = read_topic(TOPIC.resource("secret"))

    assert topic is not None
    assert (topic.filter, topic.content, topic.heartbeat_s) == (
        PLAIN.criteria,
        "full-resource",
        60,
    )


def test_a_notification_without_content_is_asked_for_by_leaving_out_the_payload():
    assert "payload" not in replace(PLAIN, content="empty").resource("")["channel"]


def test_a_type_alone_is_written_with_a_question_mark():
    assert replace(PLAIN, criteria="Observation").resource("")["criteria"] == "Observation?"


@pytest.mark.parametrize("wanted", [PLAIN, TOPIC])
def test_it_is_found_again_whatever_its_state_and_credential(wanted: Wanted):
    resource = {**wanted.resource("other"), "status": "error", "id": "s"}

    assert wanted.is_in(resource)
    assert not replace(wanted, criteria="Consent").is_in(resource)
    assert not replace(wanted, endpoint="https://elsewhere.test/fhir").is_in(resource)


def test_the_digest_is_of_everything_but_the_credential():
    assert PLAIN.digest == replace(PLAIN).digest
    assert PLAIN.digest != replace(PLAIN, content="empty").digest
    assert TOPIC.digest != replace(TOPIC, content="id-only").digest
