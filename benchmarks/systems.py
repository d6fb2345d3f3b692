"""Starts and stops the systems that are compared, and the EHR that both write to."""

import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from adapters.sandbox.ward_labs import LOCAL_CODES
from gateway.cli.processes import broker_program

_START_WITHIN_S = 60.0
_STOP_WITHIN_S = 30.0
_NADI = (sys.executable, "-m", "gateway.cli.main")
_REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Endpoint:
    """Where a server of this machine answers."""

    port: int
    token: str = ""

    def connect(self) -> http.client.HTTPConnection:
        """Open a connection that is kept."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    @property
    def headers(self) -> dict[str, str]:
        """What every request says of itself."""
        return {
            "Content-Type": "application/fhir+json",
            "Authorization": f"Bearer {self.token}",
        }


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


System = Callable[[Endpoint], AbstractContextManager[Running]]


@contextmanager
def sandbox_ehr() -> Iterator[Endpoint]:
    """Run the stand-in EHR, in memory, in a process of its own."""
    endpoint = Endpoint(free_port())
    command = (sys.executable, "-m", "adapters.sandbox", "--port", str(endpoint.port))
    with (
        tempfile.TemporaryDirectory(prefix="bench-ehr-") as folder,
        _process(command, {}, Path(folder) / "ehr.log"),
    ):
        await_ok(endpoint, "/fhir/metadata")
        yield endpoint


@contextmanager
def nadi(ehr: Endpoint) -> Iterator[Running]:
    """Run Nadi as `nadi up` does, with everything at its defaults."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-nadi-") as name:
        folder = Path(name) / "data"
        environment = {"NADI_DATA_DIR": str(folder), "NADI_PORT": str(port)}
        site = Path(name) / "site.yaml"
        _write_site(site, ehr)
        _run((sys.executable, "-m", "gateway.cli.prepare"), environment)
        _run((*_NADI, "site", "apply", str(site)), environment)
        token = (folder / "credentials" / "ehr.token").read_text("ascii").strip()
        endpoint = Endpoint(port, token)
        began = time.monotonic()
        with _process((*_NADI, "up", "--port", str(port)), environment, Path(name) / "log") as pid:
            await_ok(endpoint, "/health/ready")
            yield Running(endpoint, (pid,), time.monotonic() - began)


def _write_site(path: Path, ehr: Endpoint) -> None:
    trigger = "system='http://loinc.org' and (code='2160-0' or code='14682-9')"
    site = {
        "site": "benchmark",
        "systems": {"ehr": {"kind": "fhir-rest", "base_url": f"http://127.0.0.1:{ehr.port}/fhir"}},
        "routes": {
            "ckd-risk": {
                "source": "ehr",
                "match": f"Observation.code.coding.where({trigger})",
                "consent": {"purpose": "TREAT", "default": "deny"},
                "model": "ckd-risk@1",
                "sink": {"system": "ehr", "also": ["provenance"]},
            }
        },
        "codes": {
            "map": [
                {"system": system, "code": code, "loinc": loinc}
                for (system, code), (_, loinc) in LOCAL_CODES.items()
            ]
        },
    }
    YAML(typ="safe").dump(site, path)


@contextmanager
def plain(ehr: Endpoint) -> Iterator[Running]:
    """Run the plain build: broker, API and a Celery worker with two processes."""
    endpoint = Endpoint(free_port(), secrets.token_urlsafe(24))
    with tempfile.TemporaryDirectory(prefix="bench-plain-") as name, ExitStack() as stack:
        folder = Path(name)
        environment = {
            "PLAIN_DATABASE": str(folder / "plain.db"),
            "PLAIN_BROKER_URL": f"redis+socket://{folder / 'broker.sock'}",
            "PLAIN_EHR_URL": f"http://127.0.0.1:{ehr.port}/fhir",
            "PLAIN_TOKEN": endpoint.token,
        }
        began = time.monotonic()
        pids = tuple(
            stack.enter_context(_process(command, environment, folder / f"{number}.log"))
            for number, command in enumerate(_plain_commands(folder, endpoint.port))
        )
        await_ok(endpoint, "/health/ready")
        yield Running(endpoint, pids, time.monotonic() - began)


def _plain_commands(folder: Path, port: int) -> Sequence[tuple[str, ...]]:
    broker = (
        *(str(broker_program()), "--port", "0", "--unixsocket", str(folder / "broker.sock")),
        *("--save", "", "--appendonly", "no", "--dir", str(folder)),
    )
    api = ("uvicorn", "benchmarks.plain.app:app", "--port", str(port), "--log-level", "warning")
    worker = ("celery", "-A", "benchmarks.plain.worker", "worker", "-c", "2", "-l", "warning")
    return (broker, (sys.executable, "-m", *api), (sys.executable, "-m", *worker))


@contextmanager
def _process(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[int]:
    """Run a command until the end of the block; on trouble its log is shown."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=_REPOSITORY,
            env={**os.environ, **environment},
            stdout=file,
            stderr=subprocess.STDOUT,
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


def _run(command: Sequence[str], environment: Mapping[str, str]) -> None:
    subprocess.run(
        command,
        cwd=_REPOSITORY,
        env={**os.environ, **environment},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_ok(endpoint: Endpoint, path: str) -> None:
    """Wait for a 200."""
    limit = time.monotonic() + _START_WITHIN_S
    while time.monotonic() < limit:
        connection = endpoint.connect()
        try:
            connection.request("GET", path)
            if connection.getresponse().status == http.client.OK:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.02)
    raise TimeoutError(f"nothing answers at {path} of port {endpoint.port}")
