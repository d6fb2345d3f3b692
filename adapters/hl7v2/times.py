"""Times of a message as FHIR writes them, no more exact than they were written.

A day stays a day. FHIR wants a zone with every time of day: where the message names none, it is
the feed's, with the offset that this zone had then.

Source: HL7 v2.9 2A.3.21 DT, 2A.3.22 DTM; FHIR R4 dateTime, instant, date, time.
"""

import re
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from gateway.core import clinical_time

_DTM = re.compile(
    r"(?P<year>\d{4})(?:(?P<month>\d\d)(?:(?P<day>\d\d)(?:(?P<hour>\d\d)(?:(?P<minute>\d\d)"
    r"(?:(?P<second>\d\d)(?P<fraction>\.\d{1,6})?)?)?)?)?)?(?P<zone>[+-]\d{4})?"
)
_TIME = re.compile(r"(\d\d)(?:(\d\d)(?:(\d\d)(\.\d{1,6})?)?)?(?:[+-]\d{4})?")
_FARTHEST = timedelta(hours=14)


class NoTime(ValueError):
    """The text is no time of HL7 v2."""


def date(text: str) -> str:
    """Write a day, month or year.

    Raises:
        NoTime: It is none.
    """
    found = _matched(text)
    parts = (found["year"], found["month"], found["day"])
    return "-".join(part for part in parts if part)


def date_time(text: str, zone: ZoneInfo) -> str:
    """Write a FHIR dateTime.

    Raises:
        NoTime: It is none.
    """
    found = _matched(text)
    return date(text) if found["hour"] is None else _moment(found, zone)


def instant(text: str, zone: ZoneInfo) -> str:
    """Write a FHIR instant; of a day alone, when it began.

    Raises:
        NoTime: It is none, or less than a day.
    """
    found = _matched(text)
    if found["day"] is None:
        raise NoTime
    return _moment(found, zone)


def time(text: str) -> str:
    """Write a time of day.

    Raises:
        NoTime: It is none.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise NoTime
    hour, minute, second, fraction = found.groups()
    written = f"{hour}:{minute or '00'}:{second or '00'}{fraction or ''}"
    try:
        datetime.fromisoformat(f"2000-01-01T{written[:8]}")
    except ValueError as error:
        raise NoTime from error
    return written


def in_order(period: dict[str, str]) -> dict[str, str]:
    """Give a Period without its end where that can lie before its start (per-1)."""
    start, end = (clinical_time.parse(period.get(name)) for name in ("start", "end"))
    if start is None or end is None or (start.last <= end.last and start.first <= end.first):
        return period
    return {"start": period["start"]}


def _matched(text: str) -> "re.Match[str]":
    found = _DTM.fullmatch(text.strip())
    if found is None:
        raise NoTime
    _local(found)
    return found


def _local(found: "re.Match[str]") -> datetime:
    year, *rest = (int(found[name] or least) for name, least in _LEAST)
    month, day, hour, minute, second = rest
    try:
        return datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 - the zone follows
    except ValueError as error:
        raise NoTime from error


_LEAST = (("year", 0), ("month", 1), ("day", 1), ("hour", 0), ("minute", 0), ("second", 0))


def _moment(found: "re.Match[str]", zone: ZoneInfo) -> str:
    local = _local(found)
    offset = local.replace(tzinfo=_named_zone(found["zone"]) or zone).strftime("%z")
    fraction = found["fraction"] or ""
    written = f"{local:%Y-%m-%dT%H:%M:%S}{fraction}{offset[:3]}:{offset[3:5]}"
    # At either end of the calendar a zone leads out of it.
    if clinical_time.parse(written) is None:
        raise NoTime
    return written


def _named_zone(text: str | None) -> timezone | None:
    if text is None:
        return None
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:]))
    if offset > _FARTHEST or int(text[3:]) > 59:  # noqa: PLR2004 - minutes of an hour
        raise NoTime
    return timezone(-offset if text[0] == "-" else offset)
