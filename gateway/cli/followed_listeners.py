"""`nadi up` runs the listeners that the site in force wants, and follows when another is applied.

The supervisor has to stay small, so it does not read the site: the API says in `/health/ready`
which listeners there should be. While the API does not answer, everything stays as it is.
"""

import http.client
import importlib.util
import json
import time
from collections.abc import Callable

from gateway.cli.processes import listener
from gateway.settings import WILDCARDS, Settings
from gateway.supervisor import Supervisor

ASK_EVERY_S = 2.0
#: Short: the supervisor watches nobody meanwhile, and an API that is frozen never answers.
_ANSWER_WITHIN_S = 0.5

Tick = Callable[[], float]


class FollowedListeners:
    """Adds and removes the processes of listeners."""

    def __init__(self, settings: Settings, supervisor: Supervisor) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._running: set[str] = set()
        self._ask_at = 0.0

    def __call__(self) -> float:
        """Look once, when it is time; give the seconds until the next look."""
        now = time.monotonic()
        if now >= self._ask_at:
            self._ask_at = now + ASK_EVERY_S
            wanted = wanted_kinds(
                WILDCARDS.get(self._settings.host, self._settings.host), self._settings.port
            )
            if wanted is not None:
                self._follow(wanted)
        return self._ask_at - now

    def _follow(self, wanted: set[str]) -> None:
        for kind in sorted(self._running - wanted):
            self._supervisor.remove(kind)
        for kind in sorted(wanted - self._running):
            self._supervisor.add(listener(self._settings, kind))
        self._running = wanted


def wanted_kinds(host: str, port: int) -> set[str] | None:
    """Ask the API which kinds of listeners the site wants; None when it does not answer."""
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_WITHIN_S)
    try:
        connection.request("GET", "/health/ready")
        named = json.loads(connection.getresponse().read())["listeners"]
        kinds = {str(name).partition("/")[2] for name in named}
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    finally:
        connection.close()
    return {kind for kind in kinds if importlib.util.find_spec(f"gateway.listeners.{kind}")}


def soonest(*ticks: Tick) -> Tick:
    """Join what is called at every turn of the supervisor."""
    return lambda: min(tick() for tick in ticks)
