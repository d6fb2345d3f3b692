"""Notices that the clock was set back: it then went less far than the monotonic one.

A process that begins has nothing to compare with but what is on record: a moment that is still to
come was written under a clock that was ahead.
"""

from collections.abc import Callable

#: Less is what time servers do all day; whoever waits for it waits no longer than this.
_WORTH_IT_MS = 10_000


class ClockWatch:
    """Remembers how far the clock was ahead of the monotonic one."""

    def __init__(self) -> None:
        self._ahead_ms: float | None = None
        self._seen_ms = 0.0

    def set_back_by(
        self, now_ms: int, monotonic_s: float, on_record_ms: Callable[[], int | None]
    ) -> int:
        """Say by how many milliseconds the clock was set back, else 0; again until `go_on`.

        Args:
            now_ms: What the clock says.
            monotonic_s: What the monotonic clock says.
            on_record_ms: Gives the latest moment on record; asked at the first look.
        """
        self._seen_ms = now_ms - monotonic_s * 1000
        if self._ahead_ms is None:
            self._ahead_ms = self._seen_ms + (on_record_ms() or now_ms) - now_ms
        by_ms = int(self._ahead_ms - self._seen_ms)
        if by_ms >= _WORTH_IT_MS:
            return by_ms
        self.go_on()
        return 0

    def go_on(self) -> None:
        """Take the clock as it was at the last look: what had to be done about it is done."""
        self._ahead_ms = self._seen_ms
