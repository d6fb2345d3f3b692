"""Topic-based Subscriptions of the stand-in EHR: handshake, numbers, heartbeat, error."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from adapters.feeds.notification import Notification, read_status
from adapters.feeds.subscription import Wanted
from adapters.sandbox.faults import FaultKnobs, Faults
from adapters.sandbox.refusal import Refusal
from adapters.sandbox.store import Store
from adapters.sandbox.subscriptions import Pusher
from gateway.core.fhir import parse_resource

WANTED = Wanted(
    "Observation?code=l|1",
    "http://nadi.test/fhir",
    "test",
    topic="http://nadi.test/SubscriptionTopic/any",
)


class Endpoint:
    """Stands for a subscriber and keeps what it was sent."""

    def __init__(self, status: int | None = 200) -> None:
        self.status = status
        self.bodies: list[bytes] = []

    async def send(
        self, _method: str, _url: str, *, headers: Mapping[str, str], body: bytes
    ) -> int | None:
        assert headers["Authorization"] == "Bearer secret"
        self.bodies.append(body)
        return self.status

    def close(self) -> None:
        """Keep nothing."""

    @property
    def said(self) -> list[Notification]:
        return [read_status(json.loads(body)["entry"][0]["resource"]) for body in self.bodies]


def play(
    endpoint: Endpoint,
    story: Callable[[Store], Awaitable[None]],
    *,
    faults: Faults | None = None,
    wanted: Wanted = WANTED,
) -> Store:
    async def run() -> Store:
        store = Store()
        pusher = Pusher(
            store, FaultKnobs(faults), give_up_after_s=0.0, make_courier=lambda: endpoint
        )
        store.put(wanted.resource("secret"), "s")
        await asyncio.sleep(0.05)
        await story(store)
        await asyncio.sleep(0.05)
        await pusher.close()
        return store

    return asyncio.run(run())


def observation(name: str) -> dict[str, Any]:
    code = {"coding": [{"system": "l", "code": "1"}]}
    return {"resourceType": "Observation", "id": name, "status": "final", "code": code}


def status_of(store: Store) -> str:
    record = store.current("Subscription", "s")
    assert record is not None
    return str(json.loads(record.body)["status"])


def test_a_handshake_comes_before_anything_and_makes_it_active():
    endpoint = Endpoint()

    async def story(store: Store) -> None:
        store.put(observation("a"), "a")
        store.put({**observation("b"), "code": {"text": "another"}}, "b")
        store.put(observation("c"), "c")

    store = play(endpoint, story)

    kinds = [(each.type.value, each.total) for each in endpoint.said]
    assert kinds == [("handshake", 0), ("event-notification", 1), ("event-notification", 2)]
    assert [event.number for each in endpoint.said for event in each.events] == [1, 2]
    assert status_of(store) == "active"


@pytest.mark.parametrize("content", ["empty", "id-only", "full-resource"])
def test_each_content_is_valid_r4_and_brings_as_much_as_it_says(content: str):
    endpoint = Endpoint()

    async def story(store: Store) -> None:
        store.put(observation("a"), "a")

    play(endpoint, story, wanted=Wanted(**{**vars(WANTED), "content": content}))

    bundle = json.loads(endpoint.bodies[1])
    parse_resource(endpoint.bodies[1], expected_type="Bundle")
    (event,) = endpoint.said[1].events
    assert (event.focus is None) == (content == "empty")
    brought = bundle["entry"][1:]
    assert len(brought) == (content != "empty")
    assert all(("resource" in each) == (content == "full-resource") for each in brought)


def test_an_endpoint_that_refuses_the_handshake_is_in_error_and_events_are_counted_on():
    endpoint = Endpoint(status=403)

    async def story(store: Store) -> None:
        assert status_of(store) == "error"
        store.put(observation("a"), "a")
        endpoint.status = 200
        record = store.current("Subscription", "s")
        assert record is not None
        store.put({**json.loads(record.body), "status": "requested"}, "s")

    store = play(endpoint, story)

    assert [(each.type.value, each.total) for each in endpoint.said][-1] == ("handshake", 1)
    assert status_of(store) == "active"


def test_a_heartbeat_comes_when_nothing_was_told_for_its_period():
    endpoint = Endpoint()

    async def story(_: Store) -> None:
        await asyncio.sleep(1.6)

    play(endpoint, story, wanted=Wanted(**{**vars(WANTED), "heartbeat_s": 1}))

    assert [each.type.value for each in endpoint.said] == ["handshake", "heartbeat"]


def test_of_so_many_events_the_last_is_lost_and_its_number_missing():
    endpoint = Endpoint()

    async def story(store: Store) -> None:
        for name in "abcdef":
            store.put(observation(name), name)

    play(endpoint, story, faults=Faults(lose_every=3))

    numbers = [event.number for each in endpoint.said for event in each.events]
    assert numbers == [1, 2, 4, 5]


def test_a_subscription_without_a_filter_is_refused():
    resource = WANTED.resource("secret")
    del resource["_criteria"]

    with pytest.raises(Refusal):
        play(Endpoint(), lambda _: asyncio.sleep(0), wanted=_Raw(resource))  # type: ignore[arg-type]


class _Raw:
    """A Subscription as it is."""

    def __init__(self, resource: dict[str, Any]) -> None:
        self._resource = resource

    def resource(self, _token: str) -> dict[str, Any]:
        return self._resource
