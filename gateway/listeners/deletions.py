"""Find what an EHR deleted without our hearing of it: a Consent that is gone must not permit.

A search from a cursor never shows a deletion. So, beside it:

* an EHR that offers `history-type` for a type is asked for its history;
* of Consents once a day, and where there is no history of anything that is followed, it is asked
  for what Nadi holds of it, by `_id`, one batch in a turn: Consents as often as a history, the rest
  once a day, of the last month;
* what such an answer leaves out is read: 410 proves that it was deleted, 404 that it is not there.
  Where it answers 404 for each of many and has none of them, that is doubted: an address or a right
  may be wrong. An answer that says neither proves nothing.
* Where it can't be asked what became of Consents, that is not known (`is_unasked`), and asked again
  after `_ASK_AGAIN_MS`.
* What is proved is received like a DELETE that was pushed. What is not stays, and is told.

Source: FHIR R4 http.html#history, http.html#delete, search.html#id.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from adapters.feeds.history import Histories, told_since
from adapters.feeds.page import resources_of
from adapters.feeds.poll import Pages
from adapters.fhir_rest.answers import EhrCapabilities, Presence
from adapters.fhir_rest.errors import (
    EhrAnswerUnreadable,
    EhrFailed,
    EhrLoginFailed,
    EhrRefused,
)
from adapters.site import Site
from gateway import telemetry
from gateway.core.clock import to_ms
from gateway.core.errors import ProcessingError
from gateway.listeners.held import Held
from gateway.store.unit_of_work import Store

#: Begins the keys under which it is kept how deletions of a type are found.
STATE = "deletions/"
CONSENT = "Consent"
#: What decides about everything else.
DECISIVE = (CONSENT, "Patient")
_HISTORY = "history-type"
_BATCH = 50
_MOST_PAGES = 3
#: So many at once may be gone by 404 alone though the EHR has none of their batch.
_FEW = 10
_DAY_MS = 86_400_000
_MONTH_MS = 31 * _DAY_MS
_ASK_STATEMENT_MS = 3_600_000
#: Of Consents it is asked again so soon where no answer came: results wait for it.
_ASK_AGAIN_MS = 30_000
_ID_DIGITS = 8
#: What says nothing of one resource, and need not hold up the others.
_NO_ANSWER = (ProcessingError, EhrFailed, EhrAnswerUnreadable, EhrLoginFailed)

log = telemetry.get_logger()


class Asked(Pages, Histories, Protocol):
    """An EHR that can be asked what it has; `FhirClient` is one."""

    def capabilities(self) -> EhrCapabilities:
        """Ask what it can do."""

    def presence(self, reference: str) -> Presence:
        """Ask whether it has a resource."""


class WayOut(Protocol):
    """How it is said that something is gone."""

    def gone(self, references: Sequence[str]) -> None:
        """Say which resources the EHR does not have any more.

        Raises:
            TransientError: It was not taken; the same may be later.
        """


@dataclass(frozen=True)
class DeletionPlan:
    """What is looked after, and how often.

    Attributes:
        types: Resource types.
        every_ms: Between two questions for the history, and between two for all Consents.
        overlap_ms: How far before its cursor a history is asked for; what came within it is not
            asked for yet.
        site: Gives the site in force; it says which resources are not of the EHR.
    """

    types: tuple[str, ...]
    every_ms: int
    overlap_ms: int
    site: Callable[[], Site]


@dataclass
class _Looked:
    """How far one type is looked through; `after` is None between two passes.

    Attributes:
        told: What is wrong with its history.
        looked: What the last pass through what is held left unproved.
        is_broken_off: That pass could not be made.
    """

    kind: str
    history_due_ms: int = 0
    sweep_due_ms: int | None = None
    after: str | None = None
    began_ms: int = 0
    unanswered: int = 0
    doubted: int = 0
    told: str = ""
    looked: str = ""
    is_broken_off: bool = False

    @property
    def says(self) -> str:
        """What could not be proved: by its history, or by what is held."""
        return self.told or self.looked


@dataclass
class _Statement:
    """What the EHR says of itself: which types it tells the history of, which it has at all."""

    until_ms: int = 0
    histories: set[str] = field(default_factory=set)
    lacking: frozenset[str] = frozenset()


class Deletions:
    """Looks after the deletions of one system; used by one thread."""

    def __init__(
        self,
        feed: str,
        plan: DeletionPlan,
        ports: tuple[Store, Asked, WayOut, Held],
        now: Callable[[], datetime],
    ) -> None:
        """Take what is looked after.

        Args:
            feed: Name of the feed, under which it remembers.
            plan: What, and how often.
            ports: The database, the EHR, the way in, and what Nadi holds.
            now: Gives the present.
        """
        self._feed = feed
        self._plan = plan
        self._store, self._ehr, self._way_out, self._held = ports
        self._now = now
        self._said = _Statement()
        self._looked = [_Looked(kind) for kind in plan.types]

    @property
    def problem(self) -> str:
        """What could not be proved; empty when all is well."""
        return next((each.says for each in self._looked if each.says), "")

    @property
    def is_unasked(self) -> bool:
        """Whether the EHR could not be asked last time which Consents are gone."""
        each = self._consents
        return each is not None and bool(each.told or each.is_broken_off)

    def is_put_off(self, now_ms: int) -> bool:
        """Whether it could not be asked which Consents are gone, and is not asked again yet."""
        each = self._consents
        if each is None or not self.is_unasked:
            return False
        return now_ms < (each.history_due_ms if each.told else each.sweep_due_ms or 0)

    @property
    def _consents(self) -> _Looked | None:
        return next((looked for looked in self._looked if looked.kind == CONSENT), None)

    def look_again(self, *, is_gap: bool) -> None:
        """Ask at the next turn: something changed, or with `is_gap` something was not heard of."""
        for each in self._looked:
            each.history_due_ms = 0
            if is_gap and each.kind == CONSENT:
                each.sweep_due_ms = 0

    def settle_consents(self) -> None:
        """Find the Consents that are gone before anything comes in about which they decide.

        A history is asked for each time. Without one all that is held is asked for where that is
        due, to its end; so when a process begins, since nobody knows for how long it was away.

        Raises:
            TransientError: The EHR, the API or the database is away.
        """
        each = self._consents
        if each is None:
            return
        now_ms = to_ms(self._now())
        if self._has_history(CONSENT, now_ms):
            self._ask_history(each, now_ms)
        if self._has_history(CONSENT, now_ms):
            return
        if each.sweep_due_ms is None:
            each.sweep_due_ms = 0
        while self._is_swept(each, to_ms(self._now()), has_history=False):
            self._sweep(each, to_ms(self._now()), has_history=False)

    def turn(self) -> None:
        """Do what is due.

        Raises:
            TransientError: The EHR, the API or the database is away.
        """
        for each in self._looked:
            now_ms = to_ms(self._now())
            has_history = self._has_history(each.kind, now_ms)
            if has_history and now_ms >= each.history_due_ms:
                self._ask_history(each, now_ms)
            if self._is_swept(each, now_ms, has_history=has_history):
                self._sweep(each, now_ms, has_history=has_history)

    # -- by the history ----------------------------------------------------------------------

    def _has_history(self, kind: str, now_ms: int) -> bool:
        if now_ms >= self._said.until_ms:
            self._said = self._stated(now_ms)
        return kind in self._said.histories

    def _stated(self, now_ms: int) -> _Statement:
        until_ms, types = now_ms + _ASK_STATEMENT_MS, self._plan.types
        try:
            said = self._ehr.capabilities()
        except (ProcessingError, EhrAnswerUnreadable):
            return _Statement(until_ms)
        told = {each for each in types if _HISTORY in said.of(each).interactions}
        lacking = frozenset(each for each in types if said.types and each not in said.types)
        return _Statement(until_ms, told, lacking)

    def _ask_history(self, each: _Looked, now_ms: int) -> None:
        each.history_due_ms = now_ms + self._plan.every_ms
        kept = self._kept(each.kind)
        cursor_ms = kept.get("cursor_ms", now_ms - self._plan.every_ms)
        try:
            told = told_since(self._ehr, each.kind, cursor_ms, overlap_ms=self._plan.overlap_ms)
        except (EhrRefused, EhrLoginFailed) as error:
            # It offers what it does not do, or not for Nadi: it is looked through instead.
            log.warning("history-refused", system=self._feed, error=type(error).__name__)
            self._said.histories.discard(each.kind)
            each.told = ""
            return
        except _NO_ANSWER as error:
            log.warning("history-not-read", system=self._feed, error=type(error).__name__)
            each.told = f"What was deleted of {each.kind} can't be read: {error.message}"
            each.history_due_ms = now_ms + self._again_ms(each.kind)
            return
        self._receive(self._held.worth_telling(told.deleted))
        each.told, each.is_broken_off = "", False
        self._keep(each.kind, kept | {"cursor_ms": told.cursor_ms, "asked_ms": now_ms})

    # -- by what Nadi holds ------------------------------------------------------------------

    def _is_swept(self, each: _Looked, now_ms: int, *, has_history: bool) -> bool:
        if each.after is not None:
            return True
        if each.kind in self._said.lacking or (has_history and each.kind != CONSENT):
            return False
        if each.sweep_due_ms is None:
            # A restart need not ask for everything anew.
            swept_ms = self._kept(each.kind).get("swept_ms")
            every_ms = self._every_ms(each.kind, has_history=has_history)
            each.sweep_due_ms = 0 if swept_ms is None else swept_ms + every_ms
        return now_ms >= each.sweep_due_ms

    def _every_ms(self, kind: str, *, has_history: bool) -> int:
        is_often = kind == CONSENT and not has_history
        return self._plan.every_ms if is_often else max(self._plan.every_ms, _DAY_MS)

    def _sweep(self, each: _Looked, now_ms: int, *, has_history: bool) -> None:
        """Ask for one batch of what is held."""
        if each.after is None:
            each.after, each.began_ms = self._first(each.kind, now_ms), now_ms
            each.unanswered = each.doubted = 0
        came_before_ms = now_ms - self._plan.overlap_ms
        batch = self._held.batch(each.kind, each.after, _BATCH, came_before_ms=came_before_ms)
        try:
            self._ask_for(each, batch.references)
        except _NO_ANSWER as error:
            log.warning("sweep-refused", system=self._feed, error=type(error).__name__)
            each.looked = f"Whether each {each.kind} is still there can't be asked: {error.message}"
            each.after, each.sweep_due_ms = None, now_ms + self._again_ms(each.kind)
            each.is_broken_off = not has_history
            return
        each.after = batch.last
        if batch.is_last:
            self._end(each, has_history=has_history)

    def _first(self, kind: str, now_ms: int) -> str:
        """Say where a pass begins: Consents and Patients decide however old they are."""
        if kind in DECISIVE:
            return ""
        # Ids of events begin with the time at which they were made (gateway.core.clock.new_id).
        digits = f"{max(now_ms - _MONTH_MS, 0):012x}"
        return f"{digits[:_ID_DIGITS]}-{digits[_ID_DIGITS:]}"

    def _ask_for(self, each: _Looked, references: Sequence[str]) -> None:
        if not references:
            return
        there = self._there(each.kind, references)
        absent = [reference for reference in references if reference not in there]
        found = {reference: self._presence(reference) for reference in absent}
        each.unanswered += sum(presence is None for presence in found.values())
        unknown = [name for name, presence in found.items() if presence is Presence.UNKNOWN]
        gone = [name for name, presence in found.items() if presence is Presence.DELETED]
        if len(unknown) > _FEW and len(absent) == len(references):
            each.doubted += len(unknown)
        else:
            gone += unknown
        self._receive(gone)

    def _there(self, kind: str, references: Sequence[str]) -> set[str]:
        """Ask which of these the EHR has; what it leaves out it may have all the same."""
        ids = [each.partition("/")[2] for each in references]
        asked = [("_id", ",".join(ids)), ("_count", str(len(ids)))]
        try:
            return self._found(kind, [*asked, ("_elements", "id")], references)
        except EhrRefused:
            return self._found(kind, asked, references)

    def _found(
        self, kind: str, asked: Sequence[tuple[str, str]], wanted: Iterable[str]
    ) -> set[str]:
        there: set[str] = set()
        for number, (body, _) in enumerate(self._ehr.pages(kind, asked), start=1):
            there |= {each.reference for each in resources_of(body)}
            # One that ignores `_id` answers with everything.
            if there.issuperset(wanted) or number == _MOST_PAGES:
                break
        return there

    def _presence(self, reference: str) -> Presence | None:
        try:
            return self._ehr.presence(reference)
        except _NO_ANSWER as error:
            log.warning("presence-not-told", system=self._feed, error=type(error).__name__)
            return None

    def _end(self, each: _Looked, *, has_history: bool) -> None:
        each.looked, each.is_broken_off = _words(each), False
        every_ms = self._every_ms(each.kind, has_history=has_history)
        each.sweep_due_ms, each.after = each.began_ms + every_ms, None
        self._keep(each.kind, self._kept(each.kind) | {"swept_ms": each.began_ms})

    def _again_ms(self, kind: str) -> int:
        every_ms = self._plan.every_ms
        return min(every_ms, _ASK_AGAIN_MS) if kind == CONSENT else every_ms

    # -- both --------------------------------------------------------------------------------

    def _receive(self, gone: Sequence[str]) -> None:
        if not gone:
            return
        log.warning("deletions-found", system=self._feed, count=len(gone))
        telemetry.count_feed_step(self._feed, "deletion")
        for first in range(0, len(gone), _BATCH):
            self._way_out.gone(gone[first : first + _BATCH])

    def _kept(self, kind: str) -> dict[str, Any]:
        with self._store.read() as uow:
            return dict(uow.listener_state.get(self._feed, f"{STATE}{kind}") or {})

    def _keep(self, kind: str, value: dict[str, Any]) -> None:
        with self._store.write() as uow:
            uow.listener_state.put(self._feed, {f"{STATE}{kind}": value})


def _words(each: _Looked) -> str:
    """Say what a pass left unproved."""
    if each.doubted:
        return (
            f"The EHR has none of {each.doubted} {each.kind}s that Nadi holds, and does not say "
            "that they were deleted (404, not 410). None was taken as deleted: are base_url and "
            "what Nadi may read there right? What is gone for good is to be pushed as DELETE."
        )
    if each.unanswered:
        return (
            f"The EHR does not say of {each.unanswered} {each.kind}s that Nadi holds whether they "
            "are still there: may Nadi read them? They count as they are."
        )
    return ""
