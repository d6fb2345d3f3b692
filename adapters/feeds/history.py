"""What an EHR deleted, by its own account: the `_history` of a type since a moment.

* A search never shows what is gone; the history has an entry with the method DELETE.
* Of each resource the newest entry counts: what was made again under its id is there.
* The cursor is the moment at which the EHR sent the first page, by its own clock; an EHR that does
  not say has told the newest change. Each question begins `overlap_ms` before it.

Source: FHIR R4 http.html#history, Bundle invariants bdl-3 and bdl-4.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import msgspec

from adapters.feeds.poll import instant
from adapters.fhir_rest.base_url import reference_in
from adapters.fhir_rest.errors import EhrAnswerUnreadable
from gateway.core import clinical_time
from gateway.core.clock import to_ms

_GONE = "410"


class Histories(Protocol):
    """An EHR that tells what happened; `FhirClient` is one."""

    def history(
        self, resource_type: str, params: Sequence[tuple[str, str]]
    ) -> Iterator[tuple[bytes, datetime | None]]:
        """Give each page with the moment at which the EHR sent it."""


class _Meta(msgspec.Struct):
    lastUpdated: str | None = None  # noqa: N815 - FHIR's name


class _Resource(msgspec.Struct):
    resourceType: str = ""  # noqa: N815 - FHIR's name
    id: str = ""
    meta: _Meta = msgspec.field(default_factory=_Meta)


class _Request(msgspec.Struct):
    method: str = ""
    url: str = ""


class _Response(msgspec.Struct):
    status: str = ""
    lastModified: str | None = None  # noqa: N815 - FHIR's name


class _Entry(msgspec.Struct):
    fullUrl: str = ""  # noqa: N815 - FHIR's name
    resource: _Resource | None = None
    request: _Request = msgspec.field(default_factory=_Request)
    response: _Response = msgspec.field(default_factory=_Response)

    @property
    def reference(self) -> str | None:
        """`Type/id`; None where it names nothing."""
        if self.resource is not None and self.resource.id:
            return f"{self.resource.resourceType}/{self.resource.id}"
        return reference_in(self.request.url) or reference_in(self.fullUrl)

    @property
    def is_deletion(self) -> bool:
        """Whether it says that a resource was deleted."""
        is_said_gone = self.resource is None and self.response.status.startswith(_GONE)
        return self.request.method == "DELETE" or is_said_gone

    @property
    def at_ms(self) -> int | None:
        """When it happened; None where it does not say."""
        written = self.resource.meta.lastUpdated if self.resource else None
        found = clinical_time.parse(self.response.lastModified or written)
        return to_ms(found.first) if found else None


class _Page(msgspec.Struct):
    entry: list[_Entry] = []


_page = msgspec.json.Decoder(_Page)


@dataclass
class Told:
    """What a history told.

    Attributes:
        cursor_ms: From where the next one is to be asked for.
    """

    cursor_ms: int
    _newest: dict[str, _Entry] = field(default_factory=dict)

    @property
    def deleted(self) -> list[str]:
        """References of what is deleted by now."""
        return [reference for reference, each in self._newest.items() if each.is_deletion]

    def take(self, kind: str, body: bytes) -> None:
        """Take in a page.

        Raises:
            EhrAnswerUnreadable: It is no history.
        """
        try:
            entries = _page.decode(body).entry
        except (msgspec.MsgspecError, RecursionError):
            raise EhrAnswerUnreadable from None
        for each in entries:
            reference = each.reference
            if reference is not None and reference.startswith(f"{kind}/"):
                known = self._newest.get(reference)
                # The newest stands first, unless the times say otherwise.
                if known is None or (known.at_ms or 0) < (each.at_ms or 0):
                    self._newest[reference] = each

    @property
    def newest_ms(self) -> int:
        """When the newest of it happened; 0 where nothing says so."""
        return max((each.at_ms or 0 for each in self._newest.values()), default=0)


def told_since(
    ehr: Histories, kind: str, cursor_ms: int, *, overlap_ms: int, count: int = 200
) -> Told:
    """Ask what happened to a type since a cursor.

    Args:
        ehr: Who is asked.
        kind: Resource type.
        cursor_ms: A moment of the EHR's clock.
        overlap_ms: How far before the cursor the question begins.
        count: Entries of a page.

    Raises:
        TransientError: The EHR is away.
        EhrRefused: It does not tell.
    """
    told, sent_ms = Told(cursor_ms), None
    since = instant(max(cursor_ms - overlap_ms, 0))
    for body, sent in ehr.history(kind, [("_since", since), ("_count", str(count))]):
        sent_ms = sent_ms or (to_ms(sent) if sent else None)
        told.take(kind, body)
    told.cursor_ms = max(cursor_ms, told.newest_ms) if sent_ms is None else sent_ms
    return told
