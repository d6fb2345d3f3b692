"""`nadi up`: everything on one machine, with nothing but Python.

Broker, api, relay and both workers run as children of this process, which restarts what dies and
drains at SIGTERM. With `--sandbox` a stand-in EHR runs beside them, with `--play N` a ward of
synthetic patients pushes events as soon as all is ready.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.panel import Panel
from rich.table import Table

from gateway.cli.context import (
    EXIT_NOT_SO,
    DataDir,
    err,
    explained,
    fail,
    out,
    remember_addresses,
    starting_settings,
)
from gateway.cli.followed_listeners import FollowedListeners, soonest
from gateway.cli.health_question import HealthQuestion
from gateway.cli.processes import SHARED, children, metrics_dir, play
from gateway.forking import load
from gateway.settings import WILDCARDS, Settings, environment_default, environment_with
from gateway.supervisor import Supervisor, die_with_parent, sole_supervisor

#: After these times a start is slow, and what is waited for is named.
SLOW_AFTER_S = (15.0, 60.0)
#: Checks of `/health/ready` that can keep the gateway from being ready, and when they do not.
_NEEDED = {
    "database": ("up",),
    "schema": ("current",),
    "canary": ("refused", "not run", "unknown"),
}
_ASK_EVERY_S = 0.1
_NO_ANSWER = "the API to answer"

app = typer.Typer(pretty_exceptions_show_locals=False)


@app.command()
@explained
def up(  # noqa: PLR0913 (one parameter per option)
    *,
    data_dir: DataDir = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of the API.", show_default="8080")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")
    ] = None,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Run a stand-in EHR too.")] = False,
    sandbox_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of the stand-in EHR.", show_default="8090"),
    ] = None,
    patients: Annotated[
        int | None, typer.Option("--play", min=1, help="Let so many synthetic patients play.")
    ] = None,
    log_to_terminal: Annotated[
        bool, typer.Option("--log-to-terminal", help="Show all logs here, write no log files.")
    ] = False,
) -> None:
    """Start everything on this machine and keep it running until Ctrl-C or SIGTERM."""
    chosen = {"port": port, "host": host, "sandbox_port": sandbox_port}
    given = {name: value for name, value in chosen.items() if value is not None}
    settings = starting_settings(data_dir)
    settings = settings.model_copy(update={**given, "data_dir": settings.data_dir.absolute()})
    if patients and not sandbox:
        fail("--play needs --sandbox: the patients live in the stand-in EHR.", code=2)
    os.umask(0o077)
    _make_folders(settings)
    with sole_supervisor(settings.data_dir / "run" / "nadi.lock"):
        _insist_on_free_ports(settings, sandbox=sandbox)
        remember_addresses(settings, host=WILDCARDS.get(settings.host, settings.host))
        _prepare(settings, sandbox=sandbox)
        _supervise(
            settings,
            log_dir=None if log_to_terminal else settings.data_dir / "logs",
            sandbox=sandbox,
            patients=patients,
        )


def _make_folders(settings: Settings) -> None:
    folder = settings.data_dir
    for path in (folder, folder / "run", folder / "logs", settings.broker_socket.parent):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.stat().st_uid != os.getuid():
            fail(f"{path} belongs to another user.")
        path.chmod(0o700)


def _insist_on_free_ports(settings: Settings, *, sandbox: bool) -> None:
    wanted = {"--port": settings.port}
    if sandbox:
        wanted["--sandbox-port"] = settings.sandbox_port
    if len(set(wanted.values())) < len(wanted):
        fail("--port and --sandbox-port have to differ.", code=2)
    for option, port in wanted.items():
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.host, port))
            except OSError as error:
                fail(f"Port {port} can't be used ({error.strerror}); choose another: {option}.")


def _prepare(settings: Settings, *, sandbox: bool) -> None:
    """Prepare the data in a process of its own; load meanwhile what all others share."""
    shutil.rmtree(metrics_dir(settings), ignore_errors=True)
    metrics_dir(settings).mkdir(mode=0o700)
    settings.broker_socket.unlink(missing_ok=True)
    command = [sys.executable, "-m", "gateway.cli.prepare", *(["--sandbox"] if sandbox else [])]
    environment = environment_with(NADI_DATA_DIR=str(settings.data_dir))
    with subprocess.Popen(  # noqa: S603 (our own command)
        command,
        env=environment,
        # Whoever is started next must not meet it still at work.
        preexec_fn=die_with_parent(os.getpid()),  # noqa: PLW1509 (no thread forks)
    ) as preparing:
        # The library of metrics reads this when it is loaded.
        environment_default("PROMETHEUS_MULTIPROC_DIR", str(metrics_dir(settings)))
        load(SHARED)
    if preparing.returncode:
        raise typer.Exit(EXIT_NOT_SO)


def _supervise(
    settings: Settings, *, log_dir: Path | None, sandbox: bool, patients: int | None
) -> None:
    supervisor = Supervisor(children(settings, sandbox=sandbox), log_dir, say=_say)
    started = time.monotonic()
    supervisor.start()

    def announce() -> None:
        out.print(_welcome(settings, sandbox=sandbox, ready_s=time.monotonic() - started))
        if patients:
            supervisor.add(play(settings, patients))

    ready = Readiness(settings, announce)
    listeners = FollowedListeners(settings, supervisor)
    with contextlib.closing(ready), contextlib.closing(listeners):
        supervisor.run(soonest(ready, listeners))
    _say("Stopped.")


class Readiness:
    """Asks `/health/ready` until it says yes, then tells."""

    def __init__(
        self,
        settings: Settings,
        announce: Callable[[], None],
        *,
        slow_after_s: tuple[float, ...] = SLOW_AFTER_S,
    ) -> None:
        """Take whom to ask, and after how many seconds to say what is waited for."""
        self._question = HealthQuestion(settings)
        self._awaited = _NO_ANSWER
        self._announce = announce
        self._started = time.monotonic()
        self._slow_after_s = list(slow_after_s)
        self._is_ready = False

    def __call__(self) -> float:
        """Look once; give the seconds until the next look."""
        if self._is_ready:
            return float("inf")
        self._look()
        if not self._awaited:
            self._is_ready = True
            self._announce()
        elif self._slow_after_s and time.monotonic() - self._started > self._slow_after_s[0]:
            after_s = self._slow_after_s.pop(0)
            more = "" if self._slow_after_s else " `nadi doctor` says more."
            _say(f"Still starting after {after_s:g} s: waiting for {self._awaited}.{more}")
        return _ASK_EVERY_S

    def close(self) -> None:
        """Ask no more."""
        self._question.close()

    def _look(self) -> None:
        health = self._question.answer()
        if health is not None:
            self._awaited = _missing(health)
        elif not self._question.is_open:
            self._awaited = _NO_ANSWER
        if self._awaited and not self._question.is_open:
            self._question.put()


def _missing(health: Mapping[str, Any]) -> str:
    """Say what is waited for; nothing when the gateway is ready."""
    if health.get("status") == "ready":
        return ""
    checks = health.get("checks") or {}
    missing = (name for name, well in _NEEDED.items() if checks.get(name) not in well)
    return ", ".join(f"{name} ({checks.get(name)})" for name in missing) or "the API to be ready"


def _welcome(settings: Settings, *, sandbox: bool, ready_s: float) -> Panel:
    rows = Table.grid(padding=(0, 2))
    base, folder = settings.base_url, settings.data_dir
    rows.add_row("FHIR API", f"{base}/fhir")
    rows.add_row("API docs", f"{base}/docs")
    rows.add_row("Metrics", f"{base}/metrics")
    if sandbox:
        rows.add_row("Sandbox EHR", f"http://{settings.host}:{settings.sandbox_port}/fhir")
    rows.add_row("Tokens", f"{folder / 'credentials'}/<role>.token")
    rows.add_row("Logs", f"{folder / 'logs'}/")
    trail = f"{sys.argv[0]} audit list --patient Patient/ID --data-dir {folder}"
    rows.add_row("One patient's audit trail", trail)
    rows.add_row("Stop", "Ctrl-C")
    return Panel(rows, title=f"Nadi is ready after {ready_s:.1f} s", expand=False)


def _say(line: str) -> None:
    # A terminal that was closed must not keep the children from being drained.
    with contextlib.suppress(OSError):
        err.print(f"nadi: {line}", markup=False, soft_wrap=True)
