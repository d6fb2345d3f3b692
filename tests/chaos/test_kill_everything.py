"""Events flow while every process is killed in turn: nothing acknowledged is lost or doubled.

The short run is part of `make test`; `make chaos` runs the long one (NADI_CHAOS_EVENTS=2000).
"""

import itertools
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from adapters.sandbox.ward import Ward, WardEvent, ward
from tests.running import ROLES, RunningNadi, push, running_nadi

EVENTS = int(os.environ.get("NADI_CHAOS_EVENTS", "240"))
KILL_EVERY_S = 2.0
EVENTS_PER_PATIENT = 8
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]


def test_nothing_is_lost_or_doubled_while_every_process_is_killed_in_turn(tmp_path: Path) -> None:
    people = ward(EVENTS // EVENTS_PER_PATIENT, seed=23)
    with running_nadi(tmp_path / "data", environment={"NADI_LEASE_S": "10"}) as nadi:
        started = time.monotonic()
        with _killing_in_turn(nadi) as killed:
            tasks = _push_all(nadi, people)
        pushed_s = time.monotonic() - started
        nadi.settle(180)
        settled_s = time.monotonic() - started

        jobs = nadi.jobs()
        results = nadi.results()

        print(  # noqa: T201
            f"{len(people.timeline)} events, {len(killed)} kills of {len(set(killed))} roles: "
            f"{len(set(tasks))} accepted after {pushed_s:.0f} s, {len(results)} delivered of "
            f"{sum(people.expected_results.values())}, {nadi.duplicates()} duplicates, "
            f"settled after {settled_s:.0f} s"
        )
        assert len(set(tasks)) == len(people.timeline), "each event has a Task of its own"
        (kept,) = nadi.rows("select count(*) as number from events")
        assert kept["number"] == len(people.timeline), "every acknowledged event is there, once"
        delivered = [job for job in jobs if job["state"] == "completed"]
        assert len(delivered) == len(results) == sum(people.expected_results.values())
        assert _per_patient(results) == {k: n for k, n in people.expected_results.items() if n}
        assert nadi.duplicates() == 0
        verified = nadi.nadi("audit", "verify", check=False)
        assert verified.returncode == 0, verified.stdout + verified.stderr


@contextmanager
def _killing_in_turn(nadi: RunningNadi) -> Iterator[list[str]]:
    """Kill one role after the other until the block ends, and each at least once.

    Gives the roles that were killed.
    """
    stop, killed = threading.Event(), []

    def kill() -> None:
        for role in itertools.cycle(ROLES):
            if stop.wait(KILL_EVERY_S):
                if set(killed) == set(ROLES):
                    return
                time.sleep(KILL_EVERY_S)
            if nadi.pids(role):
                nadi.kill(role)
                killed.append(role)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        stop.set()
        killer.join()


def _push_all(nadi: RunningNadi, people: Ward) -> list[str]:
    """Push the timeline patient by patient, four patients at a time, slow enough to be hit."""
    by_patient: dict[str, list[WardEvent]] = {}
    for event in people.timeline:
        by_patient.setdefault(event.patient_id, []).append(event)

    def push_patient(events: list[WardEvent]) -> list[str]:
        with nadi.client() as client:
            return [_push_slowly(client, event) for event in events]

    with ThreadPoolExecutor(4) as pool:
        return [task for tasks in pool.map(push_patient, by_patient.values()) for task in tasks]


def _push_slowly(client: httpx.Client, event: WardEvent) -> str:
    threading.Event().wait(0.05)
    return push(client, event.resource)


def _per_patient(results: list[dict[str, object]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for result in results:
        patient = str(result["subject"]["reference"]).removeprefix("Patient/")  # type: ignore[index]
        counts[patient] = counts.get(patient, 0) + 1
    return counts
