"""The listener that keeps Subscriptions: `python -m gateway.listeners.subscription`.

It sees to it that they are in the EHR and work, does what their notices ask for, and asks all the
same at an interval what changed, so that nothing is lost that was never sent.
"""

import threading
import time
from functools import partial

from adapters.feeds.watch import Patience
from adapters.fhir_rest.client import FhirClient
from adapters.site_following import SubscriptionEntry
from gateway import telemetry
from gateway.core.audit import AgentKind, AuditAgent
from gateway.core.clock import utc_now
from gateway.core.errors import ConfigurationError, ProcessingError, TransientError
from gateway.delivery_probe import ObservationTrace
from gateway.listeners.desk import Desk
from gateway.listeners.followed import (
    connected,
    deletion_plan,
    followed,
    handing_in,
    poll_plan,
    queries_of,
    take_turns,
    watches,
)
from gateway.listeners.following import Follower, FollowPlan
from gateway.listeners.keeping import Keeper
from gateway.listeners.serving import serve
from gateway.store.listener_credentials import ListenerCredentials

KIND = "subscription"
#: How often it is looked whether the Subscriptions are there and work, in seconds.
_KEEP_EVERY_S = 60.0
_RETRY_MS = 30_000

log = telemetry.get_logger()


class SubscriptionListener:
    """Keeps and watches the Subscriptions of one system."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def run(self, stop: threading.Event) -> None:
        """Keep and watch them until told to stop.

        Raises:
            ConfigurationError: The site can't say where the system, or Nadi, is.
        """
        desk, entry = self._desk, self._desk.feed.entry
        if not isinstance(entry, SubscriptionEntry):
            raise ConfigurationError(f"{desk.feed.name} has no settings of a Subscription.")
        client, ehrs = connected(desk)
        base_url = ehrs.connection(desk.feed.system).base_url
        keeping = _Keeping(keeper_of(desk, client))
        follower = Follower(
            (desk.feed.name, desk.feed.system),
            follow_plan(desk, entry, keeping),
            (desk.store, client, handing_in(desk, base_url, stop)),
            utc_now,
        )
        says = f"keeps {len(entry.types)} Subscriptions at {base_url}"
        try:
            trace = partial(ObservationTrace, client)
            turns = [keeping.turn, lambda: followed(follower), *watches(desk, entry, trace)]
            take_turns(desk, turns, stop, says=says)
        finally:
            ehrs.close()


class _Keeping:
    """Looks after the Subscriptions from time to time."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._due_s = float("-inf")
        self._problem = ""

    def turn(self) -> str:
        """See to the Subscriptions when it is time; say what is wrong, or nothing."""
        if time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + _KEEP_EVERY_S
            self._problem = self._keep()
        return self._problem

    def _keep(self) -> str:
        try:
            done = [kept.was for kept in self._keeper.keep()]
        except (TransientError, ProcessingError) as error:
            log.warning("subscription-not-kept", error=type(error).__name__)
            return f"The Subscription is not kept: {error.message} What changed is asked for."
        for was in done:
            if was != "kept":
                log.info("subscription-kept", outcome=was)
        return ""

    def renew(self, reference: str) -> None:
        """Begin one again that ended."""
        if not self._keeper.renew(reference):
            log.warning("subscription-not-ours")


def keeper_of(desk: Desk, client: FhirClient) -> Keeper:
    """Give the keeper of a feed, as its listener."""
    name = desk.feed.name
    known_as = ListenerCredentials(desk.store.sealer).credential_id(name)
    by = AuditAgent(known_as, name, AgentKind.USER, role="ehr")
    return Keeper(desk.store, desk.feed, client, source=desk.source, by=by)


def follow_plan(desk: Desk, entry: SubscriptionEntry, keeping: _Keeping) -> FollowPlan:
    """Say what is followed beside the notifications, and how patiently."""
    heartbeat_ms = entry.heartbeat_s * 1000 if entry.topic and entry.heartbeat_s else None
    return FollowPlan(
        queries=queries_of(entry),
        poll=poll_plan(entry),
        every_ms=int(entry.catch_up_s * 1000),
        lookback_ms=int(entry.lookback_s * 1000),
        patience=Patience(int(entry.grace_s * 1000), heartbeat_ms, _RETRY_MS),
        reactivate=keeping.renew,
        deletions=deletion_plan(desk, entry, is_first=True),
    )


if __name__ == "__main__":
    serve(KIND, SubscriptionListener)
