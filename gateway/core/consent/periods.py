"""Times in consents and in the data they speak of.

`provision.period` says when a rule holds, `provision.dataPeriod` which data it speaks of. A partial
date means its whole span. The day of a `period` is a day in UTC; the day of a `dataPeriod` is a
day on the calendar where the data was written, since that is what a patient means by it.

Source: FHIR R4 Period: "If the end of the period is 2012-02-03, the period includes that day".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime, timedelta, tzinfo
from typing import Any, Literal

from gateway.core import clinical_time

# Of the calendar: an open side of a time reaches that far.
_BEGINNING = datetime.min.replace(tzinfo=UTC)
_END = datetime.max.replace(tzinfo=UTC)
_TICK = timedelta(microseconds=1)

Position = Literal["inside", "outside", "unclear"]


@dataclass(frozen=True, slots=True)
class Period:
    """From one moment to another.

    Attributes:
        starts: The first moment that is held; None while it is open.
        ends: The first moment that is no longer held; None while it is open.
    """

    starts: datetime | None
    ends: datetime | None

    @property
    def is_empty(self) -> bool:
        """Whether no moment lies in it."""
        return bool(self.starts and self.ends and self.starts >= self.ends)


@dataclass(frozen=True, slots=True)
class DataTime:
    """When data was true of the patient, or a consent was given.

    Attributes:
        first: The earliest instant it can have been, in UTC.
        last: The latest.
        local_first: The earliest by the calendar and clock of where it was written; naive.
        local_last: The latest.
    """

    first: datetime
    last: datetime
    local_first: datetime
    local_last: datetime


def read_period(period: Mapping[str, Any]) -> Period:
    """Read the FHIR Period in which a rule holds.

    Raises:
        ValueError: It has neither start nor end, or one that is no dateTime.
    """
    if "start" not in period and "end" not in period:
        raise ValueError("neither start nor end")
    starts = _first_moment(period["start"], UTC) if "start" in period else None
    ends = _moment_after(period["end"], UTC) if "end" in period else None
    return Period(starts, ends)


def read_data_period(period: Mapping[str, Any]) -> Period:
    """Read the FHIR Period of data; a boundary without a time is naive: a day on the calendar.

    Raises:
        ValueError: It has neither start nor end, or one that is no dateTime.
    """
    if "start" not in period and "end" not in period:
        raise ValueError("neither start nor end")
    starts = _first_moment(period["start"], None) if "start" in period else None
    ends = _moment_after(period["end"], None) if "end" in period else None
    return Period(starts, ends)


def data_time(first: object, last: object) -> DataTime | None:
    """Read when data was true: one dateTime given twice, or the ends of a Period.

    Args:
        first: FHIR dateTime; None when it is open to that side.
        last: The same.

    Returns:
        None when it can't be read, or says nothing.
    """
    begins, ends = clinical_time.parse(first), clinical_time.parse(last)
    is_unreadable = (begins is None and first is not None) or (ends is None and last is not None)
    if is_unreadable or (begins is None and ends is None):
        return None
    return DataTime(
        first=begins.first if begins else _BEGINNING,
        last=ends.last if ends else _END,
        local_first=_local(_first_moment(str(first), None)) if begins else _local(_BEGINNING),
        local_last=_last_local(str(last)) if ends else _local(_END),
    )


def is_later(one: DataTime, other: DataTime) -> bool:
    """Say whether one time lies wholly after another, on the calendar and not against the clock."""
    return one.local_first > other.local_last and one.last > other.first


def position(time: DataTime, period: Period) -> Position:
    """Say whether data lies wholly inside of a period, wholly outside, or neither for certain."""
    starts, ends = period.starts, period.ends
    first_of_start, last_of_start = _ends_for(time, starts)
    first_of_end, last_of_end = _ends_for(time, ends)
    if (starts and last_of_start < starts) or (ends and first_of_end >= ends):
        return "outside"
    is_inside = (not starts or first_of_start >= starts) and (not ends or last_of_end < ends)
    return "inside" if is_inside else "unclear"


def _ends_for(time: DataTime, boundary: datetime | None) -> tuple[datetime, datetime]:
    """Give the ends of a time in the reckoning in which they can be compared to a boundary."""
    if boundary is not None and boundary.tzinfo is None:
        return time.local_first, time.local_last
    return time.first, time.last


def _local(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)


def _last_local(text: str) -> datetime:
    if "T" in text:
        return _local(_first_moment(text, None))
    after = _moment_after(text, None)
    return _local(_END) if after is None else after - _TICK


def _first_moment(text: str, zone: tzinfo | None) -> datetime:
    """Give the first moment of a FHIR dateTime; a date is a day of the given zone.

    Raises:
        ValueError: It is not a dateTime.
    """
    if "T" not in text:
        year, month, day = _parts(text)
        return datetime(year, month or 1, day or 1, tzinfo=zone)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("no time zone")
    return moment


def _moment_after(text: str, zone: tzinfo | None) -> datetime | None:
    """Give the first moment after a FHIR dateTime; None when the calendar ends before it.

    Raises:
        ValueError: It is not a dateTime.
    """
    first = _first_moment(text, zone)
    if first.year == MAXYEAR:
        # 9999-12-31 is how many systems write "no end".
        return None
    if "T" in text:
        return first + timedelta(seconds=1)
    year, month, day = _parts(text)
    if day:
        return first + timedelta(days=1)
    after = (year, month + 1) if month and month < 12 else (year + 1, 1)  # noqa: PLR2004 - months
    return datetime(*after, 1, tzinfo=zone)


def _parts(text: str) -> tuple[int, int, int]:
    """Give year, month and day of a date; 0 for what a partial date leaves out."""
    year, month, day = ([int(part) for part in text.split("-")] + [0, 0])[:3]
    return year, month, day
