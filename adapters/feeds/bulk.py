"""Bulk Data `$export`: ask for everything, wait, and read files line by line.

* The kick-off is answered with an address that is asked until the manifest is there, as patiently
  as the server wants (Retry-After), or longer and longer.
* A file is read as it comes, a line at a time; no more than one line is in memory. It can be
  continued from a byte where the server knows ranges; where it does not, the lines before are read
  over.
* A manifest may have pages: the files of all of them make the export.
* Status and files are asked for on the EHR's own origin only. Its credential goes with them, but
  not with files of which the manifest says that they need none (`requiresAccessToken`).

Source: FHIR Bulk Data Access 2.0 (http://hl7.org/fhir/uv/bulkdata/export.html), RFC 9110 Range.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any, Self
from urllib.parse import urlencode, urljoin, urlsplit

import orjson

from adapters.authorization import Login
from adapters.fhir_rest.answers import error_of, expect, read_retry_after
from adapters.fhir_rest.base_url import BaseUrl
from adapters.fhir_rest.errors import EhrAnswerUnreadable, ForeignAddress
from adapters.fhir_rest.transport import Streamed, Transport
from gateway.core.clock import utc_now
from gateway.core.errors import ConfigurationError, ProcessingError

_ACCEPTED, _PARTIAL = 202, 206
_GONE = frozenset({404, 410})
_NDJSON = {"Accept": "application/fhir+ndjson"}
_ASYNC = {"Prefer": "respond-async"}
_JSON = {"Accept": "application/json"}
_MAX_MANIFEST_BYTES = 32 * 2**20
_MAX_ERROR_BYTES = 64 * 2**10
#: A longer line is passed over.
MOST_LINE_BYTES = 15 * 2**20


class ExportGone(ProcessingError):
    """The EHR does not have this export any more; it has to be asked for again."""


@dataclass(frozen=True)
class ExportFile:
    """One file of an export.

    Attributes:
        kind: `output`, `deleted` or `error`.
        type: What its lines are.
        count: How many; None when it does not say.
        needs_token: Whether the EHR's credential goes with it; it must not where the EHR says so.
    """

    kind: str
    type: str
    url: str
    count: int | None
    needs_token: bool = True


@dataclass(frozen=True)
class Manifest:
    """What an export gave.

    Attributes:
        at: Its `transactionTime`: what changed after it is in none of the files.
        following: Address of its next page; empty where there is none.
    """

    at: str
    files: tuple[ExportFile, ...]
    following: str = ""

    def with_page(self, page: "Manifest") -> "Manifest":
        """Add the page that follows."""
        return Manifest(self.at, (*self.files, *page.files), page.following)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Self:
        """Read what `as_json` wrote."""
        files = tuple(ExportFile(**each) for each in kept["files"])
        return cls(kept["at"], files, kept.get("following", ""))

    def as_json(self) -> dict[str, Any]:
        """Give what is to be kept."""
        files = [vars(each) for each in self.files]
        return {"at": self.at, "files": files, "following": self.following}


@dataclass(frozen=True)
class Waiting:
    """The export is being made.

    Attributes:
        retry_after_s: When to ask again; None when it does not say.
        percent: How far it is; None when it does not say.
    """

    retry_after_s: float | None
    percent: int | None


@dataclass(frozen=True)
class Line:
    """One line of a file.

    Attributes:
        raw: Without its end; None where it is too long.
        end: Byte of the file after it; None where bytes can't be counted on.
    """

    raw: bytes | None
    end: int | None


class BulkClient:
    """The export of one EHR."""

    def __init__(
        self,
        base_url: str,
        *,
        login: Login,
        timeout_s: float,
        verify: SSLContext | bool = True,
        pace: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare the client; nothing is sent yet.

        Args:
            base_url: Service base URL.
            login: How Nadi identifies itself.
            timeout_s: Longest silence.
            verify: How the EHR's certificate is checked.
            pace: Waits, before each request, until it may leave.

        Raises:
            ConfigurationError: The base URL can't be used.
        """
        self._base = BaseUrl.parse(base_url)
        self._transport = Transport(
            login=login,
            timeout_s=timeout_s,
            max_response_bytes=_MAX_MANIFEST_BYTES,
            verify=verify,
            pace=pace,
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._transport.close()

    def kick_off(self, scope: str, params: Sequence[tuple[str, str]]) -> str:
        """Ask for an export; give the address of its status.

        Args:
            scope: `` for the system, `Patient`, or `Group/id`.
            params: Names and values, not yet encoded.

        Raises:
            TransientError: The EHR is away, or busy with another export.
            EhrRefused: It refuses, or does not know the operation.
            ForeignAddress: The address is not the EHR's.
        """
        path = f"{scope}/$export" if scope else "$export"
        url = f"{self._base.of(path)}?{urlencode(list(params))}"
        answer = self._transport.send("GET", url, headers=_ASYNC)
        if answer.status != _ACCEPTED:
            raise error_of(answer.status, answer.headers, answer.body, utc_now())
        location = answer.headers.get("content-location")
        if not location:
            raise EhrAnswerUnreadable
        return self._own(location)

    def status(self, url: str) -> Manifest | Waiting:
        """Ask how far an export is.

        Raises:
            TransientError: The EHR is away, or the export failed for now.
            ExportGone: It is not there any more.
            EhrRefused: It failed.
        """
        answer = self._transport.send("GET", self._own(url), headers=_JSON)
        if answer.status == _ACCEPTED:
            retry_after_s = read_retry_after(answer.headers.get("retry-after", ""), utc_now())
            return Waiting(retry_after_s, _percent(answer.headers.get("x-progress", "")))
        if answer.status in _GONE:
            raise ExportGone
        return _manifest(expect(answer).body)

    def delete(self, url: str) -> None:
        """Let the EHR remove an export; whether it does is its own affair.

        Raises:
            TransientError: It is away.
        """
        self._transport.send("DELETE", self._own(url))

    def lines(
        self, url: str, *, after_byte: int, after_line: int, needs_token: bool = True
    ) -> Iterator[Line]:
        """Read a file, from where it was left.

        Args:
            url: Of the file.
            after_byte: So much of it was read; 0 where that is not known.
            after_line: So many lines of it were read.
            needs_token: Whether the EHR's credential goes with it.

        Raises:
            TransientError: The EHR is away, or the connection broke.
            ExportGone: The file is not there any more.
            EhrRefused: It refuses.
        """
        headers = _NDJSON | ({"Range": f"bytes={after_byte}-"} if after_byte else {})
        own = self._own(url)
        with self._transport.stream(own, headers, has_credential=needs_token) as streamed:
            _insist(streamed)
            is_continued = streamed.status == _PARTIAL
            start = after_byte if is_continued else 0
            skipped = 0 if is_continued else after_line
            for number, line in enumerate(_split(streamed, start)):
                if number >= skipped:
                    yield line

    def _own(self, url: str) -> str:
        """Insist that an address is of the EHR's own origin.

        Raises:
            ForeignAddress: It is not.
        """
        absolute = urljoin(f"{self._base.text}/", url)
        found = urlsplit(absolute)
        try:
            given = BaseUrl.parse(f"{found.scheme}://{found.netloc}")
        except ConfigurationError:
            raise ForeignAddress from None
        if given.origin != self._base.origin or found.fragment:
            raise ForeignAddress
        return absolute


def _split(streamed: Streamed, start: int) -> Iterator[Line]:
    """Cut what comes into lines; the rest of one that is too long is not kept."""
    end, rest, is_long = start, bytearray(), False
    for piece in streamed.pieces():
        *whole, left = piece.split(b"\n")
        for part in whole:
            rest += part
            end += len(part) + 1
            yield Line(None if is_long else bytes(rest), end if streamed.is_plain else None)
            rest, is_long = bytearray(), False
        rest += left
        end += len(left)
        if len(rest) > MOST_LINE_BYTES:
            rest, is_long = bytearray(), True
    if rest or is_long:
        yield Line(None if is_long else bytes(rest), end if streamed.is_plain else None)


def _insist(streamed: Streamed) -> None:
    if streamed.status in _GONE:
        raise ExportGone
    if streamed.status not in {200, _PARTIAL}:
        body = streamed.body(_MAX_ERROR_BYTES)
        raise error_of(streamed.status, streamed.headers, body, utc_now())


def _manifest(body: bytes) -> Manifest:
    try:
        found = orjson.loads(body)
        # What it does not say is as it was before there was the element: the credential is asked.
        needs_token = found.get("requiresAccessToken") is not False
        links = {each["relation"]: str(each["url"]) for each in found.get("link") or ()}
        files = [
            ExportFile(
                kind, str(each["type"]), str(each["url"]), _count(each.get("count")), needs_token
            )
            for kind in ("output", "deleted", "error")
            for each in found.get(kind) or ()
        ]
        return Manifest(str(found["transactionTime"]), tuple(files), links.get("next", ""))
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        raise EhrAnswerUnreadable from None


def _count(written: object) -> int | None:
    return written if isinstance(written, int) else None


def _percent(progress: str) -> int | None:
    """Read `X-Progress` as far as it is a number; the rest is the server's own text."""
    digits = progress.strip().partition("%")[0].strip()
    return min(int(digits), 100) if digits.isdecimal() and "%" in progress else None
