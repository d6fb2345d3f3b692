"""The EHR's side: pushes requests, and reads back what arrived and when."""

import http.client
import itertools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from benchmarks.systems import Endpoint
from benchmarks.workload import Post

_PAGE_SIZE = 1000
_ACCEPTED = 202
_PATIENCE_S = 120.0
_LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class Pushed:
    """What became of some requests.

    Attributes:
        began: When the first was due, seconds since the epoch.
        ended: When the last was answered.
        due: Id to when it was to be sent.
        refused: Ids that were not answered 202.
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
    due = itertools.repeat(None)
    return _push(endpoint, zip(due, posts, strict=False), clients=clients)


def push_at(endpoint: Endpoint, posts: Sequence[Post], *, rate: float, clients: int) -> Pushed:
    """Push at a fixed rate, whether or not earlier requests were answered.

    Args:
        endpoint: Whom.
        posts: What.
        rate: Requests per second.
        clients: Most requests under way at once; enough that none has to wait.
    """
    began = time.time() + 0.1
    due = (began + number / rate for number in range(len(posts)))
    return _push(endpoint, zip(due, posts, strict=True), clients=clients)


def _push(
    endpoint: Endpoint, schedule: Iterator[tuple[float | None, Post]], *, clients: int
) -> Pushed:
    began, lock = time.time(), threading.Lock()
    answers: list[tuple[str, float, float, bool]] = []

    def client() -> None:
        connection = endpoint.connect()
        while True:
            with lock:
                due, post = next(schedule, (None, None))
            if post is None:
                return
            if due is not None:
                time.sleep(max(due - time.time(), 0))
            start = due or time.time()
            is_accepted = _send(connection, endpoint, post)
            answers.append((post.id, start, time.time(), is_accepted))

    with ThreadPoolExecutor(clients) as pool:
        for running in [pool.submit(client) for _ in range(clients)]:
            running.result()
    return Pushed(
        began=min((start for _, start, _, _ in answers), default=began),
        ended=max((end for _, _, end, _ in answers), default=began),
        due={key: start for key, start, _, _ in answers},
        refused=tuple(key for key, _, _, is_accepted in answers if not is_accepted),
        answer_ms=tuple((end - start) * 1000 for _, start, end, _ in answers),
    )


def _send(connection: http.client.HTTPConnection, endpoint: Endpoint, post: Post) -> bool:
    connection.request("POST", post.path, post.body, endpoint.headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status == _ACCEPTED


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
