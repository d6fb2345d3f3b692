"""Rest-hook Subscriptions: this EHR pushes what was written to whoever subscribed.

* With a payload type, `PUT {endpoint}/{Type}/{id}` with the resource, as HAPI does; without one,
  an empty `POST {endpoint}`. With the knob `posts_pushes`, `POST {endpoint}` with the resource, as
  Medplum does; a Subscription whose supported interaction is `delete` is then told of deletions
  only, by an empty POST whose header names what was deleted.
* Pushes about one patient stay in order; patients are spread over a few lanes.
* A push that fails is tried again for about a minute and then dropped, as HAPI does (its issue
  6002): a receiver has to catch up by itself.
* A topic-based Subscription (`adapters.sandbox.backport`) is shaken hands with before it is
  active, is sent heartbeats, and is in error when a push could not be sent; its events are counted
  all the while.

Source: FHIR R4 Subscription (http://hl7.org/fhir/R4/subscription.html).
"""

import asyncio
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

from adapters.sandbox.backport import EventCount, Topic, read_topic
from adapters.sandbox.courier import Courier, HttpCourier
from adapters.sandbox.faults import FaultKnobs
from adapters.sandbox.keys import Resource
from adapters.sandbox.refusal import FHIR_JSON, Refusal
from adapters.sandbox.search import Query, parse_pairs, parse_query
from adapters.sandbox.store import Record, Store

_LANES = 4
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 5.0
_REORDER_WAIT_S = 0.5
_BEAT_EVERY_S = 0.25
_REQUESTED, _ACTIVE = "requested", "active"
_TOLD = frozenset({_REQUESTED, _ACTIVE})
_SUCCESS = range(200, 300)
_SERVER_ERROR = 500
_INTERACTION = "https://medplum.com/fhir/StructureDefinition/subscription-supported-interaction"
_DELETED = "X-Medplum-Deleted-Resource"
_RETRIED = frozenset({401, 403, 404, 408, 425, 429})


@dataclass(frozen=True)
class Subscriber:
    """A rest-hook Subscription, read once.

    Attributes:
        query: What a resource has to match.
        has_payload: Push the resource itself, not only the news that there is one.
        status: `requested` or `active`; of a topic-based one also `error` or `off`.
        topic: How a topic-based one wants to be told.
        interaction: Of which alone it is told: `create`, `update`, `delete`; empty: of writes.
    """

    id: str
    query: Query
    endpoint: str
    headers: tuple[tuple[str, str], ...]
    has_payload: bool
    status: str
    topic: Topic | None = None
    interaction: str = ""

    @property
    def is_told(self) -> bool:
        """Whether events are sent to it."""
        return self.status in _TOLD


@dataclass(frozen=True)
class _Push:
    """One request to a subscriber; `kind` is `event`, `handshake` or `heartbeat`."""

    subscriber: Subscriber
    kind: str
    method: str
    url: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def read_subscriber(resource: Resource, resource_id: str) -> Subscriber | None:
    """Read a Subscription; None when it is not one to push for.

    Raises:
        Refusal: Its criteria or channel can't be understood (422).
    """
    channel, status = resource.get("channel", {}), str(resource.get("status"))
    topic = read_topic(resource)
    if channel.get("type") != "rest-hook" or (status not in _TOLD and topic is None):
        return None
    criteria = topic.filter if topic else str(resource.get("criteria", ""))
    resource_type, _, condition = criteria.partition("?")
    endpoint = str(channel.get("endpoint", "")).rstrip("/")
    if not resource_type or not endpoint.startswith(("http://", "https://")):
        raise Refusal(422, "value", "The Subscription needs criteria and an HTTP endpoint.")
    headers = (str(line).partition(":") for line in channel.get("header", ()))
    return Subscriber(
        id=resource_id,
        query=parse_query(resource_type, parse_pairs(condition)),
        endpoint=endpoint,
        headers=tuple((name.strip(), value.strip()) for name, _, value in headers),
        has_payload="payload" in channel,
        status=status,
        topic=topic,
        interaction=_interaction(resource),
    )


def _interaction(resource: Resource) -> str:
    """Give the one interaction that a Subscription of Medplum is about."""
    told = [each for each in resource.get("extension", ()) if each.get("url") == _INTERACTION]
    return str(told[0].get("valueCode", "")) if told else ""


class Pusher:
    """Sends what was written to every Subscription that matches it."""

    def __init__(
        self,
        store: Store,
        knobs: FaultKnobs,
        *,
        give_up_after_s: float = 60.0,
        make_courier: Callable[[], Courier] = HttpCourier,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.base_url = "http://localhost/fhir"
        self._store = store
        self._knobs = knobs
        self._give_up_after_s = give_up_after_s
        self._make_courier = make_courier
        self._subscribers: dict[str, Subscriber] = {}
        self._events: dict[str, EventCount] = {}
        self._told_at: dict[str, float] = {}
        self._lanes: list[asyncio.Queue[_Push]] = []
        self._tasks: list[asyncio.Task[None]] = []
        for record in store.newest_first("Subscription"):
            self._register(record)
        store.listen(self.notice)

    def notice(self, written: Sequence[Record]) -> None:
        """Queue the pushes for what a transaction wrote."""
        for record in written:
            if record.resource_type == "Subscription":
                self._register(record)
            elif not record.is_deleted:
                self._queue(record)
            elif self._knobs.current.posts_pushes:
                self._queue_deletion(record)

    async def close(self) -> None:
        """Stop; what is still queued is lost, as it is in the EHRs this one stands for."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def topic_of(self, subscription_id: str) -> tuple[EventCount, str]:
        """Give the count of a topic-based Subscription, and its status.

        Raises:
            Refusal: There is no such Subscription, or it is not topic-based (404).
        """
        subscriber = self._subscribers.get(subscription_id)
        if subscriber is None or subscriber.topic is None:
            raise Refusal(404, "not-found", "No such topic-based Subscription.")
        return self._events[subscription_id], subscriber.status

    def _register(self, record: Record) -> None:
        self._subscribers.pop(record.id, None)
        found = None
        if not record.is_deleted:
            found = read_subscriber(orjson.loads(record.body), record.id)
        if found is None:
            self._events.pop(record.id, None)
            return
        self._subscribers[record.id] = found
        if found.topic is not None:
            self._events.setdefault(record.id, EventCount(found.topic, record.id))
            if found.status == _REQUESTED:
                self._tell(found, "handshake")

    def _queue(self, record: Record) -> None:
        for subscriber in self._subscribers.values():
            query = subscriber.query
            is_wanted = query.resource_type == record.resource_type
            if is_wanted and all(matches(record) for matches in query.matches):
                self._queue_for(subscriber, record)

    def _queue_deletion(self, record: Record) -> None:
        """Tell of a deletion, as Medplum does: of which resource, and nothing of it."""
        for each in self._subscribers.values():
            is_wanted = each.query.resource_type == record.resource_type
            if is_wanted and each.interaction == "delete":
                named = ((_DELETED, record.reference),)
                push = _Push(each, "event", "POST", each.endpoint, b"{}", named)
                self._lane(record.reference).put_nowait(push)
                self.counts["queued"] += 1

    def _queue_for(self, subscriber: Subscriber, record: Record) -> None:
        if subscriber.topic is not None:
            number = self._events[subscriber.id].add(record)
            if subscriber.is_told:
                self._tell(subscriber, "event-notification", number)
            return
        is_posted = self._knobs.current.posts_pushes
        if is_posted and subscriber.interaction not in {"", _interaction_of(record)}:
            return
        method, url, body = "POST", subscriber.endpoint, record.body if is_posted else b""
        if subscriber.has_payload and not is_posted:
            method, url, body = "PUT", f"{subscriber.endpoint}/{record.reference}", record.body
        patients = [code for name, _, code in record.keys.tokens if name == "patient"]
        lane = self._lane(patients[0] if patients else record.reference)
        lane.put_nowait(_Push(subscriber, "event", method, url, body))
        self.counts["queued"] += 1

    def _tell(self, subscriber: Subscriber, kind: str, *numbers: int) -> None:
        """Queue a notification of a topic-based Subscription."""
        body = self._events[subscriber.id].notification(
            kind, subscriber.status, self.base_url, numbers=numbers
        )
        kind = "event" if numbers else kind
        self._lane(subscriber.id).put_nowait(
            _Push(subscriber, kind, "POST", subscriber.endpoint, body)
        )
        self.counts["queued"] += 1

    def _lane(self, key: str) -> asyncio.Queue[_Push]:
        if not self._lanes:
            self._lanes = [asyncio.Queue() for _ in range(_LANES)]
            self._tasks = [asyncio.create_task(self._drive(lane)) for lane in self._lanes]
            self._tasks.append(asyncio.create_task(self._beat()))
        return self._lanes[zlib.crc32(key.encode()) % _LANES]

    async def _beat(self) -> None:
        """Send heartbeats to whoever was told nothing for their period."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_BEAT_EVERY_S)
            for each in [*self._subscribers.values()]:
                period_s = each.topic.heartbeat_s if each.topic else None
                told_at = self._told_at.setdefault(each.id, loop.time())
                if period_s and each.status == _ACTIVE and loop.time() - told_at >= period_s:
                    self._told_at[each.id] = loop.time()
                    self._tell(each, "heartbeat")

    async def _drive(self, lane: asyncio.Queue[_Push]) -> None:
        """Send the pushes of one lane, in order unless a fault says otherwise."""
        courier = self._make_courier()
        try:
            while True:
                push = await lane.get()
                if self._knobs.strikes(self._knobs.current.reorder_rate):
                    overtaking = await _next_within(lane, _REORDER_WAIT_S)
                    if overtaking is not None:
                        self.counts["reordered"] += 1
                        await self._deliver(courier, overtaking)
                await self._deliver(courier, push)
        finally:
            courier.close()

    async def _deliver(self, courier: Courier, push: _Push) -> None:
        faults = self._knobs.current
        if push.kind == "event":
            self.counts["offered"] += 1
        is_nth = faults.lose_every and self.counts["offered"] % faults.lose_every == 0
        is_lost = self._knobs.strikes(faults.push_loss_rate) or (is_nth and push.kind == "event")
        if is_lost:
            self.counts["lost"] += 1
            return
        await self._send_until_taken(courier, push)
        if self._knobs.strikes(faults.duplicate_rate):
            for _ in range(faults.push_copies - 1):
                self.counts["duplicated"] += 1
                await self._send_until_taken(courier, push)

    async def _send_until_taken(self, courier: Courier, push: _Push) -> None:
        """Try until the endpoint takes it, the Subscription ends or the time is up."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._give_up_after_s
        delay_s = _FIRST_DELAY_S
        while self._is_told(push.subscriber):
            verdict = _verdict(await _send(courier, push))
            if verdict != "retried" or loop.time() + delay_s > give_up_at:
                self.counts["dropped" if verdict == "retried" else verdict] += 1
                self._told_at[push.subscriber.id] = loop.time()
                self._judge(push, verdict)
                return
            self.counts["retried"] += 1
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _LONGEST_DELAY_S)

    def _is_told(self, subscriber: Subscriber) -> bool:
        now = self._subscribers.get(subscriber.id)
        return now is not None and now.is_told

    def _judge(self, push: _Push, verdict: str) -> None:
        """Let a topic-based Subscription begin after its handshake, or be in error."""
        if push.subscriber.topic is None:
            return
        if verdict != "sent":
            self._set_status(push.subscriber.id, "error")
        elif push.kind == "handshake":
            self._set_status(push.subscriber.id, _ACTIVE)

    def _set_status(self, subscription_id: str, status: str) -> None:
        record = self._store.current("Subscription", subscription_id)
        if record is not None and not record.is_deleted:
            resource = orjson.loads(record.body)
            self._store.put({**resource, "status": status}, subscription_id)


async def _send(courier: Courier, push: _Push) -> int | None:
    """Send a push once."""
    headers = dict(push.subscriber.headers) | dict(push.headers)
    if push.body:
        headers["Content-Type"] = FHIR_JSON
    return await courier.send(push.method, push.url, headers=headers, body=push.body)


def _interaction_of(record: Record) -> str:
    return "create" if record.version == 1 else "update"


def _verdict(status: int | None) -> str:
    """Say what becomes of a push by the answer to it: sent, refused or retried."""
    if status is None or status >= _SERVER_ERROR or status in _RETRIED:
        return "retried"
    return "sent" if status in _SUCCESS else "refused"


async def _next_within(lane: asyncio.Queue[_Push], wait_s: float) -> _Push | None:
    try:
        return await asyncio.wait_for(lane.get(), wait_s)
    except TimeoutError:
        return None
