"""The listener that reads Atom feeds: `python -m gateway.listeners.atom`."""

import threading
from functools import partial

from adapters.feeds.atom_client import AtomClient, atom_client
from adapters.site_address import completed
from adapters.site_following import AtomEntry
from gateway.core.clock import utc_now
from gateway.core.errors import ConfigurationError
from gateway.delivery_probe import SavedPatientTrace
from gateway.listeners.desk import Desk
from gateway.listeners.followed import connected, followed, handing_in, take_turns, watches
from gateway.listeners.following_atom import AtomFollower, AtomPlan
from gateway.listeners.serving import serve
from gateway.settings import get_settings
from workers.pacing import paced

KIND = "atom"


class AtomListener:
    """Reads the feeds of one system."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def run(self, stop: threading.Event) -> None:
        """Read until told to stop.

        Raises:
            ConfigurationError: The site can't say where the system, or its feeds, are.
        """
        desk, entry = self._desk, self._desk.feed.entry
        if not isinstance(entry, AtomEntry):
            raise ConfigurationError(f"{desk.feed.name} has no settings of Atom feeds.")
        client, ehrs = connected(desk)
        base_url = ehrs.connection(desk.feed.system).base_url
        feeds = _feeds(desk, entry)
        follower = AtomFollower(
            desk.feed.name,
            AtomPlan(tuple(entry.feeds), int(entry.every_s * 1000), entry.from_beginning),
            (desk.store, feeds, client, handing_in(desk, base_url, stop)),
            utc_now,
        )
        says = f"reads {', '.join(entry.feeds)} every {entry.every_s:g} s"
        try:
            trace = partial(SavedPatientTrace, feeds.save_patient)
            turns = [lambda: followed(follower), *watches(desk, entry, trace)]
            take_turns(desk, turns, stop, says=says)
        finally:
            feeds.close()
            ehrs.close()


def _feeds(desk: Desk, entry: AtomEntry) -> AtomClient:
    system = desk.site().system(desk.feed.system)
    if system is None:
        raise ConfigurationError(f"The site has no system '{desk.feed.system}' (any more).")
    base_url = completed(entry.base_url, f"The base_url of {desk.feed.name}")
    timeout_s = get_settings().ehr_timeout_s
    pace = paced(system, desk.store, timeout_s=system.timeout_s or timeout_s)
    return atom_client(base_url, system, timeout_s, pace)


if __name__ == "__main__":
    serve(KIND, AtomListener)
