"""A whole Nadi in a folder of its own, as `nadi up` runs it, for tests that need all real parts.

`RunningNadi` starts it on free ports with the stand-in EHR, gives its tokens and addresses, reads
its database, kills or freezes its processes by role, and stops it. Everything it starts ends with
the block.
"""

import itertools
import json
import os
import random
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import sqlalchemy as sa
from typer.testing import CliRunner

from gateway.cli.main import app
from tests.audited import bodies


def _own_ports() -> Iterator[int]:
    """Go round the thousand ports of this process, from anywhere, as another run may be about."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = 20_000 + 1000 * (worker % 12)
    start = random.randrange(1000)  # noqa: S311 - a port, not a key
    return (first + number % 1000 for number in itertools.count(start))


#: What a process's name and command line say of its role.
ROLES = {
    "api": "nadi-api",
    "relay": "nadi-relay",
    "infer": "nadi-infer",
    "deliver": "nadi-deliver",
    "broker": "unixsocket",
    "dicom": "nadi-dicom",
    "subscription": "nadi-subscripti",
    "mllp": "nadi-mllp",
}
READY_WITHIN_S = 120.0
#: Made once: a client that makes its own reads the certificates of the whole web, every time.
TLS = ssl.create_default_context()
HEALTHY_EHR: Mapping[str, object] = {
    "down": "no",
    "slow_ms": 0,
    "error_rate": 0,
    "retry_after_s": 1,
    "drop_after_commit_rate": 0,
    "ignore_unknown_params": False,
    "ignored_params": [],
    "drop_elements": [],
    "no_conditional_create": False,
    "no_transaction": False,
    "no_batch": False,
    "unsupported_types": [],
}
_ports = _own_ports()
_OPEN_STATES = frozenset({"requested", "ready", "in-progress"})
RESULT_SYSTEM = "https://nadi.health/fhir/sid/result"


def shown(process: psutil.Process) -> str:
    """Give what `ps` shows of a process: its name and its command line."""
    return " ".join((process.name(), *process.cmdline()))


class RunningNadi:
    """One running installation with its stand-in EHR."""

    def __init__(
        self,
        folder: Path,
        process: subprocess.Popen[bytes],
        ports: tuple[int, int],
        *,
        environment: Mapping[str, str] = {},
    ) -> None:
        self.folder = folder
        self.process = process
        port, ehr = ports
        self.base = f"http://127.0.0.1:{port}"
        self.ehr_base = f"http://127.0.0.1:{ehr}"
        self.environment = {**os.environ, **environment, "NADI_DATA_DIR": str(folder)}
        self.environment |= {"NADI_PORT": str(port), "NADI_SANDBOX_PORT": str(ehr)}
        self.log = folder.parent / f"{folder.name}.log"
        url = environment.get("NADI_DATABASE_URL", f"sqlite:///{folder / 'nadi.db'}")
        self._engine = sa.create_engine(url, poolclass=sa.NullPool)

    def token(self, role: str) -> str:
        """Read the first credential of a role."""
        return (self.folder / "credentials" / f"{role}.token").read_text().strip()

    def client(self, role: str = "ehr") -> httpx.Client:
        """Give a client of the API that speaks with the credential of a role."""
        headers = {"Authorization": f"Bearer {self.token(role)}"}
        return httpx.Client(base_url=self.base, headers=headers, timeout=30, verify=TLS)

    def nadi(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `nadi` command on this installation, in this process: a start takes seconds."""
        told = CliRunner().invoke(app, arguments, env=self.environment)
        crash = told.exception
        if crash is not None and not isinstance(crash, SystemExit):
            raise crash
        done = subprocess.CompletedProcess(
            ("nadi", *arguments), told.exit_code, told.stdout, told.stderr
        )
        if check:
            done.check_returncode()
        return done

    def process_of(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `nadi` command on this installation as somebody at a shell does."""
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

    def rows(self, query: str, **parameters: object) -> list[dict[str, Any]]:
        """Read the database directly: quicker than a command, and what no answer shows."""
        with self._engine.connect() as connection:
            found = connection.execute(sa.text(query), parameters).mappings()
            return [dict(row) for row in found]

    def audit_bodies(self) -> list[bytes]:
        """Give the JSON of every AuditEvent, oldest first."""
        with self._engine.connect() as connection:
            return bodies(connection)

    def change(self, statement: str, **parameters: object) -> None:
        """Change the database behind Nadi's back."""
        with self._engine.begin() as connection:
            connection.execute(sa.text(statement), parameters)

    def jobs_of(self, task_id: str) -> list[dict[str, Any]]:
        """Read the jobs that an event caused."""
        return self.rows("select * from jobs where event_id = :id order by id", id=task_id)

    def pids(self, role: str) -> list[int]:
        """Find the processes of a role."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if ROLES[role] in shown(child):
                    found.append(child.pid)
            except psutil.NoSuchProcess:
                continue
        return found

    def kill(self, role: str) -> None:
        """Kill the processes of a role as a power cut would."""
        _send(self.pids(role), signal.SIGKILL)

    def kill_all(self) -> None:
        """Kill everything at once, the supervisor first: the machine is gone."""
        supervisor = psutil.Process(self.process.pid)
        everything = [supervisor, *supervisor.children(recursive=True)]
        for each in everything:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait()
        psutil.wait_procs(everything[1:], timeout=10)

    @contextmanager
    def frozen(self, role: str) -> Iterator[None]:
        """Stop the processes of a role for a while, as a machine does that swaps.

        They are stopped where they hold no write lock of SQLite: with it they would keep every
        other process from writing, and a push would be answered 503 once the busy timeout is over.
        The chaos runs ask what becomes of that; whoever uses this asks something else.
        """
        pids = self.pids(role)
        try:
            wait_until(
                lambda: self._stopped_without_lock(pids),
                within_s=30,
                what=f"{role} is stopped while it holds no lock",
            )
            yield
        finally:
            _send(pids, signal.SIGCONT)

    def _stopped_without_lock(self, pids: Sequence[int]) -> bool:
        """Stop processes; let them go on again when the database can't be written then."""
        _send(pids, signal.SIGSTOP)
        if self._is_writable():
            return True
        _send(pids, signal.SIGCONT)
        return False

    def _is_writable(self) -> bool:
        """Say whether a writer gets SQLite's one write lock; on PostgreSQL there is none."""
        if self._engine.dialect.name != "sqlite":
            return True
        # Longer than any transaction of those that still run.
        own = sqlite3.connect(str(self._engine.url.database), timeout=0.5, isolation_level=None)
        with closing(own):
            try:
                own.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            own.execute("ROLLBACK")
            return True

    def faults(self, **knobs: object) -> None:
        """Set the fault knobs of the stand-in EHR."""
        httpx.post(f"{self.ehr_base}/sandbox/faults", json=knobs, verify=TLS).raise_for_status()

    @contextmanager
    def faulty_ehr(self, **knobs: object) -> Iterator[None]:
        """Let the stand-in EHR have faults for a while, then be healthy."""
        self.faults(**knobs)
        try:
            yield
        finally:
            self.faults(**HEALTHY_EHR)

    def store_in_ehr(self, *resources: Mapping[str, Any]) -> None:
        """Put resources into the stand-in EHR, as somebody at the ward does."""
        for each in resources:
            url = f"{self.ehr_base}/fhir/{each['resourceType']}/{each['id']}"
            httpx.put(url, json=each, timeout=30, verify=TLS).raise_for_status()

    def stats(self) -> dict[str, Any]:
        """Ask the stand-in EHR what it holds."""
        answer: dict[str, Any] = httpx.get(
            f"{self.ehr_base}/sandbox/stats", timeout=30, verify=TLS
        ).json()
        return answer

    def duplicates(self, *resource_types: str) -> int:
        """Count what the stand-in EHR holds twice under one identifier, of some types or all."""
        found = self.stats()["duplicates"]
        return sum(found.get(each, 0) for each in resource_types or found)

    def results(self) -> list[dict[str, Any]]:
        """Read every Observation that Nadi wrote into the stand-in EHR."""
        return self.ehr_search(f"Observation?identifier={RESULT_SYSTEM}|&_count=500")

    def ehr_search(self, query: str) -> list[dict[str, Any]]:
        """Search the stand-in EHR, all pages."""
        found: list[dict[str, Any]] = []
        url: str | None = f"{self.ehr_base}/fhir/{query}"
        while url:
            answer = httpx.get(url, timeout=60, verify=TLS)
            answer.raise_for_status()
            bundle = answer.json()
            found += [entry["resource"] for entry in bundle.get("entry", ())]
            links = {link["relation"]: link["url"] for link in bundle.get("link", ())}
            url = links.get("next")
        return found

    def results_of(self, patient_id: str) -> list[dict[str, Any]]:
        """Read what Nadi wrote into the stand-in EHR about one patient."""
        wanted = f"Patient/{patient_id}"
        return [each for each in self.results() if each["subject"]["reference"] == wanted]

    def is_settled(self) -> bool:
        """Say whether no job is open any more."""
        states = self.rows("select distinct state from jobs")
        return _OPEN_STATES.isdisjoint(row["state"] for row in states)

    def settle(self, within_s: float = 120) -> None:
        """Wait until no job is open any more."""
        wait_until(self.is_settled, within_s=within_s, what="every job is finished")

    def wait_until_integrated(self) -> None:
        """Wait until every AuditEvent has its place in the log."""
        placed = "(select count(*) from audit_leaves) = (select count(*) from audit_events)"
        wait_until(
            lambda: bool(self.rows(f"select {placed} as placed")[0]["placed"]),
            within_s=60,
            what="every AuditEvent has its place in the log",
        )

    def wait_for_status(self, task_id: str, status: str, *, within_s: float = 60) -> None:
        """Wait until every job of an event has a business status."""
        wait_until(
            lambda: {job["business_status"] for job in self.jobs_of(task_id)} == {status},
            within_s=within_s,
            what=f"every job of {task_id} is {status}",
        )


def _send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to processes; those that are gone are no concern."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


class Databases:
    """Gives each data folder a database of its own; None: the SQLite file in it.

    Attributes:
        make: Makes a database; gives its URL.
    """

    def __init__(self) -> None:
        self.make: Callable[[], str] | None = None
        self._urls: dict[Path, str] = {}

    def of(self, folder: Path) -> dict[str, str]:
        """Give the setting for a data folder, the same one each time."""
        if self.make is None:
            return {}
        if folder not in self._urls:
            self._urls[folder] = self.make()
        return {"NADI_DATABASE_URL": self._urls[folder]}


#: Where every Nadi that a test starts keeps its data, unless the test says so itself.
DATABASES = Databases()


@contextmanager
def running_nadi(
    folder: Path, *, environment: Mapping[str, str] = {}, beside: RunningNadi | None = None
) -> Iterator[RunningNadi]:
    """Start `nadi up --sandbox`, wait until it is ready, and stop it at the end.

    Args:
        folder: Of its data.
        environment: Settings.
        beside: Another host of the same installation, whose stand-in EHR serves this one too.
    """
    environment = {**DATABASES.of(folder), **environment}
    port, ehr = free_ports(2)
    command = [sys.executable, "-m", "gateway.cli.main", "up", "--data-dir", str(folder)]
    command += ["--port", str(port)]
    if beside is None:
        command += ["--sandbox", "--sandbox-port", str(ehr)]
    else:
        ehr = int(beside.ehr_base.rpartition(":")[2])
    output = (folder.parent / f"{folder.name}.log").open("ab")
    # Her jobs would be among those that tests count; those about her turn her on.
    chosen = {"NADI_CANARY_EVERY_S": "0", "NADI_SANDBOX_PORT": str(ehr), **environment}
    process = subprocess.Popen(command, env={**os.environ, **chosen}, stdout=output, stderr=output)
    nadi = RunningNadi(folder, process, (port, ehr), environment=environment)
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
    """Ask `/health/ready` of the API, and whether the stand-in EHR answers."""
    assert nadi.process.poll() is None, "nadi up ended before it was ready"
    try:
        with httpx.Client(timeout=2, verify=TLS) as client:
            ready = client.get(f"{nadi.base}/health/ready").status_code == 200
            # Not its /fhir/metadata: some EHRs have none.
            return ready and client.get(f"{nadi.ehr_base}/sandbox/faults").is_success
    except httpx.HTTPError:
        return False


def wait_until(holds: Callable[[], bool], *, within_s: float, what: str) -> None:
    """Wait for something to hold, looking five times a second.

    How long is a guard against what hangs, not a promise: a machine that runs tests is busy.

    Raises:
        AssertionError: It didn't in time.
    """
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.2)


def free_ports(count: int) -> Sequence[int]:
    """Find ports that nobody listens on and nobody else will be given.

    Each process of the test run has ports of its own, below those that the system gives to clients.
    """
    found = []
    while len(found) < count:
        port = next(_ports)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found


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


def push_chart(nadi: RunningNadi, *resources: Mapping[str, Any]) -> list[str]:
    """Push resources as one Bundle; give the id of each one's Task."""
    entries = [
        {
            "resource": each,
            "request": {"method": "PUT", "url": f"{each['resourceType']}/{each['id']}"},
        }
        for each in resources
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    with nadi.client() as client:
        answer = client.post("/fhir", json=bundle)
    assert answer.status_code == 200, answer.text
    return [str(entry["resource"]["id"]) for entry in answer.json()["entry"]]
