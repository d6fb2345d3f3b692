"""The sandbox EHR as a process of its own."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from adapters.sandbox.ward import ward

pytestmark = pytest.mark.integration

HEADERS = {"Authorization": "Bearer of-the-file"}
PATIENT = {"resourceType": "Patient", "id": "a", "gender": "female"}


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Run the EHR on a free port until the block ends, then kill it as a crash would."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    token = folder / "token"
    token.write_text("of-the-file\n")
    command = [sys.executable, "-m", "adapters.sandbox", "--port", str(port)]
    command += ["--token-file", str(token), "--journal", str(folder / "ehr.ndjson")]
    faults = folder / "faults.json"
    faults.write_text(json.dumps({"no_batch": True}))
    command += ["--faults", str(faults)]
    with subprocess.Popen(command) as process:
        try:
            base_url = f"http://127.0.0.1:{port}/fhir"
            _wait_for(f"{base_url}/metadata")
            yield base_url
        finally:
            process.kill()


def _wait_for(url: str) -> None:
    give_up_at = time.monotonic() + 20
    while time.monotonic() < give_up_at:
        try:
            httpx.get(url).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    pytest.fail("the sandbox EHR did not start")


def test_a_killed_ehr_starts_again_with_all_that_it_answered_for(tmp_path: Path) -> None:
    with running(tmp_path) as base_url:
        for gender in ("female", "male"):
            written = httpx.put(
                f"{base_url}/Patient/a", json=PATIENT | {"gender": gender}, headers=HEADERS
            )
            written.raise_for_status()

    with running(tmp_path) as base_url:
        now = httpx.get(f"{base_url}/Patient/a", headers=HEADERS).json()
        before = httpx.get(f"{base_url}/Patient/a/_history/1", headers=HEADERS).json()
        faults = httpx.get(base_url.replace("/fhir", "/sandbox/faults"), headers=HEADERS).json()

    assert (now["gender"], before["gender"]) == ("male", "female")
    assert now["meta"]["versionId"] == "2"
    assert faults["no_batch"]


def test_what_is_written_is_pushed_to_a_subscriber_over_a_restart(tmp_path: Path) -> None:
    folders = [tmp_path / "ehr", tmp_path / "subscriber"]
    for folder in folders:
        folder.mkdir()
    timeline = ward(3, seed=1).timeline
    with running(folders[1]) as endpoint:
        with running(folders[0]) as base_url:
            subscription = _subscription("Observation?", endpoint)
            httpx.post(f"{base_url}/Subscription", json=subscription, headers=HEADERS)
        with running(folders[0]) as base_url:
            for event in timeline:
                kind, resource_id = event.resource["resourceType"], event.resource["id"]
                url = f"{base_url}/{kind}/{resource_id}"
                httpx.put(url, json=event.resource, headers=HEADERS).raise_for_status()

            pushed = _eventually_sent(base_url, sum(e.kind in ("vital", "lab") for e in timeline))

        found = httpx.get(f"{endpoint}/Observation?_count=100", headers=HEADERS).json()["total"]

    assert found == pushed


def _subscription(criteria: str, endpoint: str) -> dict[str, object]:
    channel = {
        "type": "rest-hook",
        "endpoint": endpoint,
        "payload": "application/fhir+json",
        "header": [f"Authorization: {HEADERS['Authorization']}"],
    }
    head = {"resourceType": "Subscription", "status": "requested", "reason": "test"}
    return head | {"criteria": criteria, "channel": channel}


def _eventually_sent(base_url: str, expected: int) -> int:
    stats_url = base_url.replace("/fhir", "/sandbox/stats")
    give_up_at = time.monotonic() + 20
    while time.monotonic() < give_up_at:
        pushes = httpx.get(stats_url, headers=HEADERS).json()["pushes"]
        if pushes.get("sent") == expected:
            return expected
        time.sleep(0.05)
    pytest.fail(f"not everything was pushed: {pushes}")
