"""The listener that asks what changed: `python -m gateway.listeners.poll`.

It also does what pings ask for, where no Subscription of the system is kept.
"""

import threading
from functools import partial

from adapters.site_following import PollEntry
from gateway.core.clock import utc_now
from gateway.core.errors import ConfigurationError
from gateway.delivery_probe import ObservationTrace
from gateway.listeners.desk import Desk
from gateway.listeners.followed import (
    NO_SUBSCRIPTION,
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
from gateway.listeners.serving import serve

KIND = "poll"


class PollListener:
    """Polls one system."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def run(self, stop: threading.Event) -> None:
        """Ask until told to stop.

        Raises:
            ConfigurationError: The site can't say where the system is.
        """
        desk, entry = self._desk, self._desk.feed.entry
        if not isinstance(entry, PollEntry):
            raise ConfigurationError(f"{desk.feed.name} has no settings of a poll.")
        client, ehrs = connected(desk)
        base_url = ehrs.connection(desk.feed.system).base_url
        way_in = handing_in(desk, base_url, stop)
        follower = Follower(
            (desk.feed.name, desk.feed.system),
            _plan(desk, entry),
            (desk.store, client, way_in),
            utc_now,
        )
        says = f"asks {base_url} every {entry.every_s:g} s for {', '.join(entry.types)}"
        try:
            trace = partial(ObservationTrace, client)
            turns = [lambda: followed(follower), *watches(desk, entry, trace)]
            take_turns(desk, turns, stop, says=says)
        finally:
            ehrs.close()


def _plan(desk: Desk, entry: PollEntry) -> FollowPlan:
    keeps_subscriptions = f"{desk.feed.system}/subscription" in desk.site().feeds
    return FollowPlan(
        queries=queries_of(entry),
        poll=poll_plan(entry),
        every_ms=int(entry.every_s * 1000),
        lookback_ms=int(entry.lookback_s * 1000),
        patience=NO_SUBSCRIPTION,
        takes_notices=not keeps_subscriptions,
        deletions=deletion_plan(desk, entry, is_first=not keeps_subscriptions),
    )


if __name__ == "__main__":
    serve(KIND, PollListener)
