"""Removes what has had its time, from time to time, on a thread beside the relay that leads.

With no `retention` in the site file nothing is removed. Each transaction is short and followed by a
pause, so that the queue goes on.
"""

import threading
from collections.abc import Callable

from adapters.site import Site
from gateway import telemetry
from gateway.core.audit import Source
from gateway.core.clock import Clock, new_id, utc_now
from gateway.core.errors import GatewayError
from gateway.store.retaining import Run, expire
from gateway.store.unit_of_work import Store

#: How often it looks; classes are counted in days.
EVERY_S = 3600.0
_PAUSE_S = 0.05
_LONGEST_WAIT_S = 1.0

log = telemetry.get_logger()


class RetentionRunner:
    """Runs the retention of a site."""

    def __init__(
        self,
        store: Store,
        site: Callable[[], Site],
        source: Source,
        *,
        every_s: float = EVERY_S,
        clock: Clock = utc_now,
    ) -> None:
        self._store = store
        self._site = site
        self._source = source
        self._every_s = every_s
        self._clock = clock
        self._offered = threading.Event()
        self._next_s = 0.0

    def offer(self) -> None:
        """Say that this relay leads; returns at once."""
        self._offered.set()

    def run(self, stopped: threading.Event) -> None:
        """Look whenever it is time and the relay leads, until told to stop."""
        while not stopped.is_set():
            if not self._offered.wait(_LONGEST_WAIT_S):
                continue
            self._offered.clear()
            if self._clock().timestamp() < self._next_s:
                continue
            try:
                self.turn(stopped)
            except GatewayError as error:
                log.warning("retention-waits", error=type(error).__name__)

    def turn(self, stopped: threading.Event) -> int:
        """Remove what has had its time; give how many rows.

        Raises:
            TransientError: The database is away.
            ConfigurationError: The applied site can't be used.
        """
        self._next_s = self._clock().timestamp() + self._every_s
        retention = self._site().retention
        if not retention.is_in_force:
            return 0
        run = Run(self._source, None, new_id())
        done = expire(self._store, retention, run, has_to_stop=lambda: stopped.wait(_PAUSE_S))
        count = sum(done.values())
        if count:
            log.info("retention-removed", count=count)
        return count
