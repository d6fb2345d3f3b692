"""What an EHR answers that Nadi can't use: tables of docs/polling.md and docs/backfill.md.

A poll and a feed that meet it wait, say so in `nadi doctor`, and ask again; what is not the EHR's
own is never asked.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import orjson

from adapters.authorization import NO_LOGIN, GivenLogin
from adapters.feeds.atom_client import AtomClient
from adapters.feeds.bulk import MOST_LINE_BYTES, BulkClient
from adapters.fhir_rest.client import FhirClient
from adapters.fhir_rest.errors import (
    EhrAnswerTooLarge,
    EhrAnswerUnreadable,
    EhrRefused,
    ForeignAddress,
)
from gateway.core.errors import GatewayError, TransientError

FOREIGN = "http://thief.test"
_DTD = b"""<?xml version="1.0"?><!DOCTYPE feed [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>
<feed xmlns="http://www.w3.org/2005/Atom"><title>&b;</title></feed>"""
_OUTSIDE = b"""<?xml version="1.0"?><!DOCTYPE feed [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<feed xmlns="http://www.w3.org/2005/Atom"><title>&x;</title></feed>"""
_MOST_BYTES = 2**16


@dataclass(frozen=True)
class BadAnswer:
    """One case.

    Attributes:
        what: For the table; unique.
        error: What becomes of it.
        body: Of the answer.
        headers: Of the answer.
        says: What Nadi says, where it is not what the error says of itself.
    """

    what: str
    error: type[GatewayError]
    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    says: str = ""


def _page(link: str) -> bytes:
    links = [{"relation": "next", "url": link}]
    return orjson.dumps({"resourceType": "Bundle", "type": "searchset", "link": links})


def polls() -> Iterator[BadAnswer]:
    """Give what a search may be answered with."""
    foreign = _page(f"{FOREIGN}/fhir?page=2")
    yield BadAnswer("a page whose next link leaves the base URL", ForeignAddress, foreign)
    up = _page("../admin?page=2")
    yield BadAnswer("a next link that climbs out of the base path", ForeignAddress, up)
    yield BadAnswer("HTML, as a proxy or a login page", EhrAnswerUnreadable, b"<html>")
    yield BadAnswer("JSON that is no Bundle", EhrAnswerUnreadable, b'{"resourceType": "Patient"}')
    yield BadAnswer(
        "more bytes than are read of an answer", EhrAnswerTooLarge, b" " * (_MOST_BYTES + 1)
    )
    moved = {"Location": f"{FOREIGN}/login"}
    yield BadAnswer("a redirect", EhrRefused, status=302, headers=moved)
    yield BadAnswer("403", EhrRefused, status=403)


def pages() -> Iterator[BadAnswer]:
    """Give what a page of an Atom feed may be."""
    for what, body in (
        ("a page with a DTD and entities", _DTD),
        ("an entity from outside", _OUTSIDE),
        ("XML that is no feed", b"<feed/>"),
        ("HTML, as a login page", b"<html><p>Sign in</html>"),
        ("a page that was cut short", b'<feed xmlns="http://www.w3.org/2005/Atom"><title>'),
    ):
        says = "This is no Atom feed, or one with a DTD; a login page may have answered."
        yield BadAnswer(what, EhrAnswerUnreadable, body, says=says)
    moved = {"Location": f"{FOREIGN}/login"}
    yield BadAnswer("a redirect to another host", EhrRefused, status=302, headers=moved)
    yield BadAnswer("403 to a page", EhrRefused, status=403)


@dataclass(frozen=True)
class BadExport(BadAnswer):
    """One case of an export.

    Attributes:
        asks: What is asked for: `kick-off`, `status` or `file`.
        at: The address that is asked; empty for one of the EHR's own.
    """

    asks: str = "status"
    at: str = ""


def exports() -> Iterator[BadExport]:
    """Give what an export may be answered with."""
    unreadable = EhrAnswerUnreadable
    yield BadExport("a kick-off without an address", unreadable, status=202, asks="kick-off")
    there = {"Content-Location": f"{FOREIGN}/x"}
    yield BadExport(
        "a kick-off with an address of another origin",
        ForeignAddress,
        status=202,
        headers=there,
        asks="kick-off",
    )
    yield BadExport("a kick-off that is answered 403", EhrRefused, status=403, asks="kick-off")
    yield BadExport("a manifest that is no JSON", unreadable, b"<html>")
    yield BadExport("a manifest that is no object", unreadable, b"[]")
    yield BadExport("a manifest without transactionTime", unreadable, b'{"output": []}')
    bare = b'{"transactionTime": "2026-01-01T00:00:00Z", "output": [{"type": "Patient"}]}'
    yield BadExport("a file without an address in the manifest", unreadable, bare)
    yield BadExport(
        "a file of another origin", ForeignAddress, asks="file", at=f"{FOREIGN}/1.ndjson"
    )
    yield BadExport("a file with an address of no web", ForeignAddress, asks="file", at="file:///x")
    yield BadExport("a file that is answered 403", EhrRefused, status=403, asks="file")


#: A line of a file that is not read: what it is, the file, and what becomes of it.
LONG_LINE = (
    "a line of more than 15 MB in a file",
    b"x" * (MOST_LINE_BYTES + 2**20) + b"\n{}\n",
    "passed over, and counted as refused",
)


def search(base: str) -> None:
    """Ask what changed, all pages."""
    with_size = {"timeout_s": 5, "max_response_bytes": _MOST_BYTES}
    client = FhirClient(f"{base}/fhir", login=GivenLogin("Bearer secret"), **with_size)
    _closing(client, lambda: list(client.pages("Observation", [("_count", "5")])))


def read_feed(base: str) -> None:
    """Read the newest page of a feed."""
    client = AtomClient(f"{base}/atomfeed", login=GivenLogin("Bearer secret"), timeout_s=5)
    _closing(client, lambda: client.page("patient", None))


def export(base: str, case: BadExport) -> None:
    """Ask for a part of an export."""
    client = BulkClient(f"{base}/fhir", login=GivenLogin("Bearer secret"), timeout_s=5)
    at = case.at or f"{base}/bulk/1"
    asked: Mapping[str, Callable[[], object]] = {
        "kick-off": lambda: client.kick_off("", []),
        "status": lambda: client.status(at),
        "file": lambda: list(client.lines(at, after_byte=0, after_line=0)),
    }
    _closing(client, asked[case.asks])


def lines_of(base: str) -> list[bytes | None]:
    """Read a file of an export; None for a line that is passed over."""
    client = BulkClient(f"{base}/fhir", login=NO_LOGIN, timeout_s=20)
    try:
        return [each.raw for each in client.lines(f"{base}/1", after_byte=0, after_line=0)]
    finally:
        client.close()


def _closing(client: FhirClient | AtomClient | BulkClient, ask: Callable[[], object]) -> None:
    try:
        ask()
    finally:
        client.close()


def said(case: BadAnswer) -> str:
    """Give what Nadi says of an answer."""
    if case.says:
        return case.says
    return EhrRefused(case.status).message if case.error is EhrRefused else case.error().message


def polled() -> str:
    """Write the table of searches."""
    lines = ["| a search is answered with | `nadi doctor` says |", "|---|---|"]
    return "\n".join([*lines, *(f"| {each.what} | {said(each)} |" for each in polls())]) + "\n"


def fed() -> str:
    """Write the table of feeds."""
    lines = ["| a feed is answered with | `nadi doctor` says |", "|---|---|"]
    return "\n".join([*lines, *(f"| {each.what} | {said(each)} |" for each in pages())]) + "\n"


def exported() -> str:
    """Write the table of exports."""
    lines = ["| an export is answered with | said | and then |", "|---|---|---|"]
    for case in exports():
        then = "asked again" if issubclass(case.error, TransientError) else "it ends"
        lines.append(f"| {case.what} | {said(case)} | {then} |")
    lines.append(f"| {LONG_LINE[0]} | | {LONG_LINE[2]} |")
    return "\n".join(lines) + "\n"
