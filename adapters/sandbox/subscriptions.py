"""Rest-hook Subscriptions: this EHR pushes what was written to whoever subscribed.

* With a payload type, `PUT {endpoint}/{Type}/{id}` with the resource, as HAPI does; without one,
  an empty `POST {endpoint}`.
* Pushes about one patient stay in order; patients are spread over a few lanes.
* A push that fails is tried again for about a minute and then dropped, as HAPI does (its issue
  6002): a receiver has to catch up by itself.

Source: FHIR R4 Subscription (http://hl7.org/fhir/R4/subscription.html).
"""

import asyncio
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson

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
_SUCCESS = range(200, 300)
_SERVER_ERROR = 500
_RETRIED = frozenset({401, 403, 404, 408, 425, 429})


@dataclass(frozen=True)
class Subscriber:
    """An active rest-hook Subscription, read once.

    Attributes:
        query: What a resource has to match.
        has_payload: Push the resource itself, not only the news that there is one.
    """

    id: str
    query: Query
    endpoint: str
    headers: tuple[tuple[str, str], ...]
    has_payload: bool


@dataclass(frozen=True)
class _Push:
    subscriber: Subscriber
    record: Record


def read_subscriber(resource: Resource, resource_id: str) -> Subscriber | None:
    """Read a Subscription; None when it is not one to push for.

    Raises:
        Refusal: Its criteria or channel can't be understood (422).
    """
    channel = resource.get("channel", {})
    if resource.get("status") not in {"requested", "active"} or channel.get("type") != "rest-hook":
        return None
    resource_type, _, condition = str(resource.get("criteria", "")).partition("?")
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
    )


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
        self._knobs = knobs
        self._give_up_after_s = give_up_after_s
        self._make_courier = make_courier
        self._subscribers: dict[str, Subscriber] = {}
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

    async def close(self) -> None:
        """Stop; what is still queued is lost, as it is in the EHRs this one stands for."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _register(self, record: Record) -> None:
        self._subscribers.pop(record.id, None)
        if not record.is_deleted:
            found = read_subscriber(orjson.loads(record.body), record.id)
            if found is not None:
                self._subscribers[record.id] = found

    def _queue(self, record: Record) -> None:
        for subscriber in self._subscribers.values():
            query = subscriber.query
            is_wanted = query.resource_type == record.resource_type
            if is_wanted and all(matches(record) for matches in query.matches):
                self._lane_of(record).put_nowait(_Push(subscriber, record))
                self.counts["queued"] += 1

    def _lane_of(self, record: Record) -> asyncio.Queue[_Push]:
        if not self._lanes:
            self._lanes = [asyncio.Queue() for _ in range(_LANES)]
            self._tasks = [asyncio.create_task(self._drive(lane)) for lane in self._lanes]
        patients = [code for name, _, code in record.keys.tokens if name == "patient"]
        key = patients[0] if patients else record.reference
        return self._lanes[zlib.crc32(key.encode()) % _LANES]

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
        if self._knobs.strikes(faults.push_loss_rate):
            self.counts["lost"] += 1
            return
        await self._send_until_taken(courier, push)
        if self._knobs.strikes(faults.duplicate_rate):
            self.counts["duplicated"] += 1
            await self._send_until_taken(courier, push)

    async def _send_until_taken(self, courier: Courier, push: _Push) -> None:
        """Try until the endpoint takes it, the Subscription ends or the time is up."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._give_up_after_s
        delay_s = _FIRST_DELAY_S
        while push.subscriber.id in self._subscribers:
            verdict = _verdict(await _send(courier, push))
            if verdict != "retried" or loop.time() + delay_s > give_up_at:
                self.counts["dropped" if verdict == "retried" else verdict] += 1
                return
            self.counts["retried"] += 1
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, _LONGEST_DELAY_S)


async def _send(courier: Courier, push: _Push) -> int | None:
    """Send a push once."""
    subscriber, record = push.subscriber, push.record
    headers = dict(subscriber.headers)
    if not subscriber.has_payload:
        return await courier.send("POST", subscriber.endpoint, headers=headers, body=b"")
    headers["Content-Type"] = FHIR_JSON
    url = f"{subscriber.endpoint}/{record.reference}"
    return await courier.send("PUT", url, headers=headers, body=record.body)


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
