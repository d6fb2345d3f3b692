"""A client that talks to the ASGI application of the sandbox without a socket."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from adapters.sandbox.server import SandboxOptions, create_app

Ask = Callable[..., httpx.Response]


class Ehr:
    """The sandbox EHR, asked one request at a time."""

    def __init__(self, options: SandboxOptions | None = None) -> None:
        self._app = create_app(options)
        self._transport = httpx.ASGITransport(self._app)

    def ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        async def once() -> httpx.Response:
            client = httpx.AsyncClient(transport=self._transport, base_url="http://ehr.test")
            return await client.request(method, path, **arguments)

        return asyncio.run(once())

    def shut_down(self) -> None:
        """Go through the lifespan, at the end of which files are closed."""
        messages = iter(["lifespan.startup", "lifespan.shutdown"])
        told: list[str] = []

        async def receive() -> Any:
            return {"type": next(messages)}

        async def send(message: Any) -> None:
            told.append(message["type"])

        asyncio.run(self._app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send))
        assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    def ids(self, path: str, **arguments: Any) -> list[str]:
        """Search and give the ids found, in their order."""
        answer = self.ask("GET", path, **arguments)
        assert answer.status_code == 200, answer.text
        return [entry["resource"]["id"] for entry in answer.json().get("entry", [])]

    def put(self, resource: dict[str, Any]) -> httpx.Response:
        path = f"/fhir/{resource['resourceType']}/{resource['id']}"
        answer = self.ask("PUT", path, json=resource)
        assert answer.is_success, answer.text
        return answer


@pytest.fixture
def ehr() -> Ehr:
    return Ehr()


@pytest.fixture
def make_ehr() -> Callable[[SandboxOptions], Ehr]:
    return Ehr
