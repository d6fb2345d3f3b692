"""(3) Off-peak hours: when the jobs of a heavy route may start; pure.

Rules:

1. Outside of its window a route's jobs wait, whatever their lane but stat; inside they take their
   turn as any others do. What has started is finished.
2. A window may pass midnight. Its hours are those of a wall clock in the site's time zone: in the
   night that the clocks change it is an hour longer or shorter.
"""

from dataclasses import dataclass
from datetime import datetime, time
from zoneinfo import ZoneInfo

from gateway.core.lanes import Lane


@dataclass(frozen=True)
class RunWindow:
    """A span of every day.

    Attributes:
        start: When it opens.
        end: When it closes; that moment is outside already.
        zone: Time zone in which they are meant.
    """

    start: time
    end: time
    zone: ZoneInfo

    def is_open(self, moment: datetime) -> bool:
        """Say whether a moment, which is aware, is inside."""
        local = moment.astimezone(self.zone).time()
        if self.start < self.end:
            return self.start <= local < self.end
        return local >= self.start or local < self.end

    def lets(self, lane: Lane, moment: datetime) -> bool:
        """Say whether a job of a lane may start now."""
        return lane is Lane.STAT or self.is_open(moment)

    @property
    def words(self) -> str:
        """The window in words."""
        return f"{self.start:%H:%M} to {self.end:%H:%M} ({self.zone.key})"
