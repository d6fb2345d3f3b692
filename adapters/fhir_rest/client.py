"""The client of one EHR: what the workers use to look for missing inputs and to write results.

* Credentials go to the EHR's base URL only; redirects are not followed, proxy and netrc settings
  of the environment are not read.
* An answer is read up to a limit of bytes and seconds, whatever the EHR sends.
* Searches go as `POST _search`, so that patient ids do not stand in URLs and access logs; an EHR
  that does not know it is asked by GET from then on.
* No error holds anything of a request or an answer. httpx logs URLs at INFO under the name
  `httpx` and httpcore more at DEBUG: telemetry keeps both at WARNING.

Source: FHIR R4 RESTful API (http://hl7.org/fhir/R4/http.html).
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import orjson

from adapters.authorization import Login
from adapters.fhir_rest.answers import (
    Content,
    EhrCapabilities,
    Presence,
    WriteOutcome,
    expect,
    issue_codes,
    read_capabilities,
    read_content,
    read_json,
    sent_at,
)
from adapters.fhir_rest.base_url import BaseUrl, reference_in
from adapters.fhir_rest.errors import EhrAnswerTooLarge, EhrAnswerUnreadable, SearchNotWhole
from adapters.fhir_rest.transport import Answer, Transport

_FORM = "application/x-www-form-urlencoded"
_NO_POST_SEARCH = frozenset({404, 405, 415, 501})
_ABSENT = {404: Presence.UNKNOWN, 410: Presence.DELETED}
_ANY_CONTENT = {"Accept": "application/fhir+json, */*;q=0.5"}
_AROUND_CONTENT = 64 * 1024


class FhirClient:
    """Reads from and writes to one EHR; safe to share among threads."""

    def __init__(
        self,
        base_url: str,
        *,
        login: Login,
        timeout_s: float,
        max_response_bytes: int,
        verify: SSLContext | bool = True,
        pace: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare the client; nothing is sent yet.

        Args:
            base_url: Service base URL, for example `https://ehr.local/fhir`.
            login: How Nadi identifies itself.
            timeout_s: For every step of a request and for the whole of it.
            max_response_bytes: Of one answer, after decompression.
            verify: How the EHR's certificate is checked.
            pace: Waits, before each request, until it may leave.

        Raises:
            ConfigurationError: The base URL can't be used.
        """
        self._base = BaseUrl.parse(base_url)
        self._is_get_search_only = False
        self._transport = Transport(
            login=login,
            timeout_s=timeout_s,
            max_response_bytes=max_response_bytes,
            verify=verify,
            pace=pace,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the pooled connections."""
        self._transport.close()

    def capabilities(self) -> EhrCapabilities:
        """Ask the EHR what it can do; the caller keeps the answer.

        Raises:
            TransientError: The EHR is away.
            EhrRefused: It does not say.
        """
        answer = expect(self._transport.send("GET", self._base.of("metadata")))
        return read_capabilities(read_json(answer.body))

    def told_time(self) -> datetime | None:
        """Ask what time it is there; None where the answer, whatever it is, doesn't say.

        Raises:
            TransientError: The EHR is away.
        """
        url, headers = self._base.of("metadata"), {"Cache-Control": "no-cache"}
        answer = self._transport.send("HEAD", url, headers=headers)
        # With an Age it comes out of a cache, and its Date is of the past (RFC 9111 section 5.1).
        return None if "age" in answer.headers else sent_at(answer.headers.get("date", ""))

    def search(
        self,
        resource_type: str,
        params: Sequence[tuple[str, str]],
        *,
        max_pages: int = 5,
        is_whole: bool = False,
    ) -> list[dict[str, Any]]:
        """Search one type and give the matches in the EHR's order.

        Matches beyond `max_pages` are left out: sort so that those that matter come first. An EHR
        may ignore a parameter it does not know, so check that what is found is what was meant.

        Args:
            resource_type: For example `Observation`.
            params: Names and values, not yet encoded.
            max_pages: Pages read at most.
            is_whole: Only all the matches will do.

        Raises:
            SearchNotWhole: There are more pages, and all were wanted.
            TransientError: The EHR is away.
            EhrRefused: It refuses the search.
            ForeignAddress: A page link leaves the base URL.
            EhrAnswerTooLarge: A page is larger than allowed.
        """
        page = _bundle(self._first_page(resource_type, urlencode(list(params))))
        found = list(_matches(page, resource_type))
        for _ in range(max_pages - 1):
            following = _next_link(page)
            if following is None:
                break
            page = _bundle(expect(self._transport.send("GET", self._base.resolve(following))))
            found.extend(_matches(page, resource_type))
        if is_whole and _next_link(page) is not None:
            raise SearchNotWhole
        return found

    def pages(
        self, resource_type: str, params: Sequence[tuple[str, str]]
    ) -> Iterator[tuple[bytes, datetime | None]]:
        """Search one type and give every page as the EHR wrote it, with the EHR's time.

        Pages are asked for one by one, so that only one is in memory.

        Raises:
            TransientError: The EHR is away, or its links lead back to a page before.
            EhrRefused: It refuses the search.
            ForeignAddress: A page link leaves the base URL.
            EhrAnswerTooLarge: A page is larger than allowed.
        """
        yield from self._walk(self._first_page(resource_type, urlencode(list(params))))

    def history(
        self, resource_type: str, params: Sequence[tuple[str, str]]
    ) -> Iterator[tuple[bytes, datetime | None]]:
        """Give every page of what happened to one type, deletions too; else as `pages`."""
        url = f"{self._base.of(resource_type)}/_history?{urlencode(list(params))}"
        yield from self._walk(expect(self._transport.send("GET", url)))

    def presence(self, reference: str) -> Presence:
        """Say whether the EHR has a resource; only 404 and 410 say that it does not.

        Raises:
            ForeignAddress: The reference is not to this EHR.
            TransientError: The EHR is away, or fails.
            EhrRefused: It refuses to say.
        """
        answer = self._transport.send("GET", self._base.resource(reference))
        if answer.status in _ABSENT:
            return _ABSENT[answer.status]
        read_json(expect(answer).body)
        return Presence.THERE

    def read_bytes(self, reference: str) -> bytes | None:
        """Read a resource as the EHR wrote it; None when the EHR does not have it (any more).

        Raises:
            ForeignAddress: The reference is not to this EHR.
            TransientError: The EHR is away.
            EhrRefused: It refuses.
        """
        answer = self._transport.send("GET", self._base.resource(reference))
        if answer.status in _ABSENT:
            return None
        read_json(expect(answer).body)
        return answer.body

    def ask(self, reference: str, operation: str, params: Sequence[tuple[str, str]] = ()) -> bytes:
        """Ask an operation of a resource that changes nothing; give the answer as it was written.

        Args:
            reference: `Type/id`.
            operation: For example `$status`.
            params: Names and values, not yet encoded.

        Raises:
            ForeignAddress: The reference is not to this EHR.
            TransientError: The EHR is away.
            EhrRefused: It refuses, or does not know the operation.
        """
        query = f"?{urlencode(list(params))}" if params else ""
        url = f"{self._base.resource(reference)}/{operation}{query}"
        answer = expect(self._transport.send("GET", url))
        read_json(answer.body)
        return answer.body

    def read(self, reference: str) -> dict[str, Any] | None:
        """Read a resource by its reference; None when the EHR does not have it (any more).

        Raises:
            ForeignAddress: The reference is not to this EHR.
            TransientError: The EHR is away.
            EhrRefused: It refuses.
        """
        answer = self._transport.send("GET", self._base.resource(reference))
        return None if answer.status in _ABSENT else read_json(expect(answer).body)

    def content(self, address: str, *, max_bytes: int) -> Content | None:
        """Fetch what an attachment points at; None when the EHR does not have it (any more).

        It is asked for as a Binary in JSON; an EHR that gives the bytes themselves is understood.

        Args:
            address: As the attachment writes it, relative to the base URL or absolute.
            max_bytes: Largest content that is read.

        Raises:
            ForeignAddress: It is not below this EHR's base URL.
            TransientError: The EHR is away.
            EhrRefused: It refuses.
            EhrAnswerTooLarge: The content is larger than allowed.
        """
        # In base64 it is a third larger, and a little JSON is around it.
        limit = max_bytes * 4 // 3 + _AROUND_CONTENT
        answer = self._transport.send(
            "GET", self._base.resolve(address), headers=_ANY_CONTENT, max_bytes=limit
        )
        if answer.status in _ABSENT:
            return None
        found = read_content(answer.headers.get("content-type", ""), expect(answer).body)
        if len(found.body) > max_bytes:
            raise EhrAnswerTooLarge
        return found

    def create(
        self, resource_type: str, body: bytes, *, if_none_exist: str | None = None
    ) -> WriteOutcome:
        """Create a resource.

        Args:
            resource_type: Its type.
            body: Its JSON, sent as it is.
            if_none_exist: Query that finds it if it is there already; only as good as the EHR.

        Raises:
            TransientError: The EHR is away; it may have written all the same.
            MultipleMatches: The condition matches several.
            EhrRefused: It refuses the resource.
        """
        headers = {"If-None-Exist": if_none_exist} if if_none_exist else {}
        url = self._base.of(resource_type)
        answer = expect(self._transport.send("POST", url, body=body, headers=headers))
        return _outcome(answer, answer.headers.get("location"))

    def update(self, reference: str, body: bytes, *, if_match: str | None = None) -> WriteOutcome:
        """Write a resource under the id that its reference names.

        Args:
            reference: `Type/id`.
            body: Its JSON, sent as it is.
            if_match: ETag of the version that it is to replace; None replaces any.

        Raises:
            MultipleMatches: The EHR has another version by now (412).
            ForeignAddress: The reference is not to this EHR.
            TransientError: The EHR is away; it may have written all the same.
            EhrRefused: It refuses the resource.
        """
        url = self._base.resource(reference)
        headers = {"If-Match": if_match} if if_match else {}
        return _outcome(expect(self._transport.send("PUT", url, body=body, headers=headers)), url)

    def transaction(self, body: bytes) -> list[WriteOutcome]:
        """Send a transaction or batch Bundle; give an outcome per entry, in their order.

        Raises:
            TransientError: The EHR is away; it may have written all the same.
            MultipleMatches: A condition matches several.
            EhrRefused: It refuses the whole.
        """
        answer = expect(self._transport.send("POST", self._base.of(""), body=body))
        entries = _bundle(answer).get("entry", [])
        if not isinstance(entries, list):
            raise EhrAnswerUnreadable
        return [_entry_outcome(entry) for entry in entries]

    def _walk(self, answer: Answer) -> Iterator[tuple[bytes, datetime | None]]:
        """Give a page and those that its links lead to."""
        seen = set[str]()
        while True:
            following = _next_link(_bundle(answer))
            yield answer.body, sent_at(answer.headers.get("date", ""))
            if following is None:
                return
            address = self._base.resolve(following)
            if address in seen:
                raise EhrAnswerUnreadable
            seen.add(address)
            answer = expect(self._transport.send("GET", address))

    def _first_page(self, resource_type: str, query: str) -> Answer:
        """Ask by POST, or by GET where the EHR does not know the former."""
        if not self._is_get_search_only:
            url = self._base.of(f"{resource_type}/_search")
            form = {"Content-Type": _FORM}
            answer = self._transport.send("POST", url, body=query.encode(), headers=form)
            if answer.status not in _NO_POST_SEARCH:
                return expect(answer)
        url = f"{self._base.of(resource_type)}?{query}"
        answer = expect(self._transport.send("GET", url))
        self._is_get_search_only = True
        return answer


def _outcome(answer: Answer, location: str | None) -> WriteOutcome:
    """Say where a resource is; some EHRs tell only in the body."""
    reference = reference_in(location) if location else None
    return WriteOutcome(answer.status, location, reference or _reference_of(answer.body))


def _entry_outcome(entry: object) -> WriteOutcome:
    """Read the answer to one entry of a Bundle."""
    response = entry.get("response") if isinstance(entry, dict) else None
    status = str(response.get("status", ""))[:3] if isinstance(response, dict) else ""
    if not isinstance(response, dict) or not status.isdecimal():
        raise EhrAnswerUnreadable
    location = str(response["location"]) if response.get("location") else None
    reference = reference_in(location) if location else None
    outcome = response.get("outcome")
    codes = issue_codes(orjson.dumps(outcome)) if outcome else ()
    return WriteOutcome(int(status), location, reference, codes)


def _bundle(answer: Answer) -> dict[str, Any]:
    """Read an answer that has to be a Bundle: anything else must not pass for "nothing found"."""
    found = read_json(answer.body)
    if found["resourceType"] != "Bundle":
        raise EhrAnswerUnreadable
    return found


def _matches(page: dict[str, Any], resource_type: str) -> Iterator[dict[str, Any]]:
    """Give the resources of a page that are of the type searched for."""
    entries = page.get("entry", [])
    for entry in entries if isinstance(entries, list) else []:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if isinstance(resource, dict) and resource.get("resourceType") == resource_type:
            yield resource


def _next_link(page: dict[str, Any]) -> str | None:
    links = page.get("link", [])
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("relation") == "next" and link.get("url"):
            return str(link["url"])
    return None


def _reference_of(body: bytes) -> str | None:
    """Take the reference from the resource that a write was answered with."""
    try:
        resource = read_json(body)
    except EhrAnswerUnreadable:
        return None
    is_written = "id" in resource and resource["resourceType"] != "OperationOutcome"
    return f"{resource['resourceType']}/{resource['id']}" if is_written else None
