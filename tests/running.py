"""A whole Nadi in a folder of its own, as `nadi up` runs it, for tests that need all real parts.

`RunningNadi` starts it on free ports with the stand-in EHR, gives its tokens and addresses, kills
its processes by role, and stops it. Everything it starts ends with the block.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

#: What a process's command line says of its role.
ROLES = {
    "api": "gateway.app",
    "relay": "workers.relay",
    "infer": "-Q infer",
    "deliver": "-Q deliver",
    "broker": "unixsocket",
}
READY_WITHIN_S = 30.0
RESULT_SYSTEM = "https://nadi.health/fhir/sid/result"


class RunningNadi:
    """One running installation with its stand-in EHR."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], port: int, ehr: int) -> None:
        self.folder = folder
        self.process = process
        self.base = f"http://127.0.0.1:{port}"
        self.ehr_base = f"http://127.0.0.1:{ehr}"
        self.environment = {**os.environ, "NADI_DATA_DIR": str(folder), "NADI_PORT": str(port)}
        self.environment["NADI_SANDBOX_PORT"] = str(ehr)

    def token(self, role: str) -> str:
        """Read the first credential of a role."""
        return (self.folder / "credentials" / f"{role}.token").read_text().strip()

    def client(self, role: str = "ehr") -> httpx.Client:
        """Give a client of the API that speaks with the credential of a role."""
        headers = {"Authorization": f"Bearer {self.token(role)}"}
        return httpx.Client(base_url=self.base, headers=headers, timeout=30)

    def nadi(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `nadi` command on this installation."""
        command = [sys.executable, "-m", "gateway.cli.main", *arguments]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=check, timeout=300
        )

    def jobs(self) -> list[dict[str, Any]]:
        """List every job."""
        listed: list[dict[str, Any]] = json.loads(
            self.nadi("jobs", "list", "--json", "--limit", "100000").stdout
        )
        return listed

    def pids(self, role: str) -> list[int]:
        """Find the processes of a role."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if ROLES[role] in " ".join(child.cmdline()):
                    found.append(child.pid)
            except psutil.NoSuchProcess:
                continue
        return found

    def kill(self, role: str) -> None:
        """Kill the processes of a role as a power cut would."""
        for pid in self.pids(role):
            os.kill(pid, signal.SIGKILL)

    def faults(self, **knobs: object) -> None:
        """Set the fault knobs of the stand-in EHR."""
        httpx.post(f"{self.ehr_base}/sandbox/faults", json=knobs).raise_for_status()

    def stats(self) -> dict[str, Any]:
        """Ask the stand-in EHR what it holds."""
        answer: dict[str, Any] = httpx.get(f"{self.ehr_base}/sandbox/stats", timeout=30).json()
        return answer

    def results(self) -> list[dict[str, Any]]:
        """Read every Observation that Nadi wrote into the stand-in EHR."""
        found: list[dict[str, Any]] = []
        url: str | None = f"{self.ehr_base}/fhir/Observation?identifier={RESULT_SYSTEM}|&_count=500"
        while url:
            bundle = httpx.get(url, timeout=60).json()
            found += [entry["resource"] for entry in bundle.get("entry", ())]
            links = {link["relation"]: link["url"] for link in bundle.get("link", ())}
            url = links.get("next")
        return found

    def is_settled(self) -> bool:
        """Say whether no job is open any more."""
        return all(job["state"] not in {"ready", "in-progress", "requested"} for job in self.jobs())


@contextmanager
def running_nadi(folder: Path, *, environment: Mapping[str, str] = {}) -> Iterator[RunningNadi]:
    """Start `nadi up --sandbox`, wait until it is ready, and stop it at the end."""
    port, ehr = free_ports(2)
    command = [sys.executable, "-m", "gateway.cli.main", "up", "--data-dir", str(folder)]
    command += ["--port", str(port), "--sandbox", "--sandbox-port", str(ehr)]
    output = (folder.parent / f"{folder.name}.log").open("ab")
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=output, stderr=output
    )
    nadi = RunningNadi(folder, process, port, ehr)
    try:
        wait_until(lambda: is_ready(nadi), within_s=READY_WITHIN_S, what="nadi up is ready")
        yield nadi
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        output.close()


def is_ready(nadi: RunningNadi) -> bool:
    """Ask `/health/ready` of the API and `/metadata` of the stand-in EHR."""
    assert nadi.process.poll() is None, "nadi up ended before it was ready"
    try:
        ready = httpx.get(f"{nadi.base}/health/ready", timeout=2).status_code == 200
        return ready and httpx.get(f"{nadi.ehr_base}/fhir/metadata", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def wait_until(holds: Callable[[], bool], *, within_s: float, what: str) -> None:
    """Wait for something to hold, looking twice a second.

    Raises:
        AssertionError: It didn't in time.
    """
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.5)


def free_ports(count: int) -> Sequence[int]:
    """Find ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def push(client: httpx.Client, resource: Mapping[str, Any], *, patience_s: float = 60) -> str:
    """Push a resource as a patient EHR does: again, until it is acknowledged.

    Returns:
        The id of its Task.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            answer = client.put(
                f"/fhir/{resource['resourceType']}/{resource['id']}",
                json=resource,
                headers={"Content-Type": "application/fhir+json"},
            )
            if answer.status_code == 202:
                return str(answer.json()["id"])
            assert answer.status_code in {502, 503}, f"{answer.status_code}: {answer.text}"
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, "the event was not accepted in time"
        time.sleep(0.1)
