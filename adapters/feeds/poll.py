"""Ask an EHR what changed since the last time, and hand in what is new.

* The cursor is a moment of the EHR's own clock: the newest `meta.lastUpdated` that a whole walk
  has seen. It moves when every page was handed in, so a walk that was cut short is made again.
* Each walk begins `overlap_ms` before the cursor: what was committed late, or within the same
  second, or while the clock was set back a little, is seen. What was seen before is not handed in
  again while this process lives; after a restart the API recognises it.
* The cursor never passes the present: one resource dated in the future must not hide all others.
  Where the EHR's clock was set back behind the cursor, the cursor goes back with it.

Source: FHIR R4 `_lastUpdated`, `_sort`, `_include` (http://hl7.org/fhir/R4/search.html).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from urllib.parse import parse_qsl

from adapters.feeds.page import Found, resources_of
from adapters.fhir_rest.errors import EhrRefused
from gateway.core.clock import from_ms, to_ms

#: How many marks of what was seen are kept: beyond, the oldest are forgotten and handed in again.
_MOST_MARKS = 200_000
_SECOND_MS = 1000
#: How an EHR says that it can't sort so.
_CANT_SORT = frozenset({400, 422, 501})


class Pages(Protocol):
    """An EHR that can be searched; `FhirClient` is one."""

    def pages(
        self, resource_type: str, params: Sequence[tuple[str, str]]
    ) -> Iterator[tuple[bytes, datetime | None]]:
        """Give each page with the moment at which the EHR sent it."""


@dataclass(frozen=True)
class Query:
    """What is followed: a type, perhaps with a condition, as `Observation?category=laboratory`."""

    text: str

    @property
    def resource_type(self) -> str:
        """The type."""
        return self.text.partition("?")[0]

    @property
    def params(self) -> list[tuple[str, str]]:
        """The condition."""
        return parse_qsl(self.text.partition("?")[2], keep_blank_values=True)


@dataclass(frozen=True)
class PollPlan:
    """How an EHR is asked.

    Attributes:
        overlap_ms: How far before the cursor a walk begins.
        count: Resources of a page.
        includes: Values of `_include`.
    """

    overlap_ms: int
    count: int = 200
    includes: tuple[str, ...] = ()


@dataclass
class Walked:
    """What a walk found.

    Attributes:
        cursor_ms: Where the next one is to begin from.
        newest_ms: Newest `lastUpdated` seen; None when there was none.
        read: Resources that were given.
        handed_in: Those that were new.
        unasked: Those that changed before the time asked for: the EHR ignores `_lastUpdated`.
    """

    cursor_ms: int
    newest_ms: int | None = None
    read: int = 0
    handed_in: int = 0
    unasked: int = 0


@dataclass
class Poll:
    """Follows one query; used by one thread."""

    ehr: Pages
    query: Query
    plan: PollPlan
    take: Callable[[Sequence[Found]], object]
    now: Callable[[], datetime]
    _seen: dict[bytes, int] = field(default_factory=dict)
    _sorts: bool = True

    def walk(self, cursor_ms: int) -> Walked:
        """Ask for everything since the cursor and hand in what is new.

        Raises:
            TransientError: The EHR or the API is away; the walk is to be made again.
            ProcessingError: The EHR refuses the search.
        """
        try:
            return self._walk(cursor_ms)
        except EhrRefused as error:
            if not self._sorts or error.status not in _CANT_SORT:
                raise
            # Order is a courtesy: the cursor moves after a whole walk, whatever its order.
            self._sorts = False
            return self._walk(cursor_ms)

    def _walk(self, cursor_ms: int) -> Walked:
        began_ms, sent_ms = to_ms(self.now()), None
        since_ms = max(cursor_ms - self.plan.overlap_ms, 0)
        walked = Walked(cursor_ms)
        for body, sent in self.ehr.pages(self.query.resource_type, self._params(since_ms)):
            sent_ms = sent_ms or (to_ms(sent) if sent else None)
            page = list(resources_of(body))
            asked = [each for each in page if not _is_before(each, since_ms)]
            walked.read += len(page)
            walked.unasked += len(page) - len(asked)
            self._take(asked, walked, began_ms)
        walked.cursor_ms = _moved(cursor_ms, walked.newest_ms, sent_ms, began_ms)
        self._forget(walked.cursor_ms - 2 * self.plan.overlap_ms)
        return walked

    def _params(self, since_ms: int) -> list[tuple[str, str]]:
        return [
            *self.query.params,
            ("_lastUpdated", f"ge{instant(since_ms)}"),
            *([("_sort", "_lastUpdated")] if self._sorts else []),
            ("_count", str(self.plan.count)),
            *(("_include", each) for each in self.plan.includes),
        ]

    def _take(self, page: Sequence[Found], walked: Walked, now_ms: int) -> None:
        fresh = {each.mark: each for each in page if each.mark not in self._seen}
        if fresh:
            self.take(list(fresh.values()))
        # Not before it is durable: what could not be handed in has to count as new.
        for mark, each in fresh.items():
            self._seen[mark] = now_ms if each.updated_ms is None else each.updated_ms
        times = [each.updated_ms for each in page if each.is_match and each.updated_ms is not None]
        walked.newest_ms = max([*times, walked.newest_ms or 0]) or None
        walked.handed_in += len(fresh)

    def _forget(self, before_ms: int) -> None:
        """Let go of marks that no walk will meet again."""
        kept = {mark: ms for mark, ms in self._seen.items() if ms >= before_ms}
        excess = len(kept) - _MOST_MARKS
        for mark in list(kept)[: max(excess, 0)]:
            del kept[mark]
        self._seen = kept


def _is_before(found: Found, since_ms: int) -> bool:
    """Say whether an EHR gave what it was not asked for; some compare in whole seconds."""
    is_dated = found.is_match and found.updated_ms is not None
    return is_dated and (found.updated_ms or 0) < since_ms - _SECOND_MS


def _moved(cursor_ms: int, newest_ms: int | None, sent_ms: int | None, began_ms: int) -> int:
    """Say where the cursor is after a whole walk.

    Args:
        cursor_ms: Where it was.
        newest_ms: Newest change that was seen.
        sent_ms: What the EHR's clock said when the walk began; None when it did not say.
        began_ms: What ours said.
    """
    present_ms = began_ms if sent_ms is None else sent_ms
    return min(max(cursor_ms, newest_ms or 0), present_ms)


def instant(ms: int) -> str:
    """Write a moment as an EHR is asked for it."""
    return from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
