"""Events flow while every process is killed in turn: nothing acknowledged is lost or doubled.

The short run is part of `make test`; `make chaos` runs the long one (NADI_CHAOS_EVENTS=2000).
"""

import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from adapters.sandbox.ward import Ward, WardEvent, ward
from tests.running import ROLES, RunningNadi, push, running_nadi, wait_until

EVENTS = int(os.environ.get("NADI_CHAOS_EVENTS", "240"))
KILL_EVERY_S = 2.0
EVENTS_PER_PATIENT = 8
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]


def test_nothing_is_lost_or_doubled_while_every_process_is_killed_in_turn(tmp_path: Path) -> None:
    people = ward(EVENTS // EVENTS_PER_PATIENT, seed=23)
    with running_nadi(tmp_path / "data", environment={"NADI_LEASE_S": "10"}) as nadi:
        stop = threading.Event()
        killer = threading.Thread(target=_kill_in_turn, args=(nadi, stop))
        killer.start()
        try:
            tasks = _push_all(nadi, people)
        finally:
            stop.set()
            killer.join()
        wait_until(nadi.is_settled, within_s=180, what="every job is finished")

        jobs = nadi.jobs()
        results = nadi.results()

        assert len(set(tasks)) == len(people.timeline), "each event has a Task of its own"
        delivered = [job for job in jobs if job["state"] == "completed"]
        assert len(delivered) == len(results) == sum(people.expected_results.values())
        assert _per_patient(results) == {k: n for k, n in people.expected_results.items() if n}
        assert nadi.duplicates() == 0
        verified = nadi.nadi("audit", "verify", check=False)
        assert verified.returncode == 0, verified.stdout + verified.stderr


def _kill_in_turn(nadi: RunningNadi, stop: threading.Event) -> None:
    for role in itertools.cycle(ROLES):
        if stop.wait(KILL_EVERY_S):
            return
        nadi.kill(role)


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
