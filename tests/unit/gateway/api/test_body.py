import gzip
import zlib
from collections.abc import Callable

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from gateway.api.body import check_headers, place_of, read_body
from gateway.core.errors import GatewayError, MalformedJson, TooLarge, UnsupportedFormat


def request(pieces: list[bytes], **headers: str) -> Request:
    """A request whose body comes in pieces."""
    waiting = [*pieces]

    async def receive() -> dict[str, object]:
        piece = waiting.pop(0) if waiting else b""
        return {"type": "http.request", "body": piece, "more_body": bool(waiting)}

    named = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    return Request(
        {"type": "http", "method": "POST", "headers": named, "query_string": b""}, receive
    )


def read(pieces: list[bytes], *, most: int = 1000, expanded: int = 1000, **headers: str) -> bytes:
    async def run() -> bytes:
        sent = request(pieces, **headers)
        return await read_body(sent, max_bytes=most, max_decompressed=expanded)

    return anyio.run(run)


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=8), st.booleans())
def test_a_body_comes_back_as_it_was_sent_in_any_pieces(pieces: list[bytes], packed: bool):
    body = b"{" + b"".join(pieces)
    sent = gzip.compress(body) if packed else body
    cut = [sent[n : n + 7] for n in range(0, len(sent), 7)]

    assert read(cut, **({"content_encoding": "gzip"} if packed else {})) == body


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP ", "identity"])
def test_the_codings_that_are_read(coding: str):
    body = b"{}" if coding == "identity" else gzip.compress(b"{}")

    assert read([body], content_encoding=coding) == b"{}"


def refused(kind: type[GatewayError], act: Callable[[], object]) -> None:
    with pytest.raises(kind):
        act()


def test_a_body_of_exactly_the_limit_is_read_and_one_byte_more_is_not():
    assert read([b"x" * 10], most=10) == b"x" * 10
    refused(TooLarge, lambda: read([b"x" * 10, b"x"], most=10))
    refused(TooLarge, lambda: read([b""], most=10, content_length="11"))
    refused(TooLarge, lambda: read([b""], content_length="9" * 5000))


def test_a_length_that_is_no_number_is_the_servers_business():
    assert read([b"x"], content_length="-1") == b"x"


def test_an_expanded_body_of_exactly_the_limit_is_read_and_one_byte_more_is_not():
    packed = {"content_encoding": "gzip"}

    assert read([gzip.compress(b"x" * 500)], expanded=500, **packed) == b"x" * 500
    refused(TooLarge, lambda: read([gzip.compress(b"x" * 501)], expanded=500, **packed))


def test_a_bomb_is_dropped_before_it_is_expanded():
    bomb = gzip.compress(b"\x00" * 10_000_000)

    refused(TooLarge, lambda: read([bomb], most=100_000, expanded=1000, content_encoding="gzip"))


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(b"{}")[:-1],
        gzip.compress(b"{}") + b"x",
        gzip.compress(b"{}") + gzip.compress(b"{}"),
        zlib.compress(b"{}"),
        b"{}",
        b"",
    ],
    ids=["short", "followed", "two members", "zlib", "plain", "empty"],
)
def test_what_is_not_one_gzip_is_refused(body: bytes):
    refused(MalformedJson, lambda: read([body], content_encoding="gzip"))


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "zstd"])
def test_other_codings_are_refused(coding: str):
    refused(UnsupportedFormat, lambda: read([b"{}"], content_encoding=coding))


@pytest.mark.parametrize("body", [b"", b" \t\r\n"])
def test_an_empty_body_is_refused(body: bytes):
    refused(MalformedJson, lambda: read([body]))


@pytest.mark.parametrize(
    "kind",
    [
        "application/fhir+json",
        "application/json",
        "application/json+fhir",
        "text/json",
        "Application/FHIR+JSON; charset=UTF-8",
        'application/fhir+json; charset="utf-8"; fhirVersion=4.0',
        "application/fhir+json;fhirVersion=4.0.1",
    ],
)
def test_the_content_types_that_are_read(kind: str):
    check_headers(request([], content_type=kind))


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("", "application/fhir+json"),
        ("text/plain", "application/fhir+json"),
        ("application/xml", "XML"),
        ("application/fhir+xml", "XML"),
        ("application/fhir+json; charset=latin-1", "UTF-8"),
        ("application/fhir+json; charset*=utf-16''x", "UTF-8"),
        ("application/fhir+json; fhirVersion=3.0", "R4"),
        ("application/json; charset*=utf-8''utf-8; a*0*=x; a*=y", "parameters"),
        ("json", "application/fhir+json"),
    ],
)
def test_other_content_types_are_told_what_to_send(kind: str, says: str):
    with pytest.raises(UnsupportedFormat, match=says.replace("+", r"\+")):
        check_headers(request([], content_type=kind))


def test_a_place_is_named_but_a_name_that_can_be_no_elements_is_not_repeated():
    assert place_of(("actor", "roles", 1)) == "actor.roles.1"
    assert place_of(("actor", "Asha Rao, 1970")) == "actor.?"
