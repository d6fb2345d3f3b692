"""Call an ASGI application in this process, from tests that are not asynchronous themselves."""

from contextlib import ExitStack
from functools import partial
from typing import Any, Self

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI


class AsgiClient:
    """A blocking client of an application, which starts and ends with the block."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._stack = ExitStack()
        self._portal: BlockingPortal
        self._client: httpx.AsyncClient

    def __enter__(self) -> Self:
        self._portal = self._stack.enter_context(start_blocking_portal())
        lifespan = self._app.router.lifespan_context(self._app)
        self._stack.enter_context(self._portal.wrap_async_context_manager(lifespan))
        transport = httpx.ASGITransport(app=self._app, client=("192.0.2.7", 40000))
        client = httpx.AsyncClient(transport=transport, base_url="http://nadi.test")
        self._client = self._stack.enter_context(self._portal.wrap_async_context_manager(client))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        """Send a request and wait for its response."""
        return self._portal.call(partial(self._client.request, method, path, **given))

    def get(self, path: str, **given: Any) -> httpx.Response:
        return self.request("GET", path, **given)

    def post(self, path: str, **given: Any) -> httpx.Response:
        return self.request("POST", path, **given)

    def put(self, path: str, **given: Any) -> httpx.Response:
        return self.request("PUT", path, **given)

    def post_all(
        self, path: str, bodies: list[bytes], headers: dict[str, str]
    ) -> list[httpx.Response]:
        """Send many requests at once."""
        import anyio

        async def send() -> list[httpx.Response]:
            answers: dict[int, httpx.Response] = {}

            async def one(index: int, body: bytes) -> None:
                answers[index] = await self._client.post(path, content=body, headers=headers)

            async with anyio.create_task_group() as group:
                for index, body in enumerate(bodies):
                    group.start_soon(one, index, body)
            return [answers[index] for index in range(len(bodies))]

        return self._portal.call(send)
