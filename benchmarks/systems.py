"""Starts and stops the systems that are compared, and the EHR that they write to."""

import io
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from adapters.sandbox.ward_labs import LOCAL_CODES
from benchmarks.cgroup import entrance
from benchmarks.databases import postgresql
from benchmarks.endpoint import Endpoint, await_ok, free_port
from benchmarks.folders import put_in_order
from benchmarks.peers import REPOSITORY, Peer, environment
from gateway.cli.processes import broker_program
from gateway.settings import Settings
from tests import rabbitmq

#: HealthChain with what Nadi's feature reader needs, so that all feed the model the same.
HEALTHCHAIN = Peer(
    "healthchain",
    (
        *("healthchain==0.16.1", "onnxruntime", "numpy", "orjson", "pint", "ucumvert", "lark"),
        *("msgspec", "jsonschema-rs", "pydantic-settings"),
    ),
)
_STOP_WITHIN_S = 30.0
_NADI = (sys.executable, "-m", "gateway.cli.main")


@dataclass(frozen=True)
class Running:
    """A system that runs.

    Attributes:
        roots: The processes it consists of, their children not listed.
        started_s: From its start until it answered that it is ready.
    """

    endpoint: Endpoint
    roots: tuple[int, ...]
    started_s: float


Start = Callable[[Endpoint], AbstractContextManager[Running]]


@dataclass(frozen=True)
class System:
    """A system that is compared.

    Attributes:
        name: As tables have it.
        start: Runs it beside an EHR.
        asks_consent: Whether it does without the results of patients who deny.
        opens_exact: Whether it opens the model's session as Nadi does.
    """

    name: str
    start: Start
    asks_consent: bool = True
    opens_exact: bool = False


@contextmanager
def sandbox_ehr() -> Iterator[Endpoint]:
    """Run the stand-in EHR, in memory, in a process of its own."""
    endpoint = Endpoint(free_port())
    command = (sys.executable, "-m", "adapters.sandbox", "--port", str(endpoint.port))
    with (
        tempfile.TemporaryDirectory(prefix="bench-ehr-") as folder,
        started(command, {}, Path(folder) / "ehr.log"),
    ):
        await_ok(endpoint, "/fhir/metadata")
        yield endpoint


@dataclass(frozen=True)
class Nadi:
    """Runs Nadi as `nadi up` does, at its defaults but for what is said here.

    Attributes:
        environment: Settings that differ from the defaults.
        routes: Routes of the site; one of them is for the events of the workload.
        folder: A data folder that is filled already; a fresh one where there is none.
        adapted: Changes the site before it is applied.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    routes: int = 1
    folder: Path | None = None
    adapted: Callable[[dict[str, Any]], dict[str, Any]] = lambda site: site

    @contextmanager
    def __call__(self, ehr: Endpoint) -> Iterator[Running]:
        """Run it for the length of the block."""
        port = free_port()
        with tempfile.TemporaryDirectory(prefix="bench-nadi-") as name:
            folder = self.folder or Path(name) / "data"
            own = {"NADI_DATA_DIR": str(folder), "NADI_PORT": str(port)}
            settings = {**own, **self.environment}
            site = io.StringIO()
            YAML(typ="safe").dump(self.adapted(_site(ehr, self.routes)), site)
            url = self.environment.get("NADI_DATABASE_URL")
            put_in_order(Settings(data_dir=folder, database_url=url), site.getvalue())
            token = (folder / "credentials" / "ehr.token").read_text("ascii").strip()
            endpoint = Endpoint(port, token)
            began = time.monotonic()
            command = (*_NADI, "up", "--port", str(port))
            with started(command, settings, Path(name) / "log") as pid:
                await_ok(endpoint, "/health/ready")
                yield Running(endpoint, (pid,), time.monotonic() - began)


def _site(ehr: Endpoint, routes: int) -> dict[str, Any]:
    """Write a site whose first route is for the events; the others are for results nobody has."""
    base_url = f"http://127.0.0.1:{ehr.port}/fhir"
    local = [
        {"system": system, "code": code, "loinc": loinc}
        for (system, code), (_, loinc) in LOCAL_CODES.items()
    ]
    others = {f"other-{n}": _route(f"code='{n}-0'") for n in range(1, routes)}
    return {
        "site": "benchmark",
        "systems": {"ehr": {"kind": "fhir-rest", "base_url": base_url}},
        "routes": {"ckd-risk": _route("code='2160-0' or code='14682-9'"), **others},
        "codes": {"map": local},
    }


def _route(trigger: str) -> dict[str, Any]:
    where = f"system='http://loinc.org' and ({trigger})"
    return {
        "source": "ehr",
        "match": f"Observation.code.coding.where({where})",
        "consent": {"purpose": "TREAT", "default": "deny"},
        "model": "ckd-risk@1",
        "sink": {"system": "ehr", "also": ["provenance"]},
    }


@contextmanager
def plain(ehr: Endpoint) -> Iterator[Running]:
    """Run the plain build: broker, API and a Celery worker with two processes."""
    endpoint = Endpoint(free_port(), secrets.token_urlsafe(24))
    with tempfile.TemporaryDirectory(prefix="bench-plain-") as name, ExitStack() as stack:
        folder = Path(name)
        settings = {
            "PLAIN_DATABASE": str(folder / "plain.db"),
            "PLAIN_BROKER_URL": f"redis+socket://{folder / 'broker.sock'}",
            "PLAIN_EHR_URL": f"http://127.0.0.1:{ehr.port}/fhir",
            "PLAIN_TOKEN": endpoint.token,
        }
        began = time.monotonic()
        pids = tuple(
            stack.enter_context(started(command, settings, folder / f"{number}.log"))
            for number, command in enumerate(_plain_commands(folder, endpoint.port))
        )
        await_ok(endpoint, "/health/ready")
        yield Running(endpoint, pids, time.monotonic() - began)


def _plain_commands(folder: Path, port: int) -> Sequence[tuple[str, ...]]:
    api = ("uvicorn", "benchmarks.plain.app:app", "--port", str(port), "--log-level", "warning")
    worker = ("celery", "-A", "benchmarks.plain.worker", "worker", "-c", "2", "-l", "warning")
    return (
        broker_command(folder),
        (sys.executable, "-m", *api),
        (sys.executable, "-m", *worker),
    )


def broker_command(folder: Path) -> tuple[str, ...]:
    """Give the command of a broker that listens on `broker.sock` in a folder and keeps nothing."""
    return (
        *(str(broker_program()), "--port", "0", "--unixsocket", str(folder / "broker.sock")),
        *("--save", "", "--appendonly", "no", "--dir", str(folder)),
    )


@contextmanager
def healthchain(ehr: Endpoint, app: str = "benchmarks.healthchain_app:app") -> Iterator[Running]:
    """Run HealthChain in its own environment.

    Args:
        ehr: Where it writes to.
        app: Which application of it.

    Raises:
        PeerMissing: It can't be had here.
    """
    endpoint = Endpoint(free_port(), secrets.token_urlsafe(24))
    python = HEALTHCHAIN.python()
    command = (
        *(str(python), "-m", "uvicorn", app),
        *("--port", str(endpoint.port), "--log-level", "warning"),
    )
    settings = {**environment(), "HEALTHCHAIN_EHR": f"127.0.0.1:{ehr.port}/fhir"}
    with tempfile.TemporaryDirectory(prefix="bench-healthchain-") as name:
        began = time.monotonic()
        with started(command, settings, Path(name) / "log") as pid:
            await_ok(endpoint, "/health")
            yield Running(endpoint, (pid,), time.monotonic() - began)


@dataclass(frozen=True)
class NadiOn:
    """Runs Nadi with a database server and a broker of its own, which are parts of it.

    Attributes:
        database: `sqlite` or `postgresql`.
        broker: `valkey` or `rabbitmq`.
    """

    database: str = "sqlite"
    broker: str = "valkey"

    @contextmanager
    def __call__(self, ehr: Endpoint) -> Iterator[Running]:
        """Run it for the length of the block.

        Raises:
            PostgresMissing: There is none on this machine.
        """
        settings, roots = dict[str, str](), list[int]()
        with ExitStack() as stack:
            if self.database == "postgresql":
                server = stack.enter_context(postgresql())
                settings["NADI_DATABASE_URL"] = server.database("nadi")
                roots.append(server.pid)
            if self.broker == "rabbitmq":
                name = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-rabbit-"))
                node = stack.enter_context(rabbitmq.node(Path(name)))
                settings["NADI_BROKER_URL"] = node.url
                roots.append(node.pids[0])
            running = stack.enter_context(Nadi(settings)(ehr))
            yield replace(running, roots=(*running.roots, *roots))

    def system(self) -> System:
        """Give it as one that is compared."""
        known = {"postgresql": "PostgreSQL", "rabbitmq": "RabbitMQ"}
        names = [known[each] for each in (self.database, self.broker) if each in known]
        return System(f"Nadi on {' and '.join(names)}", self, opens_exact=True)


NADI = System("Nadi", Nadi(), opens_exact=True)
PLAIN = System("Plain build", plain)
CHAIN = System("HealthChain", healthchain, asks_consent=False)


@contextmanager
def started(command: Sequence[str], settings: Mapping[str, str], log: Path) -> Iterator[int]:
    """Run a command until the end of the block; on trouble its log is shown."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **settings},
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=entrance(),  # noqa: PLW1509 - it writes one file
        )
        try:
            yield process.pid
        except BaseException:
            sys.stderr.write(f"{' '.join(command)}\n{log.read_text('utf-8', 'replace')[-4000:]}\n")
            raise
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
