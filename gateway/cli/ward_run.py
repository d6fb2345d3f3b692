"""Play a ward: what an EHR does when its patients come in, and what comes back of it.

The stand-in EHR gets patients and clinical resources first (it is their home), then every event of
the timeline is pushed to Nadi as that EHR would: in the order of each patient, several patients at
once, and again after a while when Nadi is busy or away. What comes of it is read where it counts:
jobs from Nadi, results from the EHR.
"""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import Any, Protocol

import httpx
import orjson

from adapters.sandbox.ward import Ward, WardEvent

RESULT_SYSTEM = "https://nadi.health/fhir/sid/result"
FHIR_JSON = "application/fhir+json"

_AT_ONCE = 16
_SEED_BATCH = 100
_PAGE = 1000
_LONGEST_PAUSE_S = 5.0
_BUSY = frozenset({429, 502, 503, 504})
_OPEN_STATES = frozenset({"requested", "ready", "in-progress"})


@dataclass(frozen=True)
class JobView:
    """One job as the play sees it."""

    event_id: str
    state: str
    business_status: str


class JobReader(Protocol):
    """Where the play reads the jobs of its events: the database, or Nadi's API."""

    async def read(self, event_ids: Sequence[str]) -> list[JobView]:
        """Give the jobs that these events caused."""


@dataclass
class Tally:
    """What has happened so far; the view shows it."""

    planned: int
    sent: int = 0
    accepted: int = 0
    repeated: int = 0
    refused_at_door: Counter[str] = field(default_factory=Counter)
    jobs: list[JobView] = field(default_factory=list)
    results: dict[str, str] = field(default_factory=dict)
    latencies_s: list[float] = field(default_factory=list)
    duplicates: int = 0
    started: float = field(default_factory=time.monotonic)
    trigger_events: dict[str, str] = field(default_factory=dict)
    is_pushed: bool = False
    is_ehr_away: bool = False

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first push."""
        return time.monotonic() - self.started

    @property
    def open_jobs(self) -> int:
        """Count the jobs that are not finished."""
        return sum(job.state in _OPEN_STATES for job in self.jobs)

    @property
    def states(self) -> Counter[str]:
        """Count the jobs by state."""
        return Counter(job.state for job in self.jobs)

    @property
    def refusals(self) -> Counter[str]:
        """Count the jobs that ended without a result, by reason."""
        ended = ("rejected", "cancelled", "failed")
        return Counter(job.business_status for job in self.jobs if job.state in ended)

    @property
    def p50_s(self) -> float | None:
        """Median seconds from push to the stored Observation."""
        return median(self.latencies_s) if self.latencies_s else None


class WardPlay:
    """One play of one ward."""

    def __init__(
        self, ward: Ward, nadi: httpx.AsyncClient, ehr: httpx.AsyncClient, jobs: JobReader
    ) -> None:
        self.ward = ward
        self.tally = Tally(planned=len(ward.timeline))
        self._nadi = nadi
        self._ehr = ehr
        self._jobs = jobs
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._pushed_at: dict[str, float] = {}
        self._before: frozenset[str] = frozenset()
        self._duplicates_before = 0

    async def prepare(self) -> None:
        """Give the EHR its patients and their records, and remember what it held before.

        Raises:
            httpx.HTTPError: The EHR is not there, or does not take them.
        """
        self._before = frozenset([each["id"] for each in await self._results()])
        self._duplicates_before = await self._count_duplicates()
        first = [each.resource for each in self.ward.timeline if each.kind != "revocation"]
        for start in range(0, len(first), _SEED_BATCH):
            batch = [_put(resource) for resource in first[start : start + _SEED_BATCH]]
            bundle = {"resourceType": "Bundle", "type": "transaction", "entry": batch}
            answer = await self._ehr.post("", content=orjson.dumps(bundle))
            answer.raise_for_status()

    async def push(self, rate: float) -> None:
        """Push the timeline at a steady rate, in events per second."""
        self.tally.started = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for index, event in enumerate(self.ward.timeline):
                due = self.tally.started + index / rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(self._push_in_turn(event))
        self.tally.is_pushed = True

    async def look(self) -> None:
        """Read once what has come of it; an EHR that is away is looked at again later."""
        self.tally.jobs = await self._jobs.read(list(self.tally.trigger_events))
        try:
            for result in await self._results():
                if result["id"] not in self._before and result["id"] not in self.tally.results:
                    self._take(result)
            self.tally.duplicates = await self._count_duplicates() - self._duplicates_before
        except httpx.HTTPError:
            self.tally.is_ehr_away = True
        else:
            self.tally.is_ehr_away = False

    @property
    def is_settled(self) -> bool:
        """Whether every event is pushed and every job has ended."""
        has_jobs = len(self.tally.jobs) >= len(self.tally.trigger_events)
        return self.tally.is_pushed and has_jobs and not self.tally.open_jobs

    @property
    def is_done(self) -> bool:
        """Whether all has ended and every expected result is there."""
        wanted = sum(self.ward.expected_results.values())
        return self.is_settled and len(self.tally.results) >= wanted

    async def _push_in_turn(self, event: WardEvent) -> None:
        # asyncio.Lock is fair: a patient's events keep their order.
        async with self._locks[event.patient_id], self._slots:
            if event.kind == "revocation":
                await self._store_at_home(event)
            await self._push(event)

    async def _store_at_home(self, event: WardEvent) -> None:
        body, path = orjson.dumps(event.resource), _path(event.resource)
        await self._persist(lambda: self._ehr.put(path, content=body))

    async def _push(self, event: WardEvent) -> None:
        """Push one event until Nadi takes or refuses it."""
        body, path = orjson.dumps(event.resource), _path(event.resource)
        self.tally.sent += 1
        self._pushed_at[path] = time.time()
        answer = await self._persist(lambda: self._nadi.put(path, content=body))
        if answer.is_success:
            self._accept(event, answer.json())
        else:
            self.tally.refused_at_door[f"HTTP {answer.status_code}"] += 1

    async def _persist(self, call: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
        """Make a request again and again until somebody answers who is not too busy."""
        pause = 0.2
        while True:
            answer = await _attempt(call)
            if answer is not None and answer.status_code not in _BUSY:
                return answer
            self.tally.repeated += 1
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _accept(self, event: WardEvent, task: dict[str, Any]) -> None:
        self.tally.accepted += 1
        if event.is_trigger:
            self.tally.trigger_events[str(task["id"])] = event.patient_id

    def _take(self, result: dict[str, Any]) -> None:
        patient = result["subject"]["reference"].removeprefix("Patient/")
        if patient not in self.ward.expectations:
            return
        self.tally.results[result["id"]] = patient
        stored = datetime.fromisoformat(result["meta"]["lastUpdated"]).timestamp()
        sources = (source.get("reference", "") for source in result.get("derivedFrom", ()))
        paths = {source.partition("/_history/")[0] for source in sources}
        pushed = [self._pushed_at[path] for path in paths if path in self._pushed_at]
        if pushed:
            self.tally.latencies_s.append(max(0.0, stored - max(pushed)))

    async def _results(self) -> list[dict[str, Any]]:
        """Give every result that the EHR holds."""
        query = {"identifier": f"{RESULT_SYSTEM}|", "_count": str(_PAGE)}
        found: list[dict[str, Any]] = []
        answer = await self._ehr.get("Observation", params=query)
        while True:
            page = answer.raise_for_status().json()
            found.extend(entry["resource"] for entry in page.get("entry", ()))
            link = next((each["url"] for each in page["link"] if each["relation"] == "next"), None)
            if link is None:
                return found
            answer = await self._ehr.get(link)

    async def _count_duplicates(self) -> int:
        root = self._ehr.base_url.join("/sandbox/stats")
        answer = (await self._ehr.get(root)).raise_for_status()
        return int(answer.json()["duplicates"].get("Observation", 0))


class ApiJobs:
    """Reads the jobs from Nadi's API: the Tasks of the events that are not finished."""

    def __init__(self, nadi: httpx.AsyncClient) -> None:
        self._nadi = nadi
        self._ended: dict[str, list[JobView]] = {}

    async def read(self, event_ids: Sequence[str]) -> list[JobView]:
        """Give the jobs that these events caused; a finished Task is asked for once."""
        for event_id in event_ids:
            if event_id not in self._ended:
                views = await self._of_event(event_id)
                if views and not any(view.state in _OPEN_STATES for view in views):
                    self._ended[event_id] = views
        return [view for views in self._ended.values() for view in views]

    async def _of_event(self, event_id: str) -> list[JobView]:
        answer = await _attempt(lambda: self._nadi.get(f"Task/{event_id}"))
        if answer is None or not answer.is_success:
            return []
        task = answer.json()
        business = task.get("businessStatus", {}).get("coding", [{}])[0].get("code", "")
        return [JobView(event_id, task["status"], business)] if task.get("output") else []


async def _attempt(call: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response | None:
    """Make one request; None when nobody answered."""
    try:
        return await call()
    except httpx.TransportError:
        return None


def unmet(play: WardPlay) -> dict[str, str]:
    """List the patients for whom something else came than was expected, with what came."""
    results = Counter(play.tally.results.values())
    reasons = _reasons(play.tally)
    found: dict[str, str] = {}
    for patient, wanted in play.ward.expected_results.items():
        expectation = play.ward.expectations[patient]
        reason = expectation.removeprefix("refused:")
        if results[patient] != wanted:
            found[patient] = f"{results[patient]} results instead of {wanted}"
        elif expectation != "result" and reasons.get(patient) != {reason}:
            said = ", ".join(sorted(reasons.get(patient, ()))) or "nothing"
            found[patient] = f"{said} instead of {reason}"
    return found


def _reasons(tally: Tally) -> dict[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for job in tally.jobs:
        found[tally.trigger_events[job.event_id]].add(job.business_status)
    return found


def patient_with_result(tally: Tally) -> str | None:
    """Name a patient whose trail is worth a look."""
    return next(iter(tally.results.values()), None)


def _put(resource: dict[str, Any]) -> dict[str, Any]:
    return {"resource": resource, "request": {"method": "PUT", "url": _path(resource)}}


def _path(resource: dict[str, Any]) -> str:
    return f"{resource['resourceType']}/{resource['id']}"
