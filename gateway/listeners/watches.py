"""What a listener looks for besides its work: is its source silent, do its probes arrive?

Each gives a sentence when something is wrong, and nothing when all is well.
"""

from collections.abc import Callable
from datetime import datetime

from gateway import telemetry
from gateway.core.clock import from_ms, to_ms
from gateway.core.errors import ProcessingError, TransientError
from gateway.delivery_probe import DeliveryProbe, Sent
from gateway.listeners.desk import Desk
from gateway.source_silence import last_heard_ms

_LOOK_EVERY_MS = 15_000

log = telemetry.get_logger()


class SilenceWatch:
    """Looks when the newest event of a system came."""

    def __init__(self, desk: Desk, after_s: float, now: Callable[[], datetime]) -> None:
        self._desk = desk
        self._after_s = after_s
        self._now = now
        # What a listener that has just begun did not hear is no silence yet.
        self._began_ms = self._look_at_ms = to_ms(now())
        self._says = ""

    def look(self) -> str:
        """Say whether it is silent."""
        now_ms = to_ms(self._now())
        if now_ms >= self._look_at_ms:
            self._look_at_ms = now_ms + _LOOK_EVERY_MS
            self._says = self._words(now_ms)
        return self._says

    def _words(self, now_ms: int) -> str:
        try:
            with self._desk.store.read() as uow:
                heard_ms = last_heard_ms(uow, self._desk.site(), self._desk.feed.system)
        except TransientError:
            return self._says
        since_ms = max(heard_ms or 0, self._began_ms)
        if now_ms - since_ms <= self._after_s * 1000:
            return ""
        return f"Nothing new came for more than {self._after_s:g} s (silent_after_s)."


class ProbeWatch:
    """Sends a probe from time to time and waits for it until the next is due."""

    def __init__(
        self, probe: DeliveryProbe, feed: str, every_s: float, now: Callable[[], datetime]
    ) -> None:
        self._probe = probe
        self._feed = feed
        self._every_ms = int(every_s * 1000)
        self._now = now
        self._due_ms = 0
        self._sent: Sent | None = None
        self._says = ""

    def look(self) -> str:
        """Say whether the last probe was lost, or could not be sent."""
        now_ms = to_ms(self._now())
        try:
            self._await()
            if now_ms >= self._due_ms:
                self._due_ms = now_ms + self._every_ms
                self._judge()
                self._sent = self._probe.send()
        except TransientError:
            return self._says  # the feed itself says so
        except ProcessingError as error:
            self._says = f"The EHR does not take a probe: {error.message}"
        return self._says

    def _await(self) -> None:
        if self._sent is None:
            return
        lag_ms = self._probe.lag_ms(self._sent)
        if lag_ms is not None:
            telemetry.observe_probe(self._feed, lag_ms / 1000)
            log.debug("probe-arrived", route=self._feed, lag_ms=lag_ms)
            self._sent, self._says = None, ""

    def _judge(self) -> None:
        """Say of a probe that is still awaited when the next is due that it was lost."""
        if self._sent is not None:
            at = from_ms(self._sent.sent_ms).isoformat(timespec="seconds")
            self._says = f"The probe written in the EHR at {at} did not arrive."
            log.warning("probe-lost", route=self._feed)
