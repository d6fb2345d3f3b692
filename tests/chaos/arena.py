"""The installation under fire: a real `nadi up`, kept up as systemd would.

Its EHR is the stand-in that it brings along, or a simulator beside it (`tests.chaos.ehr`).

It knows how to start and stop it, to find, kill and freeze its processes, and where its files are.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

import adapters
import gateway
from tests.chaos.clock import Clock
from tests.chaos.disk import Disk
from tests.chaos.ehr import Ehr
from tests.chaos.lab import write_site
from tests.chaos.rabbit import Rabbit
from tests.running import HEALTHY_EHR, RunningNadi, free_ports, is_ready, shown, wait_until
from tests.simulators import PLAIN, Simulator

#: What the name and the command line of a process say of its role.
ROLES = {
    "api": "nadi-api",
    "relay": "nadi-relay",
    "infer": "nadi-infer",
    "deliver": "nadi-deliver",
    "mllp": "nadi-mllp",
    "broker": "unixsocket",
    "ehr": "nadi-sandbox",
}
MODEL = "ckd-risk"
SANDBOX_SITE = Path(adapters.__path__[0]) / "sites" / "sandbox.example.yaml"
_REFERENCE = Path(gateway.__file__).parents[1] / "models" / "reference" / MODEL
#: Impatient, so that minutes show what takes hours; what is promised stays the same.
_IMPATIENT = {
    "NADI_CANARY_EVERY_S": "0",
    "NADI_LEASE_S": "12",
    "NADI_EHR_TIMEOUT_S": "3",
    # Longer than what hangs for a while (`tests.chaos.schedule`), so that it wakes up by itself.
    "NADI_HUNG_AFTER_S": "18",
    "NADI_RETRY_BASE_S": "0.2",
    "NADI_RETRY_MAX_S": "2",
    "NADI_RING_AGAIN_S": "2",
    "NADI_CHECKPOINT_EVERY_S": "1",
    "NADI_REVOCATION_WAIT_S": "5",
}
_READY_WITHIN_S = 600.0
_GONE_WITHIN_S = 10.0


class Arena:
    """One installation in a folder of its own; end it with the block."""

    def __init__(
        self,
        folder: Path,
        *,
        database_url: str | None,
        size_mb: int,
        rabbit: Rabbit | None = None,
        ehr: Ehr | None = None,
    ) -> None:
        self.folder = folder
        self.disk = Disk(folder / "disk", size_mb)
        self.clock = Clock(folder)
        self.data = self.disk.folder / "nadi"
        self.models = folder / "models"
        self.database_url = database_url
        self.rabbit = rabbit
        self.ehr = ehr
        shutil.copytree(_REFERENCE, self.models / MODEL)
        chosen = {**_IMPATIENT, **self.clock.environment, "NADI_MODELS_DIR": str(self.models)}
        chosen |= rabbit.environment if rabbit else {}
        self._chosen = chosen | ({"NADI_DATABASE_URL": database_url} if database_url else {})
        port, sandbox, self.lab_port = free_ports(3)
        self._ports = (port, ehr.port if ehr else sandbox)
        self._log = (folder / "up.log").open("ab")
        self._is_wanted = threading.Event()
        self._is_over = threading.Event()
        self._lock = threading.RLock()
        self.orphans: list[str] = []
        self.starts = 0
        if ehr is not None:
            self._run("prepare")
            site = write_site(ehr.site().read_text("utf-8"), folder, self.lab_port)
            self._run("site", "apply", str(site))
        self.nadi = self._start()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.push(self)  # leave nothing behind where it does not get ready
            wait_until(lambda: is_ready(self.nadi), within_s=_READY_WITHIN_S, what="it is ready")
            if self.ehr is None:
                site = write_site(SANDBOX_SITE.read_text("utf-8"), self.folder, self.lab_port)
                self.nadi.nadi("site", "apply", str(site))
            undo.pop_all()
        self._is_wanted.set()
        self._keeper.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self.kill_everything()
        self._log.close()
        self.disk.close()

    # -- its EHR -----------------------------------------------------------------------------

    @property
    def simulator(self) -> Simulator:
        """How the EHR behaves."""
        return self.ehr.simulator if self.ehr else PLAIN

    @property
    def healthy_ehr(self) -> Mapping[str, object]:
        """What takes every fault of the EHR back but those that are its nature."""
        return self.ehr.healthy if self.ehr else HEALTHY_EHR

    @property
    def journal(self) -> Path:
        """What the EHR has taken, in its order."""
        return self.ehr.journal if self.ehr else self.data / "sandbox-ehr.journal"

    # -- up and down -------------------------------------------------------------------------

    def _command(self, *words: str) -> Sequence[str]:
        return [sys.executable, "-m", "gateway.cli.main", *words, "--data-dir", str(self.data)]

    def _run(self, *words: str) -> None:
        environment = {**os.environ, **self._chosen}
        command = self._command(*words)
        subprocess.run(command, env=environment, stdout=self._log, stderr=self._log, check=True)

    def _start(self) -> RunningNadi:
        port, ehr = self._ports
        words = ["up", "--port", str(port)]
        words += [] if self.ehr else ["--sandbox", "--sandbox-port", str(ehr)]
        process = subprocess.Popen(
            self._command(*words),
            env={**os.environ, **self._chosen},
            stdout=self._log,
            stderr=self._log,
        )
        self.starts += 1
        return RunningNadi(self.data, process, (port, ehr), environment=self._chosen)

    def _keep(self) -> None:
        """Start it again whenever it has ended and is wanted."""
        while not self._is_over.wait(0.3):
            with self._lock:
                if self._is_wanted.is_set() and self.nadi.process.poll() is not None:
                    self.nadi = self._start()

    @contextmanager
    def held_down(self) -> Iterator[None]:
        """Let nobody start it again for a while."""
        with self._lock:
            self._is_wanted.clear()
            try:
                yield
            finally:
                self._is_wanted.set()

    def stop(self) -> None:
        """Drain it and wait for its end."""
        self._is_over.set()
        if self._keeper.is_alive():
            self._keeper.join()
        self.nadi.process.terminate()
        try:
            self.nadi.process.wait(60)
        except subprocess.TimeoutExpired:
            self.orphans.append("nadi up did not end within 60 s")

    # -- its processes -----------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """Find every process of this installation, whoever its parent is."""
        marker = f"NADI_DATA_DIR={self.data}"
        found = [self.nadi.process.pid, *self._children(), *self._having(marker)]
        alive = [psutil.Process(pid) for pid in dict.fromkeys(found) if psutil.pid_exists(pid)]
        return [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]

    def _children(self) -> list[int]:
        try:
            parent = psutil.Process(self.nadi.process.pid)
            return [each.pid for each in parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _having(self, marker: str) -> list[int]:
        name, _, value = marker.partition("=")
        found = []
        for each in psutil.process_iter():
            with suppress(psutil.Error):
                is_ours = each.environ().get(name) == value or value in " ".join(each.cmdline())
                found += [each.pid] if is_ours and each.pid != os.getpid() else []
        return found

    def pids(self, role: str) -> list[int]:
        """Find the processes of a role."""
        beside = self.beside(role)
        if beside is not None:
            return beside.pids
        found = []
        for pid in self._children():
            with suppress(psutil.Error):
                found += [pid] if ROLES[role] in shown(psutil.Process(pid)) else []
        return found

    def beside(self, role: str) -> Rabbit | Ehr | None:
        """Give the server of a role that is none of Nadi's: whoever kills it starts it again."""
        servers: Mapping[str, Rabbit | Ehr | None] = {"broker": self.rabbit, "ehr": self.ehr}
        return servers.get(role)

    def signal(self, pids: Sequence[int], number: signal.Signals) -> None:
        """Send a signal to processes; those that are gone are no concern."""
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill_everything(self) -> None:
        """Kill every process at the same moment: first all are frozen, then all are killed."""
        pids = [each.pid for each in self.processes()]
        self.signal(pids, signal.SIGSTOP)
        self.signal(pids, signal.SIGKILL)
        self.nadi.process.wait()

    def insist_on_no_orphans(self, after: str) -> None:
        """Note the processes that outlived their supervisor."""
        deadline = time.monotonic() + _GONE_WITHIN_S
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        for each in left:
            with suppress(psutil.Error):
                self.orphans.append(f"after {after}: {shown(each)[:80]}")
        self.signal([each.pid for each in left], signal.SIGKILL)

    def reopen_database_as_it_lay(self) -> None:
        """Put copies of database and write-ahead log in their place; shared memory is lost."""
        if self.database_url is not None:
            return
        for name in ("nadi.db", "nadi.db-wal"):
            file, copy = self.data / name, self.folder / f"{name}.copy"
            # Away first: the disk may be full at the moment.
            if file.exists():
                shutil.move(file, copy)
                shutil.move(copy, file)
        (self.data / "nadi.db-shm").unlink(missing_ok=True)
