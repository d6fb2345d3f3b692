import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from adapters.sandbox.faults import FaultKnobs, Faults
from adapters.sandbox.refusal import Refusal
from adapters.sandbox.store import Store
from adapters.sandbox.subscriptions import Pusher, read_subscriber


class Endpoint:
    """Stands for a subscriber's HTTP endpoint and remembers what was sent to it."""

    def __init__(self, *statuses: int | None) -> None:
        self.seen: list[tuple[str, str, bytes, str]] = []
        self.deleted: list[str] = []
        self._statuses = list(statuses)

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes
    ) -> int | None:
        self.seen.append((method, url, body, headers.get("X-Key", "")))
        self.deleted += [v for k, v in headers.items() if k == "X-Medplum-Deleted-Resource"]
        return self._statuses.pop(0) if self._statuses else 202

    def close(self) -> None:
        """Keep nothing."""

    @property
    def ids(self) -> list[str]:
        return [url.rsplit("/", 1)[1] for _, url, _, _ in self.seen]


def subscription(criteria: str = "Observation?", **channel: Any) -> dict[str, Any]:
    hook = {
        "type": "rest-hook",
        "endpoint": "http://nadi.test/fhir/",
        "payload": "application/fhir+json",
        "header": ["X-Key: k:1"],
    }
    return {
        "resourceType": "Subscription",
        "status": "active",
        "criteria": criteria,
        "channel": hook | channel,
    }


def observation(code: str = "1") -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "code": {"coding": [{"system": "l", "code": code}]},
        "subject": {"reference": "Patient/p"},
    }


def play(
    endpoint: Endpoint,
    story: Callable[[Store], Awaitable[None]],
    *,
    faults: Faults | None = None,
    give_up_after_s: float = 5.0,
) -> Pusher:
    """Let a story write into a store whose Subscriptions go to the endpoint."""

    async def run() -> Pusher:
        store = Store()
        pusher = Pusher(
            store,
            FaultKnobs(faults),
            give_up_after_s=give_up_after_s,
            make_courier=lambda: endpoint,
        )
        await story(store)
        async with asyncio.timeout(5):
            while pusher.counts["queued"] > sum(pusher.counts[each] for each in ENDS):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        await pusher.close()
        return pusher

    return asyncio.run(run())


ENDS = ("sent", "refused", "dropped", "lost")


def test_what_matches_is_put_to_the_endpoint_with_its_headers() -> None:
    endpoint = Endpoint()

    async def story(store: Store) -> None:
        store.put(subscription("Observation?code=l|1"), "s")
        store.put(observation("2"), "no")
        store.put(observation("1"), "yes")
        store.put({"resourceType": "Patient"}, "neither")

    play(endpoint, story)

    ((method, path, body, key),) = endpoint.seen
    assert (method, path, key) == ("PUT", "http://nadi.test/fhir/Observation/yes", "k:1")
    assert b'"versionId":"1"' in body


def test_medplum_posts_what_was_written_and_of_what_was_deleted_only_the_name() -> None:
    endpoint = Endpoint()
    about = "https://medplum.com/fhir/StructureDefinition/subscription-supported-interaction"

    async def story(store: Store) -> None:
        store.put(subscription(endpoint="http://nadi.test/writes"), "writes")
        for name in ("create", "update", "delete"):
            only = subscription(endpoint=f"http://nadi.test/{name}")
            store.put({**only, "extension": [{"url": about, "valueCode": name}]}, name)
        store.put(observation(), "o1")
        store.put(observation(), "o1")
        store.delete("Observation", "o1")

    play(endpoint, story, faults=Faults(posts_pushes=True))

    assert {method for method, *_ in endpoint.seen} == {"POST"}
    told = {url.rpartition("/")[2]: [] for _, url, _, _ in endpoint.seen}
    for _, url, body, _ in endpoint.seen:
        told[url.rpartition("/")[2]].append(body)
    assert [len(told[name]) for name in ("writes", "create", "update", "delete")] == [2, 1, 1, 1]
    assert b'"versionId":"1"' in told["create"][0]
    assert b'"versionId":"2"' in told["update"][0]
    assert told["delete"] == [b"{}"]
    assert endpoint.deleted == ["Observation/o1"]


def test_pushes_about_one_patient_stay_in_order() -> None:
    endpoint = Endpoint()

    async def story(store: Store) -> None:
        store.put(subscription(), "s")
        for number in range(20):
            store.put(observation(), f"o{number}")

    play(endpoint, story)

    assert endpoint.ids == [f"o{number}" for number in range(20)]


def test_without_payload_only_the_news_is_sent() -> None:
    endpoint = Endpoint()

    async def story(store: Store) -> None:
        hook = subscription()
        del hook["channel"]["payload"]
        store.put(hook, "s")
        store.put(observation(), "a")

    play(endpoint, story)

    assert endpoint.seen == [("POST", "http://nadi.test/fhir", b"", "k:1")]


def test_a_push_is_tried_again_until_it_is_taken() -> None:
    endpoint = Endpoint(None, 429)

    async def story(store: Store) -> None:
        store.put(subscription(), "s")
        store.put(observation(), "a")

    pusher = play(endpoint, story)

    assert endpoint.ids == ["a", "a", "a"]
    assert (pusher.counts["sent"], pusher.counts["retried"]) == (1, 2)


@pytest.mark.parametrize(("status", "count"), [(422, "refused"), (500, "dropped")])
def test_a_push_that_is_never_taken_is_given_up(status: int, count: str) -> None:
    endpoint = Endpoint(*[status] * 9)

    async def story(store: Store) -> None:
        store.put(subscription(), "s")
        store.put(observation(), "a")

    pusher = play(endpoint, story, give_up_after_s=0.05)

    assert pusher.counts[count] == 1


def test_subscriptions_that_are_there_at_the_start_are_served() -> None:
    store = Store()
    store.put(subscription(), "s")
    pusher = Pusher(store, FaultKnobs(), make_courier=Endpoint)

    async def write() -> None:
        store.put(observation(), "a")
        await pusher.close()

    asyncio.run(write())

    assert pusher.counts["queued"] == 1


def test_a_subscription_that_is_switched_off_or_deleted_is_served_no_more() -> None:
    endpoint = Endpoint()

    async def story(store: Store) -> None:
        store.put(subscription(), "s1")
        store.put(subscription(), "s2")
        store.put(subscription() | {"status": "off"}, "s1")
        store.delete("Subscription", "s2")
        store.put(observation(), "a")

    play(endpoint, story)

    assert endpoint.seen == []


@pytest.mark.parametrize(
    ("faults", "ids"),
    [
        (Faults(duplicate_rate=1), ["a", "a", "b", "b"]),
        (Faults(reorder_rate=1), ["b", "a"]),
        (Faults(push_loss_rate=1), []),
    ],
    ids=["duplicate", "reorder", "loss"],
)
def test_pushes_can_be_repeated_reordered_and_lost(faults: Faults, ids: list[str]) -> None:
    endpoint = Endpoint()

    async def story(store: Store) -> None:
        store.put(subscription(), "s")
        store.put(observation(), "a")
        store.put(observation(), "b")

    play(endpoint, story, faults=faults)

    assert endpoint.ids == ids


def test_a_last_push_is_sent_though_nothing_follows_to_overtake_it() -> None:
    endpoint = Endpoint()

    async def story(store: Store) -> None:
        store.put(subscription(), "s")
        store.put(observation(), "a")

    play(endpoint, story, faults=Faults(reorder_rate=1))

    assert endpoint.ids == ["a"]


@pytest.mark.parametrize(
    "resource",
    [
        subscription(""),
        subscription("Observation?colour=red"),
        subscription(endpoint="mailto:someone"),
    ],
)
def test_a_subscription_that_cannot_be_served_is_refused(resource: dict[str, Any]) -> None:
    with pytest.raises(Refusal):
        read_subscriber(resource, "s")


def test_a_subscription_is_active_once_it_is_taken(ehr) -> None:
    written = ehr.ask("POST", "/fhir/Subscription", json=subscription() | {"status": "requested"})

    assert written.json()["status"] == "active"
