"""A page of a search, cut into the resources it holds: bytes as the EHR wrote them.

Nothing is written anew, so that 1.50 stays 1.50; only id, version and time are looked at.

Source: FHIR R4 search (http://hl7.org/fhir/R4/search.html), Bundle.entry.search.mode.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256

import msgspec

from adapters.fhir_rest.errors import EhrAnswerUnreadable
from gateway.core import clinical_time
from gateway.core.clock import to_ms

#: So much is handed in at once, well below what the API takes.
_MOST_RESOURCES = 500
_MOST_BYTES = 8 * 2**20


class _Meta(msgspec.Struct):
    lastUpdated: str | None = None  # noqa: N815 - FHIR's name
    versionId: str | None = None  # noqa: N815 - FHIR's name


class _Peek(msgspec.Struct):
    resourceType: str  # noqa: N815 - FHIR's name
    id: str = ""
    meta: _Meta = msgspec.field(default_factory=_Meta)


class _Search(msgspec.Struct):
    mode: str = "match"


class _Entry(msgspec.Struct):
    resource: msgspec.Raw = msgspec.Raw()
    search: _Search = msgspec.field(default_factory=_Search)


class _Page(msgspec.Struct):
    entry: list[_Entry] = []


_page = msgspec.json.Decoder(_Page)
_peek = msgspec.json.Decoder(_Peek)


@dataclass(frozen=True)
class Found:
    """One resource of a page.

    Attributes:
        mark: Which version of which resource it is; the same for the same version.
        updated_ms: `meta.lastUpdated`; None when it does not say.
        is_match: Whether the search was for it; what was only included was not.
    """

    reference: str
    mark: bytes
    updated_ms: int | None
    is_match: bool
    raw: bytes = field(repr=False)


def resources_of(body: bytes) -> Iterator[Found]:
    """Cut a page into its resources.

    Raises:
        EhrAnswerUnreadable: It is no Bundle of resources.
    """
    try:
        entries = _page.decode(body).entry
        for entry in entries:
            raw = bytes(entry.resource)
            if raw and entry.search.mode != "outcome":
                yield found_in(raw, is_match=entry.search.mode == "match")
    except (msgspec.MsgspecError, RecursionError):
        raise EhrAnswerUnreadable from None


def found_in(raw: bytes, *, is_match: bool = True) -> Found:
    """Look at one resource.

    Raises:
        msgspec.MsgspecError: It is none.
    """
    peek = _peek.decode(raw)
    reference = f"{peek.resourceType}/{peek.id}"
    updated = clinical_time.parse(peek.meta.lastUpdated)
    version = peek.meta.versionId or peek.meta.lastUpdated
    named = f"{reference} {version}".encode() if version else raw
    return Found(
        reference,
        sha256(named).digest()[:16],
        to_ms(updated.first) if updated else None,
        is_match,
        raw,
    )


def bundles_of(found: Iterable[Found], base_url: str) -> Iterator[bytes]:
    """Put resources into Bundles that the API takes.

    Args:
        found: The resources.
        base_url: FHIR base of the EHR they are of.
    """
    part: list[bytes] = []
    size = 0
    for each in found:
        if part and (len(part) == _MOST_RESOURCES or size + len(each.raw) > _MOST_BYTES):
            yield _bundle(part)
            part, size = [], 0
        url = msgspec.json.encode(f"{base_url}/{each.reference}")
        part.append(b'{"fullUrl":' + url + b',"resource":' + each.raw + b"}")
        size += len(each.raw)
    if part:
        yield _bundle(part)


def _bundle(entries: Iterable[bytes]) -> bytes:
    head = b'{"resourceType":"Bundle","type":"collection","entry":['
    return head + b",".join(entries) + b"]}"
