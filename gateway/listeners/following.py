"""Follow what changes in one EHR: by polling, and by what it says of its Subscriptions.

One turn does what is due:

1. notices that the API kept: what they point at is read and handed in, numbers are counted;
2. what a Subscription needs: a gap is recovered by `$events`, or else by a query from the cursor;
   a silent one is asked for its status; one in error is set to `requested`; one that the EHR does
   not have any more is forgotten;
3. queries from their cursors: at their interval, and at once when a notice says too little;
4. deletions, which no such query shows (`gateway.listeners.deletions`).

Before all of it, when it begins and after anybody was away, it asks what was changed or deleted of
Consents; while that is not known, what was pushed waits (`gateway.catching_up`).

A page of what consent decides about is handed in after everything that was changed or deleted of
Consents and Patients until it was read: else, after an outage, a result would run on a consent that
was withdrawn before it, or be refused for want of one that came before it.

Everything is handed in through the API, which recognises repeats: whatever was done twice, after a
crash between two steps, has one effect. A notice is removed when all it asks for was done.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Protocol

import orjson

from adapters.feeds.notification import read_status
from adapters.feeds.page import Found, found_in
from adapters.feeds.poll import Poll, PollPlan, Query
from adapters.feeds.watch import Patience, Step, Watched
from adapters.fhir_rest.errors import EhrAnswerUnreadable, EhrFailed
from gateway import telemetry
from gateway.catching_up import SAY_EVERY_MS, STALE_AFTER_MS, say_current
from gateway.core.clock import to_ms
from gateway.core.errors import ContentError, ProcessingError, TransientError
from gateway.listeners.deletions import CONSENT, DECISIVE, Asked, DeletionPlan, Deletions, WayOut
from gateway.listeners.held import Held
from gateway.store.notices import KeptNotice
from gateway.store.unit_of_work import Store, UnitOfWork

_CURSOR, _WATCHED, _LIVENESS = "cursor/", "subscription/", "liveness"
_MOST_NOTICES = 5000
_LONGEST_KEY = 100
_FIRST_DELAY_MS, _LONGEST_DELAY_MS = 1000, 60_000
#: What an EHR fails at for so long holds up what comes after it no more.
_GIVE_UP_MS = 3_600_000

log = telemetry.get_logger()


class GivenUp(ProcessingError):
    """The EHR failed at this resource for an hour; the next walk from the cursor may find it."""


class Ehr(Asked, Protocol):
    """An EHR that is followed; `FhirClient` is one."""

    def read_bytes(self, reference: str) -> bytes | None:
        """Read a resource as it is written; None when it is not there (any more)."""

    def ask(self, reference: str, operation: str, params: Sequence[tuple[str, str]] = ()) -> bytes:
        """Ask an operation that changes nothing."""


class WayIn(WayOut, Protocol):
    """How what was found is handed in; what is refused for good is on record and passed over."""

    def take(self, found: Sequence[Found]) -> int:
        """Hand in resources; they are durable when this returns. Give how many were taken.

        Raises:
            TransientError: They were not taken; the same may be later.
        """

    def take_notification(self, bundle: bytes) -> bool:
        """Hand in a notification as the EHR wrote it; say whether it was taken.

        Raises:
            TransientError: It was not taken; the same may be later.
        """


@dataclass(frozen=True)
class FollowPlan:
    """What is followed, and how.

    Attributes:
        queries: What is asked for from a cursor.
        every_ms: How often.
        lookback_ms: How far back the first walk goes.
        takes_notices: Whether the notices of the system are this listener's to do.
        reactivate: Sets a Subscription that ended to `requested`, by its `Type/id`.
        deletions: How deletions are looked for; None where they are not.
    """

    queries: tuple[Query, ...]
    poll: PollPlan
    every_ms: int
    lookback_ms: int
    patience: Patience
    takes_notices: bool = True
    reactivate: Callable[[str], None] = lambda _reference: None
    deletions: DeletionPlan | None = None


@dataclass
class _Following:
    poll: Poll
    key: str
    due_ms: int = 0
    problem: str = ""


@dataclass
class _Away:
    """The EHR, or the API, does not answer: what is waited for."""

    until_ms: int = 0
    delay_ms: int = field(default=0)

    def longer(self, now_ms: int, asked_s: float | None) -> None:
        self.delay_ms = min(max(2 * self.delay_ms, _FIRST_DELAY_MS), _LONGEST_DELAY_MS)
        self.until_ms = now_ms + max(self.delay_ms, int((asked_s or 0) * 1000))


class Follower:
    """Follows one system; used by one thread."""

    def __init__(
        self,
        names: tuple[str, str],
        plan: FollowPlan,
        ports: tuple[Store, Ehr, WayIn],
        now: Callable[[], datetime],
    ) -> None:
        """Take what is followed.

        Args:
            names: Of the feed, under which it remembers, and of the system.
            plan: What is followed.
            ports: The database, the EHR, and the way in.
            now: Gives the present.
        """
        self._feed, self._system = names
        self._plan = plan
        self._store, self._ehr, self._way_in = ports
        self._now = now
        self._away = _Away()
        self._deletions = self._looking()
        self._decisive = [self._following(q) for q in plan.queries if _decides(q.resource_type)]
        self._said_current_ms: int | None = None
        others = [query for query in plan.queries if not _decides(query.resource_type)]
        self._others = [self._following(query) for query in others]

    @property
    def problem(self) -> str:
        """What is wrong although the EHR answers; empty when all is well."""
        unproved = self._deletions.problem if self._deletions else ""
        return next((each.problem for each in self._followed if each.problem), unproved)

    @property
    def _followed(self) -> list[_Following]:
        """Everything, in the order in which it is asked for: what decides is asked for again."""
        return [*self._others, *self._decisive]

    def _following(self, query: Query) -> _Following:
        take = self._way_in.take if _decides(query.resource_type) else self._take_decided
        return _Following(Poll(self._ehr, query, self._plan.poll, take, self._now), _key(query))

    def _take_decided(self, found: Sequence[Found]) -> int:
        """Hand in what was read, after all that decides about it."""
        self._settle()
        return self._way_in.take(found)

    def _catch_up(self, now_ms: int) -> None:
        """Ask what was changed or deleted of Consents, where that was not done for a while."""
        said_ms = self._said_current_ms
        if said_ms is not None and 0 <= now_ms - said_ms < STALE_AFTER_MS:
            return
        self._said_current_ms = None
        is_put_off = any(each.problem and now_ms < each.due_ms for each in self._decisive)
        if self._deletions and self._deletions.is_put_off(now_ms):
            is_put_off = True
        if self._follows_consents and not is_put_off:
            self._settle()

    def _settle(self) -> None:
        """Ask for everything that decides about the rest, and say that it is known."""
        if self._deletions:
            self._deletions.settle_consents()
        for each in self._decisive:
            self._walk(each)
        self._say_current()

    @property
    def _follows_consents(self) -> bool:
        return any(each.poll.query.resource_type == CONSENT for each in self._decisive)

    def _say_current(self) -> None:
        if not self._follows_consents or any(each.problem for each in self._decisive):
            return
        if self._deletions and self._deletions.is_unasked:
            return
        now_ms, said_ms = to_ms(self._now()), self._said_current_ms
        if said_ms is None or not 0 <= now_ms - said_ms < SAY_EVERY_MS:
            with self._store.write(is_durable=False) as uow:
                say_current(uow, self._feed)
            self._said_current_ms = now_ms

    def _looking(self) -> Deletions | None:
        plan = self._plan.deletions
        if plan is None:
            return None
        held = Held(self._store, self._system, plan.site)
        return Deletions(self._feed, plan, (self._store, self._ehr, self._way_in, held), self._now)

    def turn(self) -> bool:
        """Do what is due; say whether nobody who is needed was away."""
        now_ms = to_ms(self._now())
        if now_ms < self._away.until_ms:
            return False
        is_back = self._away.delay_ms > 0
        if is_back:
            self._look_for_deletions(is_gap=True)
        try:
            self._catch_up(now_ms)
            self._do_notices()
            self._do_steps(now_ms)
            self._do_polls(now_ms)
            if self._deletions:
                self._deletions.turn()
        except TransientError as error:
            self._away.longer(now_ms, error.retry_after_s)
            self._said_current_ms = None
            log.warning("feed-waits", system=self._feed, error=type(error).__name__)
            return False
        if is_back:
            log.info("feed-goes-on", system=self._feed)
        self._away = _Away()
        if self._said_current_ms is not None:
            self._say_current()
        return True

    # -- (1) notices -------------------------------------------------------------------------

    def _do_notices(self) -> None:
        if not self._plan.takes_notices:
            return
        with self._store.read() as uow:
            kept = uow.notices.waiting(self._system, limit=_MOST_NOTICES)
        if not kept:
            return
        self._fetch(kept)
        is_anew = self._begin_anew(kept)
        if is_anew or any(each.notice.is_blind for each in kept):
            self._walk_all(is_gap=is_anew)
        with self._store.write() as uow:
            self._count(uow, kept)
            uow.notices.remove([each.id for each in kept])

    def _begin_anew(self, kept: Iterable[KeptNotice]) -> bool:
        """Say whether a Subscription is new here, or counts from the beginning again."""
        with self._store.read() as uow:
            watched = _watched(uow, self._feed)
        said = [each.notice for each in kept if each.notice.subscription]
        return any(
            key not in watched or watched[key].begins_anew(notice)
            for notice in said
            for key in [_relative(notice.subscription)]
        )

    def _count(self, uow: UnitOfWork, kept: Iterable[KeptNotice]) -> None:
        watched = _watched(uow, self._feed)
        changed: dict[str, Watched] = {}
        for each in kept:
            if each.notice.subscription:
                key = _relative(each.notice.subscription)
                known = changed.get(key) or watched.get(key)
                known = known or Watched.begin(each.notice, each.received_ms)
                changed[key] = known.heard(each.notice, each.received_ms)
        _keep(uow, self._feed, changed)

    def _fetch(self, kept: Iterable[KeptNotice]) -> None:
        """Read what notices point at, and hand it in."""
        wanted = {each: kept.received_ms for kept in kept for each in kept.notice.wanted}
        found: list[Found] = []
        gone: list[str] = []
        for reference, received_ms in wanted.items():
            try:
                raw = self._read(reference, received_ms)
            except ProcessingError as error:
                # A reference to another server, or one that we may not read: it stays so.
                log.warning("feed-not-read", system=self._feed, error=type(error).__name__)
                continue
            if raw is None:
                gone.append(_relative(reference))
            else:
                found.append(found_in(raw))
        if gone:
            self._way_in.gone(gone)
        if found:
            self._way_in.take(sorted(found, key=lambda each: not _decides(_type_of(each))))

    def _read(self, reference: str, received_ms: int) -> bytes | None:
        """Read a resource; one at which the EHR has failed for long is given up.

        Raises:
            TransientError: The EHR is away, or fails.
            ProcessingError: It refuses, or has failed for so long that others must not wait.
        """
        try:
            return self._ehr.read_bytes(reference)
        except (EhrFailed, EhrAnswerUnreadable) as error:
            if to_ms(self._now()) - received_ms < _GIVE_UP_MS:
                raise
            raise GivenUp from error

    # -- (2) what a Subscription needs -------------------------------------------------------

    def _do_steps(self, now_ms: int) -> None:
        if not self._plan.takes_notices:
            return
        with self._store.read() as uow:
            watched = _watched(uow, self._feed)
        for key, each in watched.items():
            step = each.step(now_ms, self._plan.patience)
            if step is not None:
                self._do_step(step, key, each, now_ms)

    def _do_step(self, step: Step, key: str, watched: Watched, now_ms: int) -> None:
        log.warning("subscription-step", system=self._feed, step=step.value)
        telemetry.count_feed_step(self._feed, step.value)
        after: Watched | None = watched
        try:
            if step is Step.RECOVER:
                after = self._recover(watched, now_ms)
            elif step is Step.REACTIVATE:
                after = self._reactivate(key, watched)
            else:
                after = self._ask_status(key, watched, now_ms)
        except ProcessingError as error:
            log.warning("subscription-step-refused", system=self._feed, error=type(error).__name__)
        with self._store.write() as uow:
            if after is None:
                uow.listener_state.remove(self._feed, f"{_WATCHED}{key}")
            else:
                _keep(uow, self._feed, {key: after.tried(now_ms)})

    def _reactivate(self, key: str, watched: Watched) -> Watched | None:
        """Begin it again; None where the EHR does not have it any more."""
        if self._ehr.read_bytes(key) is None:
            return None
        self._plan.reactivate(key)
        return watched

    def _recover(self, watched: Watched, now_ms: int) -> Watched:
        """Get what is missing, by the events themselves or by asking what changed."""
        missing = watched.numbers.missing
        if missing is None:
            return watched.settled(now_ms)
        if not self._events(watched, missing):
            self._walk_all(is_gap=True)
        return watched.recovered(missing[1], now_ms)

    def _events(self, watched: Watched, missing: tuple[int, int]) -> bool:
        """Ask for the events of a gap and hand them in; say whether they were all there."""
        first, last = missing
        asked = [("eventsSinceNumber", str(first)), ("eventsUntilNumber", str(last))]
        asked.append(("content", "full-resource"))
        try:
            bundle = self._ehr.ask(_relative(watched.reference), "$events", asked)
            numbers = {event.number for event in read_status(_first(bundle)).events}
        except (ProcessingError, ContentError):
            return False
        if not self._way_in.take_notification(bundle):
            return False
        return watched.numbers.received(numbers).settled >= last

    def _ask_status(self, key: str, watched: Watched, now_ms: int) -> Watched | None:
        """Ask a silent Subscription how it is; None where the EHR does not have it any more.

        The answer is taken as if it had been pushed. A server that does not know the operation
        has said nothing; it is asked what changed.
        """
        try:
            said = read_status(_first(self._ehr.ask(key, "$status")))
        except (ProcessingError, ContentError):
            self._walk_all(is_gap=True)
            is_there = self._ehr.read_bytes(key) is not None
            return replace(watched, heard_ms=now_ms) if is_there else None
        numbers = watched.numbers.announced(said.total or 0)
        heard = replace(watched, numbers=numbers, status=said.status, heard_ms=now_ms)
        return heard.settled(now_ms)

    # -- (3) queries -------------------------------------------------------------------------

    def _do_polls(self, now_ms: int) -> None:
        for followed in self._followed:
            if now_ms >= followed.due_ms:
                self._walk(followed)

    def _look_for_deletions(self, *, is_gap: bool) -> None:
        if self._deletions:
            self._deletions.look_again(is_gap=is_gap)

    def _walk_all(self, *, is_gap: bool = False) -> None:
        self._look_for_deletions(is_gap=is_gap)
        for followed in self._followed:
            self._walk(followed)

    def _walk(self, followed: _Following) -> None:
        cursor_ms = self._cursor_ms(followed.key)
        try:
            walked = followed.poll.walk(cursor_ms)
        except ProcessingError as error:
            log.warning("feed-refused", system=self._feed, error=type(error).__name__)
            kind = followed.poll.query.resource_type
            followed.problem = f"What changed of {kind} can't be asked for: {error.message}"
            wait_ms = max(self._plan.every_ms, _LONGEST_DELAY_MS)
            followed.due_ms = to_ms(self._now()) + wait_ms
            return
        if walked.cursor_ms != cursor_ms:
            self._keep_cursor(followed.key, walked.cursor_ms)
        if walked.unasked:
            log.warning("feed-ignores-last-updated", system=self._feed, count=walked.unasked)
        followed.problem = ""
        followed.due_ms = to_ms(self._now()) + self._plan.every_ms

    def _cursor_ms(self, key: str) -> int:
        """Give the cursor; where there is none it begins now, whether or not the EHR answers."""
        with self._store.read() as uow:
            kept = uow.listener_state.get(self._feed, key)
        if kept is not None:
            return int(kept["ms"])
        begins_ms = to_ms(self._now()) - self._plan.lookback_ms
        self._keep_cursor(key, begins_ms)
        return begins_ms

    def _keep_cursor(self, key: str, ms: int) -> None:
        with self._store.write() as uow:
            uow.listener_state.put(self._feed, {key: {"ms": ms}})


def _type_of(found: Found) -> str:
    return found.reference.partition("/")[0]


def _decides(resource_type: str) -> bool:
    return resource_type in DECISIVE


def _watched(uow: UnitOfWork, feed: str) -> dict[str, Watched]:
    """Give what is known of each Subscription, by its relative reference."""
    kept = uow.listener_state.with_prefix(feed, _WATCHED)
    return {key.removeprefix(_WATCHED): Watched.from_json(each) for key, each in kept.items()}


def _keep(uow: UnitOfWork, feed: str, changed: dict[str, Watched]) -> None:
    values = {f"{_WATCHED}{key}": each.as_json() for key, each in changed.items()}
    uow.listener_state.put(feed, values)


def _key(query: Query) -> str:
    text = query.text
    if len(text) > _LONGEST_KEY:
        text = f"{query.resource_type}?{sha256(text.encode()).hexdigest()}"
    return f"{_CURSOR}{text}"


def _relative(reference: str) -> str:
    return "/".join(reference.split("/_history/", maxsplit=1)[0].rstrip("/").split("/")[-2:])


def _first(bundle: bytes) -> dict[str, object]:
    """Give the first resource of a Bundle; an empty object where there is none."""
    entries = orjson.loads(bundle).get("entry") or [{}]
    found: dict[str, object] = entries[0].get("resource") or {}
    return found
