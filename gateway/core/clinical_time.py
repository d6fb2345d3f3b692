"""When something was true of the patient, as FHIR says it: with seconds, or only a day or a year.

A date without a time is a span: somewhere between the day's first instant in the easternmost time
zone and its last in the westernmost. Whoever judges age uses the early end, so that nothing
passes for fresher than it can be proved to be.

Source: FHIR R4 `dateTime` (http://hl7.org/fhir/R4/datatypes.html#dateTime) and
`Observation.effective[x]`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

Json = Mapping[str, Any]

_PARTIAL = re.compile(r"(\d{4})(?:-(\d{2}))?(?:-(\d{2}))?\Z")
_LONGEST_DATE = 10
_EASTERNMOST = timedelta(hours=14)
_WESTERNMOST = timedelta(hours=12)
_DECEMBER = 12


@dataclass(frozen=True, order=True)
class Span:
    """The instants between which something happened; both ends in UTC.

    Attributes:
        first: The earliest it can have been.
        last: The latest it can have been.
    """

    first: datetime
    last: datetime


def parse(text: object) -> Span | None:
    """Read a FHIR `dateTime`, `date` or `instant`; None when it is not one."""
    if not isinstance(text, str):
        return None
    try:
        if len(text) <= _LONGEST_DATE and (partial := _PARTIAL.match(text)):
            return _whole(*partial.groups())
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            return None
        instant = moment.astimezone(UTC)
        return Span(instant, instant)
    except (ValueError, OverflowError):
        return None


def effective(resource: Json) -> Span | None:
    """When an Observation was true of the patient; None when it doesn't say so readably.

    `issued` is no substitute: it is when the result was published, and an old sample would pass
    for a new one. Of a period the end counts, or the start while it is open.
    """
    if text := resource.get("effectiveDateTime") or resource.get("effectiveInstant"):
        return parse(text)
    period = resource.get("effectivePeriod") or {}
    return parse(period.get("end") or period.get("start"))


def clinical_time(resource: Json) -> datetime | None:
    """The latest instant at which an event's Observation can have been true.

    This is the `at` of feature extraction: inputs of the same day count as known.
    """
    span = effective(resource)
    return span.last if span else None


def completed_years(birth_date: object, at: datetime) -> int | None:
    """Age in completed years; None when the birth date is absent or unreadable.

    A month or day that is not known counts as the first, so the age is at most one year too high.
    """
    born = _PARTIAL.match(birth_date) if isinstance(birth_date, str) else None
    if born is None:
        return None
    year, month, day = (int(part or 1) for part in born.groups())
    return at.year - year - ((at.month, at.day) < (month, day))


def _whole(year: str, month: str | None, day: str | None) -> Span:
    begin = date(int(year), int(month or 1), int(day or 1))
    if day:
        after = begin + timedelta(days=1)
    elif month:
        after = date(begin.year + begin.month // _DECEMBER, begin.month % _DECEMBER + 1, 1)
    else:
        after = date(begin.year + 1, 1, 1)
    return Span(_midnight(begin) - _EASTERNMOST, _midnight(after) + _WESTERNMOST)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
