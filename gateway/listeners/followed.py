"""What the listeners that follow an EHR have in common: its client, their turns, how they stand."""

import threading
from collections.abc import Callable
from contextlib import suppress

from adapters.feeds.poll import PollPlan, Query
from adapters.feeds.watch import Patience
from adapters.fhir_rest.client import FhirClient
from adapters.site_following import FollowEntry
from gateway import telemetry
from gateway.core.clock import to_ms, utc_now
from gateway.core.errors import TransientError
from gateway.listeners.desk import Desk
from gateway.listeners.following import Follower
from gateway.listeners.handing_in import HandingIn
from gateway.settings import get_settings
from gateway.source_silence import last_heard_ms
from workers.ehrs import Ehrs

#: How late a notice is seen that the API kept, in seconds.
_TURN_EVERY_S = 1.0
_LOOK_FOR_SILENCE_EVERY_S = 30.0

#: Without a Subscription there is nothing to be patient with.
NO_SUBSCRIPTION = Patience(grace_ms=0, heartbeat_ms=None, retry_ms=60_000)

log = telemetry.get_logger()


def connected(desk: Desk) -> tuple[FhirClient, Ehrs]:
    """Give the client of the feed's system, and what closes it.

    Raises:
        ConfigurationError: The site can't say where it is.
    """
    ehrs = Ehrs(desk.site, timeout_s=get_settings().ehr_timeout_s)
    return ehrs.connection(desk.feed.system).client, ehrs


def handing_in(desk: Desk, base_url: str, stop: threading.Event) -> HandingIn:
    """Give the way in for the resources of a feed."""
    return HandingIn(
        lambda bundle: desk.hand_over(bundle, stop), base_url=base_url, count=desk.count
    )


def queries_of(entry: FollowEntry) -> tuple[Query, ...]:
    """Give what is followed."""
    return tuple(Query(each) for each in entry.types)


def poll_plan(entry: FollowEntry) -> PollPlan:
    """Give how it is asked for."""
    return PollPlan(
        overlap_ms=int(entry.overlap_s * 1000), count=entry.page, includes=tuple(entry.include)
    )


def followed(follower: Follower) -> str:
    """Let a follower take its turn; say what is wrong, or nothing."""
    return "" if follower.turn() else "The EHR, or the API, does not answer; it is tried again."


def take_turns(
    desk: Desk,
    turn: Callable[[], str],
    stop: threading.Event,
    *,
    says: str,
    silent_after_s: float | None,
) -> None:
    """Take turns until told to stop; tell how the feed stands when that changes.

    Args:
        desk: Of the feed.
        turn: Does what is due; says what is wrong, or nothing.
        stop: Set when it is to end.
        says: What it does, in words.
        silent_after_s: After how long without news the source counts as silent.
    """
    standing = _Standing(desk, says, silent_after_s)
    while not stop.is_set():
        standing.now(turn())
        stop.wait(_TURN_EVERY_S)


class _Standing:
    """Tells of changes only, so that the log does not repeat them at every turn."""

    def __init__(self, desk: Desk, says: str, silent_after_s: float | None) -> None:
        self._desk = desk
        self._says = says
        self._silent_after_s = silent_after_s
        self._told = ""
        self._silence = ""
        self._look_at_ms = 0

    def now(self, problem: str) -> None:
        """Take in how a turn went."""
        self._look_for_silence()
        problem = problem or self._silence
        told = problem or self._says
        if told == self._told:
            return
        self._told = told
        if problem:
            self._desk.standing.failed(problem)
        else:
            self._desk.standing.up(self._says)

    def _look_for_silence(self) -> None:
        now_ms = to_ms(utc_now())
        if self._silent_after_s is None or now_ms < self._look_at_ms:
            return
        self._look_at_ms = now_ms + int(_LOOK_FOR_SILENCE_EVERY_S * 1000)
        with suppress(TransientError), self._desk.store.read() as uow:
            heard_ms = last_heard_ms(uow, self._desk.site(), self._desk.feed.system)
            is_silent = heard_ms is None or now_ms - heard_ms > self._silent_after_s * 1000
            words = f"Nothing new came for more than {self._silent_after_s:g} s (silent_after_s)."
            self._silence = words if is_silent else ""
