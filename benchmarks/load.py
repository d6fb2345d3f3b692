"""The EHR's side: pushes requests, and reads back what arrived and when."""

import asyncio
import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import uvloop

from benchmarks.endpoint import Endpoint
from benchmarks.http import Pool, post_request
from benchmarks.workload import Post

_PAGE_SIZE = 1000
_PATIENCE_S = 120.0
_LOOK_EVERY_S = 0.1
_HEAD_START_S = 0.1


@dataclass(frozen=True)
class Pushed:
    """What became of some requests.

    Attributes:
        began: When the first was due, seconds since the epoch.
        ended: When the last was answered.
        due: Id to when it was to be sent.
        refused: Ids that were not accepted.
        answer_ms: How long each answer took, from when it was due.
    """

    began: float
    ended: float
    due: Mapping[str, float]
    refused: tuple[str, ...]
    answer_ms: tuple[float, ...]


@dataclass(frozen=True)
class Stored:
    """A result in the EHR."""

    trigger_id: str
    at: float
    probability: float


def push_all(endpoint: Endpoint, posts: Sequence[Post], *, clients: int) -> Pushed:
    """Push as fast as the answers come.

    Args:
        endpoint: Whom.
        posts: What; its order holds roughly, since the clients run side by side.
        clients: How many requests are under way at once.
    """
    return uvloop.run(_push_all(endpoint, posts, clients))


def push_at(endpoint: Endpoint, posts: Sequence[Post], *, rate: float) -> Pushed:
    """Push at a fixed rate, whether or not earlier requests were answered.

    Args:
        endpoint: Whom.
        posts: What.
        rate: Requests per second.
    """
    return uvloop.run(_push_at(endpoint, posts, rate))


_Answer = tuple[str, float, float, bool]


async def _push_all(endpoint: Endpoint, posts: Sequence[Post], clients: int) -> Pushed:
    pool, waiting = Pool(endpoint), iter(posts)

    async def client() -> list[_Answer]:
        return [await _send(pool, endpoint, post, time.time()) for post in waiting]

    answers = await asyncio.gather(*(client() for _ in range(clients)))
    pool.close()
    return _pushed(itertools.chain.from_iterable(answers))


async def _push_at(endpoint: Endpoint, posts: Sequence[Post], rate: float) -> Pushed:
    pool, began = Pool(endpoint), time.time() + _HEAD_START_S
    sending = []
    for number, post in enumerate(posts):
        due = began + number / rate
        await asyncio.sleep(max(due - time.time(), 0))
        sending.append(asyncio.create_task(_send(pool, endpoint, post, due)))
    answers = await asyncio.gather(*sending)
    pool.close()
    return _pushed(answers)


async def _send(pool: Pool, endpoint: Endpoint, post: Post, due: float) -> _Answer:
    try:
        status = await pool.send(post_request(endpoint, post.path, post.body))
    except (OSError, TimeoutError):  # nobody answered: not accepted, as far as is known
        status = 0
    return post.id, due, time.time(), status == endpoint.accepts


def _pushed(answers: Iterable[_Answer]) -> Pushed:
    told, now = list(answers), time.time()
    return Pushed(
        began=min((start for _, start, _, _ in told), default=now),
        ended=max((end for _, _, end, _ in told), default=now),
        due={key: start for key, start, _, _ in told},
        refused=tuple(key for key, _, _, is_accepted in told if not is_accepted),
        answer_ms=tuple((end - start) * 1000 for _, start, end, _ in told),
    )


def await_results(ehr: Endpoint, count: int) -> bool:
    """Wait until the EHR has so many Observations; False when they don't come."""
    limit = time.monotonic() + _PATIENCE_S
    while time.monotonic() < limit:
        stats = _get(ehr, "/sandbox/stats")
        if stats["resources"].get("Observation", 0) >= count:
            return True
        time.sleep(_LOOK_EVERY_S)
    return False


def results(ehr: Endpoint) -> list[Stored]:
    """Read every result back from the EHR, by its own clock, which is this machine's."""
    found: list[Stored] = []
    path = f"/fhir/Observation?_count={_PAGE_SIZE}"
    while path:
        bundle = _get(ehr, path)
        found.extend(_stored(entry["resource"]) for entry in bundle.get("entry", ()))
        following = [each["url"] for each in bundle["link"] if each["relation"] == "next"]
        path = "/fhir" + following[0].partition("/fhir")[2] if following else ""
    return found


def _stored(resource: Mapping[str, Any]) -> Stored:
    sources = [each["reference"].split("/")[1] for each in resource["derivedFrom"]]
    return Stored(
        trigger_id=next(source for source in sources if source.rpartition("-")[2][0] == "t"),
        at=datetime.fromisoformat(resource["meta"]["lastUpdated"]).timestamp(),
        probability=float(resource["valueQuantity"]["value"]),
    )


def _get(endpoint: Endpoint, path: str) -> dict[str, Any]:
    connection = endpoint.connect()
    try:
        connection.request("GET", path)
        found: dict[str, Any] = orjson.loads(connection.getresponse().read())
        return found
    finally:
        connection.close()
