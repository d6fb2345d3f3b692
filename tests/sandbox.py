"""The sandbox EHR on a real socket, in this process, for tests of what speaks HTTP with it."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from adapters.sandbox.server import SandboxOptions, create_app
from tests.running import TLS

TOKEN = "sandbox-token"  # noqa: S105


class SandboxEhr:
    """The sandbox EHR on a real socket."""

    def __init__(
        self, validate: Callable[[bytes], object] | None = None, journal: Path | None = None
    ) -> None:
        self.journal = journal
        app = create_app(SandboxOptions(token=TOKEN, validate=validate, journal=journal))
        config = uvicorn.Config(app, port=0, log_level="critical", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.origin = f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    def faults(self, **faults: Any) -> None:
        self._call("POST", "/sandbox/faults", faults)

    def stats(self) -> Any:
        return self._call("GET", "/sandbox/stats")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = httpx.request(method, self.origin + path, json=body, headers=headers, verify=TLS)
        return answer.raise_for_status().json()
