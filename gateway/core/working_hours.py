"""When a hospital works, and so which moments are outside of it; pure.

A working day has one span of hours in the time zone of the site. Nights, days off and holidays are
the rest.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)

Span = tuple[datetime, datetime]


@dataclass(frozen=True)
class WorkingHours:
    """The hours of a site.

    Attributes:
        zone: Time zone in which they are meant.
        days: Working days, Monday is 0.
        start: When a working day begins.
        end: When it ends; that moment is outside already.
        holidays: Days on which nobody works.
    """

    zone: ZoneInfo
    days: frozenset[int]
    start: time
    end: time
    holidays: frozenset[date] = frozenset()

    def is_open(self, moment: datetime) -> bool:
        """Say whether a moment is within working hours."""
        local = moment.astimezone(self.zone)
        return self._is_working(local.date()) and self.start <= local.time() < self.end

    def closed(self, since: datetime, until: datetime) -> Iterator[Span]:
        """Give the spans outside working hours, the latest first.

        Args:
            since: Aware; where to begin.
            until: Aware; where to end, itself left out.
        """
        edge = until
        for begins, ends in self._open(since, until):
            if ends < edge:
                yield ends, edge
            edge = min(edge, begins)
        if since < edge:
            yield since, edge

    def _open(self, since: datetime, until: datetime) -> Iterator[Span]:
        """Give the working spans that touch a span of time, cut to it, the latest first."""
        first = since.astimezone(self.zone).date()
        day = until.astimezone(self.zone).date()
        while day >= first:
            if self._is_working(day):
                begins, ends = max(self._at(day, self.start), since), self._at(day, self.end)
                if begins < min(ends, until):
                    yield begins, min(ends, until)
            day -= _DAY

    def _is_working(self, day: date) -> bool:
        return day.weekday() in self.days and day not in self.holidays

    def _at(self, day: date, hour: time) -> datetime:
        return datetime.combine(day, hour, self.zone).astimezone(UTC)
