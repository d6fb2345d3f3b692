"""What the listeners that follow an EHR have in common: its client, their turns, how they stand."""

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from adapters.feeds.poll import PollPlan, Query
from adapters.feeds.watch import Patience
from adapters.fhir_rest.client import FhirClient
from adapters.site_following import FollowEntry, ProbedEntry
from gateway.core.clock import utc_now
from gateway.delivery_probe import DeliveryProbe, Trace
from gateway.listeners.deletions import DECISIVE, DeletionPlan
from gateway.listeners.desk import Desk
from gateway.listeners.handing_in import HandingIn
from gateway.listeners.lease import Lease
from gateway.listeners.watches import ProbeWatch, SilenceWatch
from gateway.settings import get_settings
from workers.ehrs import Ehrs

#: How late a notice is seen that the API kept, in seconds.
_TURN_EVERY_S = 1.0

#: Without a Subscription there is nothing to be patient with.
NO_SUBSCRIPTION = Patience(grace_ms=0, heartbeat_ms=None, retry_ms=60_000)


def connected(desk: Desk) -> tuple[FhirClient, Ehrs]:
    """Give the client of the feed's system, and what closes it.

    Raises:
        ConfigurationError: The site can't say where it is.
    """
    ehrs = Ehrs(desk.site, store=desk.store, timeout_s=get_settings().ehr_timeout_s)
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


def deletion_plan(desk: Desk, entry: FollowEntry, *, is_first: bool) -> DeletionPlan:
    """Give how deletions are looked for: of what is followed, and of what decides whatever is.

    Args:
        desk: Of the feed.
        entry: Its settings.
        is_first: Whether no other feed of the system looks after Consents and Patients.
    """
    followed_types = [each.resource_type for each in queries_of(entry)]
    decisive = DECISIVE if is_first else ()
    return DeletionPlan(
        types=tuple(dict.fromkeys([*decisive, *followed_types])),
        every_ms=int(entry.deletions_every_s * 1000),
        overlap_ms=int(entry.overlap_s * 1000),
        site=desk.site,
    )


class Follows(Protocol):
    """Follows an EHR in turns."""

    @property
    def problem(self) -> str:
        """What is wrong although what is needed answers; empty when all is well."""

    def turn(self) -> bool:
        """Do what is due; say whether nobody who is needed was away."""


def followed(follower: Follows) -> str:
    """Let a follower take its turn; say what is wrong, or nothing."""
    is_answered = follower.turn()
    away = "" if is_answered else "The EHR, or the API, does not answer; it is tried again."
    return follower.problem or away


def take_turns(
    desk: Desk, turns: Sequence[Callable[[], str]], stop: threading.Event, *, says: str
) -> None:
    """Take turns until told to stop, while no other host does; tell how the feed stands.

    Args:
        desk: Of the feed.
        turns: Each does what is due and says what is wrong, or nothing; the first word counts.
        stop: Set when it is to end.
        says: What the feed does, in words.
    """
    lease = Lease(desk.store, desk.feed.name, desk.host, utc_now)
    told = ""
    while not stop.is_set():
        problem, now = "", f"stands by: it is followed on {lease.held_by or 'no host'}"
        if lease.holds():
            problem = next(filter(None, [turn() for turn in turns]), "")
            now = problem or says
        # Only of changes: the log need not repeat them at every turn.
        if now != told:
            told = now
            tell = desk.standing.failed if problem else desk.standing.up
            tell(told)
        stop.wait(_TURN_EVERY_S)
    lease.give_up()


def watches(
    desk: Desk, entry: ProbedEntry, trace: Callable[[str], Trace]
) -> list[Callable[[], str]]:
    """Give what looks whether the source is silent, and whether its probes arrive.

    Args:
        desk: Of the feed.
        entry: Its settings.
        trace: Gives what a probe leaves in the EHR about a made-up patient.
    """
    found: list[Callable[[], str]] = []
    system = desk.site().system(desk.feed.system)
    patient = system.test_patient if system else None
    if entry.silent_after_s is not None:
        found.append(SilenceWatch(desk, entry.silent_after_s, utc_now).look)
    if entry.probe_every_s is not None and patient is not None:
        names = (desk.feed.name, desk.feed.system)
        probe = DeliveryProbe(desk.store, trace(patient), names, desk.source)
        found.append(ProbeWatch(probe, desk.feed.name, entry.probe_every_s, utc_now).look)
    return found
