"""Read a request's body within limits, and insist on FHIR R4 JSON.

Nothing is decoded before its size is known: a compressed body is expanded piece by piece and
dropped as soon as it passes the limit.

Source: FHIR R4 http.html#mime-type; RFC 9110 section 8.4 (content codings).
"""

import zlib
from collections.abc import AsyncIterator, Sequence
from email.message import Message
from functools import lru_cache

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from gateway.core.errors import ContentError, MalformedJson, TooLarge, UnsupportedFormat
from gateway.core.r4_json import ELEMENT_NAME

_JSON_TYPES = frozenset(
    {"application/fhir+json", "application/json", "application/json+fhir", "text/json"}
)
_GZIP = 16 + zlib.MAX_WBITS
_ACCEPTABLE = ("*/*", "application/*", "json", "text/*")


class NotAcceptable(ContentError):
    """This gateway answers in FHIR R4 JSON (application/fhir+json) only."""

    issue_type = "not-supported"


def check_headers(request: Request) -> None:
    """Insist that the body is JSON of FHIR R4.

    Raises:
        UnsupportedFormat: Another content type, charset or FHIR version.
    """
    problem = _problem_of(request.headers.get("content-type", ""))
    if problem is not None:
        raise UnsupportedFormat(problem)


@lru_cache(maxsize=64)
def _problem_of(content_type: str) -> str | None:
    """Say why a content type is not read here; a system sends the same one every time."""
    media = Message()
    media["content-type"] = content_type
    kind = media.get_content_type() if content_type else "no content type"
    if kind not in _JSON_TYPES:
        return _explain_type(kind)
    try:
        charset, version = (
            media.get_param("charset", "utf-8"),
            media.get_param("fhirVersion", "4.0"),
        )
    except TypeError:  # a parameter in pieces (RFC 2231), some numbered and some not
        return "The parameters of the Content-Type can't be read: send application/fhir+json."
    if str(charset).lower() not in {"utf-8", "utf8"}:
        return "The charset has to be UTF-8."
    if str(version) not in {"4.0", "4.0.1"}:
        return "This gateway speaks FHIR R4 (fhirVersion=4.0)."
    return None


def check_accept(request: Request) -> None:
    """Insist that the caller reads JSON; `_format` overrides the Accept header.

    Raises:
        NotAcceptable: The caller rules JSON out.
    """
    wanted = request.query_params.get("_format")
    accept = (wanted or request.headers.get("accept") or "*/*").lower()
    if not any(kind in accept for kind in _ACCEPTABLE):
        raise NotAcceptable


def _explain_type(kind: str) -> str:
    if "xml" in kind:
        return "FHIR XML is not read here: send FHIR R4 JSON with application/fhir+json."
    return "Send FHIR R4 JSON with Content-Type application/fhir+json."


def place_of(location: Sequence[int | str]) -> str:
    """Name a place in a body that is no FHIR; a name that can be no element's is not repeated."""
    steps = [str(step) for step in location]
    named = [step if step.isdecimal() or ELEMENT_NAME.fullmatch(step) else "?" for step in steps]
    return ".".join(named)


async def read_body(request: Request, *, max_bytes: int, max_decompressed: int) -> bytes:
    """Read and, where it is gzipped, expand the body.

    Raises:
        TooLarge: It passes a limit before or after expansion.
        UnsupportedFormat: A content coding other than gzip.
        MalformedJson: It is empty, or not the gzip it says it is.
    """
    coding = request.headers.get("content-encoding", "identity").lower().strip()
    if coding not in {"identity", "gzip", "x-gzip"}:
        raise UnsupportedFormat("The only content coding read here is gzip.")
    stream = _limited(request, max_bytes)
    if coding == "identity":
        body = b"".join([piece async for piece in stream])
    else:
        body = await _gunzip(stream, max_decompressed)
    if not body.strip():
        raise MalformedJson("The body is empty.")
    return body


async def _limited(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    declared = request.headers.get("content-length", "")
    # More than 18 digits is larger than any limit, and not worth the arithmetic.
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > max_bytes):  # noqa: PLR2004
        raise TooLarge(f"A body may have at most {max_bytes} bytes.")
    seen = 0
    async for piece in request.stream():
        seen += len(piece)
        if seen > max_bytes:
            raise TooLarge(f"A body may have at most {max_bytes} bytes.")
        yield piece


async def _gunzip(stream: AsyncIterator[bytes], limit: int) -> bytes:
    expander = zlib.decompressobj(_GZIP)
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in stream:
            # A small piece may become many megabytes: nobody else waits for that.
            most = limit + 1 - size
            pieces.append(await run_in_threadpool(expander.decompress, piece, most))
            size += len(pieces[-1])
            if size > limit:
                raise TooLarge(f"A body may have at most {limit} bytes after expansion.")
    except zlib.error as error:
        raise MalformedJson("The body is not the gzip it says it is.") from error
    if not expander.eof or expander.unused_data:
        raise MalformedJson("The gzip body is cut short or followed by something else.")
    return b"".join(pieces)
