"""The short way in (`gateway.api.front`) against the same endpoints behind FastAPI's routing.

Both stand in every API process; here each is called in turn, without a socket and a server, with
the same requests, 64 under way at once. What is compared is the CPU of all that a request takes:
reading, validating, storing in a group commit, and the framework or not. Then the same of an
endpoint that does nothing but read the body, which leaves what the framework itself takes.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.arrivals import singles
from benchmarks.figures import Figures, Sample, Turn, by_turns, condensed
from benchmarks.folders import prepared
from benchmarks.result import Scale
from benchmarks.workload import Post
from gateway import telemetry
from gateway.api.front import Front
from gateway.app import build
from gateway.settings import Settings

SHORT, FRAMEWORK, CPU = "short way in", "behind FastAPI", "CPU µs per resource"
BARE = "CPU µs where the endpoint does nothing"
_ROUNDS = 5
_AT_ONCE = 64
_ACCEPTED = 202
_SECOND_US = 1e6
_PATH = "/fhir/{type}"

Message = MutableMapping[str, Any]
App = Callable[..., Awaitable[None]]


def ways_in(scale: Scale) -> Figures:
    """Measure both ways by turns."""
    with TemporaryDirectory(prefix="bench-http-") as name:
        folder = Path(name) / "data"
        prepared(folder).store.close()
        token = (folder / "credentials" / "ehr.token").read_text("ascii").strip()
        settings = Settings(data_dir=folder, canary_every_s=0, log_level="error")
        telemetry.configure("benchmark", settings)
        app = build(settings)
        ways: dict[str, App] = {SHORT: app, FRAMEWORK: partial(FastAPI.__call__, app)}
        count = scale.pick(1024, 128)
        with asyncio.Runner() as runner:
            lifespan = app.router.lifespan_context(app)
            runner.run(lifespan.__aenter__())
            bare = _bare(app)
            turns = {
                way: _turn(runner, (call, bare[way]), token, (way, count))
                for way, call in ways.items()
            }
            for turn in turns.values():
                turn(-1)  # warm
            cost = condensed(by_turns(turns, scale.pick(_ROUNDS, 1), scale.tell, scale.within_s))
            runner.run(lifespan.__aexit__(None, None, None))
    return cost


def _bare(app: FastAPI) -> dict[str, App]:
    """Give both ways in, as an application has them, before an endpoint that does nothing."""

    async def answer(request: Request) -> Response:
        await request.body()
        return Response(status_code=_ACCEPTED)

    one = Route(_PATH, answer, methods=["POST"])
    framework = FastAPI(
        routes=[one if getattr(each, "path", "") == _PATH else each for each in app.router.routes],
        middleware=app.user_middleware,
        exception_handlers=dict(app.exception_handlers),
    )
    front = Front(framework, base=answer, create=answer, update=answer, delete=answer, cards=answer)
    return {SHORT: front, FRAMEWORK: framework}


def _turn(
    runner: asyncio.Runner, apps: tuple[App, App], token: str, asked: tuple[str, int]
) -> Turn:
    way, count = asked

    def turn(number: int) -> Sample:
        posts = singles(count, f"{way[:5]}-{number}")
        sample = {}
        for name, app in zip((CPU, BARE), apps, strict=True):
            began = time.process_time()
            runner.run(_push(app, posts, token))
            sample[name] = (time.process_time() - began) / count * _SECOND_US
        return sample

    return turn


async def _push(app: App, posts: Sequence[Post], token: str) -> None:
    waiting = iter(posts)

    async def client() -> None:
        for post in waiting:
            status = await _call(app, post, token)
            if status != _ACCEPTED:
                raise RuntimeError(f"a resource was answered {status}")

    await asyncio.gather(*(client() for _ in range(_AT_ONCE)))


async def _call(app: App, post: Post, token: str) -> int:
    """Make one request of an ASGI application; give the status of its answer."""
    headers = {
        "host": "127.0.0.1",
        "content-type": "application/fhir+json",
        "authorization": f"Bearer {token}",
        "content-length": str(len(post.body)),
    }
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": post.path,
        "raw_path": post.path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    status = 0

    async def receive() -> Message:
        return {"type": "http.request", "body": post.body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]

    await app(scope, receive, send)
    return status
