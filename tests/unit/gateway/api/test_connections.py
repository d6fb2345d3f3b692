"""What one connection and one address may take, on a real server on this machine's own network."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvicorn

from gateway.api.connections import bounded
from gateway.core.fhir import parse_resource
from gateway.settings import Settings

LIMITS = {
    "max_connections": 12,
    "max_connections_per_address": 8,
    "max_header_bytes": 4096,
    "header_timeout_s": 0.3,
    "body_timeout_s": 0.5,
    "write_timeout_s": 0.3,
}
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PUSH = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


async def app(scope, receive, send):
    """Read all of the body, then answer with its size; `/much` answers with 64 MB."""
    size, more = 0, scope["type"] == "http"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"x" * 2**26 if scope["path"] == "/much" else str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def serving() -> AsyncIterator[uvicorn.Server]:
    protocol = bounded(Settings(**LIMITS))
    config = uvicorn.Config(app, port=0, http=protocol, ws="none", log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None
    task = asyncio.create_task(server.serve())
    for _ in range(500):
        if server.started:
            break
        await asyncio.sleep(0.01)
    try:
        yield server
    finally:
        server.should_exit = server.force_exit = True
        await task


async def connected(server: uvicorn.Server):
    port = server.servers[0].sockets[0].getsockname()[1]
    return await asyncio.open_connection("127.0.0.1", port)


async def answer(reader: asyncio.StreamReader) -> bytes:
    """Everything until the server closes."""
    return await asyncio.wait_for(reader.read(-1), 5)


def on_a_server(told: Callable[[uvicorn.Server], Awaitable[None]]) -> None:
    async def run() -> None:
        async with serving() as server:
            await told(server)

    asyncio.run(run())


def insist_on_refusal(received: bytes, status: int, code: str) -> None:
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), received[:200]
    assert b"application/fhir+json" in head
    outcome = parse_resource(body, expected_type="OperationOutcome").content
    assert outcome["issue"][0]["code"] == code


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        GET + b"GET / HTTP/1.1\r\n",
        PUSH + b"{",
    ],
    ids=["nothing", "half a line", "half a header", "half a second request", "half a body"],
)
def test_who_does_not_finish_a_request_is_dropped_in_time(sent: bytes):
    async def told(server):
        reader, writer = await connected(server)
        writer.write(sent)
        received = await answer(reader)
        last = received[received.rindex(b"HTTP/1.1") :]
        insist_on_refusal(last, 408, "timeout")
        writer.close()

    on_a_server(told)


def test_who_drips_headers_byte_by_byte_is_dropped_all_the_same():
    async def told(server):
        reader, writer = await connected(server)
        dropped = asyncio.create_task(answer(reader))
        writer.write(b"GET / HTTP/1.1\r\nX: ")
        for _ in range(40):
            if dropped.done():
                break
            writer.write(b"a")
            await asyncio.sleep(0.05)
        insist_on_refusal(await dropped, 408, "timeout")
        writer.close()

    on_a_server(told)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000,
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 30_000,
        CHUNKED + b"1;" + b"e" * 100_000,
        CHUNKED + b"0\r\nX: " + b"t" * 100_000,
    ],
    ids=["one header", "address", "many headers", "chunk extension", "trailer"],
)
def test_endless_headers_are_refused_before_they_fill_the_memory(sent: bytes):
    async def told(server):
        reader, writer = await connected(server)
        received = asyncio.create_task(answer(reader))
        for start in range(0, len(sent), 5000):
            writer.write(sent[start : start + 5000])
            await asyncio.sleep(0.001)
        insist_on_refusal(await received, 431, "too-long")
        writer.close()

    on_a_server(told)


def test_more_connections_of_one_address_than_allowed_are_told_to_come_again():
    async def told(server):
        held = [await connected(server) for _ in range(LIMITS["max_connections_per_address"])]
        reader, writer = await connected(server)
        received = await answer(reader)
        insist_on_refusal(received, 503, "throttled")
        assert b"Retry-After: 1" in received
        for _, each in [*held, (reader, writer)]:
            each.close()
        await asyncio.sleep(0.05)
        reader, writer = await connected(server)
        writer.write(GET)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()

    on_a_server(told)


def test_who_does_not_read_the_answer_is_dropped():
    async def told(server):
        reader, writer = await connected(server)
        writer.write(GET.replace(b"/ ", b"/much ", 1))
        for _ in range(100):
            await asyncio.sleep(0.05)
            if not server.server_state.connections:
                break
        assert not server.server_state.connections
        writer.close()
        assert reader is not None

    on_a_server(told)


def test_hundreds_of_requests_behind_one_another_end_the_connection():
    async def told(server):
        reader, writer = await connected(server)
        writer.write(CHUNKED + GET * 2000)
        assert len(await answer(reader)) < 100_000
        writer.close()

    on_a_server(told)


def test_what_is_no_http_is_refused_in_fhir():
    async def told(server):
        reader, writer = await connected(server)
        writer.write(gzip.compress(b"hello") + b"\r\n\r\n")
        insist_on_refusal(await answer(reader), 400, "structure")
        writer.close()

    on_a_server(told)


def test_a_large_body_in_small_chunks_is_taken():
    async def told(server):
        reader, writer = await connected(server)
        writer.write(CHUNKED + b"2\r\nab\r\n" * 20_000 + b"0\r\n\r\n")
        received = await asyncio.wait_for(reader.readuntil(b"40000"), 5)
        assert received.startswith(b"HTTP/1.1 200")
        writer.close()

    on_a_server(told)


def test_a_connection_is_used_again_as_long_as_its_requests_are_whole():
    async def told(server):
        reader, writer = await connected(server)
        for _ in range(20):
            writer.write(GET)
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n0"), 5)).startswith(
                b"HTTP/1.1 200"
            )
            await asyncio.sleep(0.02)
        writer.close()

    on_a_server(told)
