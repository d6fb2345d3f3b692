"""`nadi up` runs the listeners that the site in force wants, and follows when another is applied.

The supervisor has to stay small, so it does not read the site: the API says in `/health/ready`
which listeners there should be. It is never waited for; while it does not answer, everything stays
as it is.
"""

import importlib.util
import time
from collections.abc import Callable, Mapping
from typing import Any

from gateway.cli.health_question import LOOK_AGAIN_S, HealthQuestion
from gateway.cli.processes import listener
from gateway.settings import Settings
from gateway.supervisor import Supervisor

ASK_EVERY_S = 2.0

Tick = Callable[[], float]


class FollowedListeners:
    """Adds and removes the processes of listeners."""

    def __init__(self, settings: Settings, supervisor: Supervisor) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._running: set[str] = set()
        self._question = HealthQuestion(settings)
        self._ask_at = 0.0

    def __call__(self) -> float:
        """Look once, and ask when it is time; give the seconds until the next look."""
        now = time.monotonic()
        wanted = wanted_kinds(self._question.answer())
        if wanted is not None:
            self._follow(wanted)
        if now >= self._ask_at and not self._question.is_open:
            self._ask_at = now + ASK_EVERY_S
            self._question.put()
        return LOOK_AGAIN_S if self._question.is_open else self._ask_at - now

    def close(self) -> None:
        """Ask no more."""
        self._question.close()

    def _follow(self, wanted: set[str]) -> None:
        for kind in sorted(self._running - wanted):
            self._supervisor.remove(kind)
        for kind in sorted(wanted - self._running):
            self._supervisor.add(listener(self._settings, kind))
        self._running = wanted


def wanted_kinds(health: Mapping[str, Any] | None) -> set[str] | None:
    """Read which kinds of listeners the site wants; None where that was not told.

    Args:
        health: What `/health/ready` said; None when it said nothing.
    """
    named = health.get("listeners") if health else None
    if not isinstance(named, dict):
        return None
    kinds = {str(name).partition("/")[2] for name in named}
    return {kind for kind in kinds if importlib.util.find_spec(f"gateway.listeners.{kind}")}


def soonest(*ticks: Tick) -> Tick:
    """Join what is called at every turn of the supervisor."""
    return lambda: min(tick() for tick in ticks)
