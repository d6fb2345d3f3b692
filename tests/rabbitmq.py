"""A real RabbitMQ of a test's own, where Debian's `rabbitmq-server` is installed.

Each node has its own names, ports and folder, so that several may run beside the system's.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.running import free_ports

# Not the one in /usr/sbin: that becomes the system's user and takes the system's names.
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
MISSING = "RabbitMQ (Debian: apt install rabbitmq-server) is not on this machine"
_READY_WITHIN_S = 90.0


class RabbitMq:
    """One node that a test may kill and start again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self._epmd, distribution = free_ports(3)
        self.url = f"amqp://guest:guest@127.0.0.1:{self._port}//"
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            **os.environ,
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"nadi-{self._port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "none"),
        }

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        with (self._folder / "out").open("ab") as out:
            self._process = subprocess.Popen(
                [PROGRAM], env=self._environment, stdout=out, stderr=out, start_new_session=True
            )
        deadline = time.monotonic() + _READY_WITHIN_S
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError((self._folder / "out").read_text())
            time.sleep(0.1)

    @property
    def pids(self) -> list[int]:
        """Its processes; none while it is down."""
        if self._process is None:
            return []
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(self._process.pid)
            return [each.pid for each in (first, *first.children(recursive=True))]
        return []

    def stop(self, within_s: float = 20.0) -> None:
        """End it as an operator would; kill it if that takes too long."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(within_s)
            self.kill()

    def kill(self) -> None:
        """Kill it as a power cut would."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def end(self) -> None:
        """Kill it, and the name server that it started beside itself."""
        self.kill()
        subprocess.run(
            ["epmd", "-port", str(self._epmd), "-kill"],
            check=False,
            capture_output=True,
            timeout=30,
        )

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=5) as s:
            # It listens before it speaks; a wrong greeting is answered with the right one.
            s.sendall(b"AMQP\x00\x00\x00\x00")
            return s.recv(8).startswith(b"AMQP")
        return False


@contextmanager
def node(folder: Path) -> Iterator[RabbitMq]:
    """Run a node in a folder."""
    made = RabbitMq(folder)
    made.start()
    try:
        yield made
    finally:
        made.end()
