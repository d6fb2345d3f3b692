"""When a message was sent: its versions are ordered by that.

* MSH-7 says it.
* A clock that is ahead of ours by more than ten minutes is not believed: all that is sent later
  with a right clock would count as older. Such a message is as old as its reception, to the second,
  as exact as MSH-7 usually is.
* One that names no moment has none, and what was said last counts.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from adapters.hl7v2 import times
from adapters.hl7v2.dialect import Notes
from adapters.hl7v2.message import Message
from adapters.hl7v2.problems import Code
from gateway.core import clinical_time

#: By so much the clocks of a sender and of this machine may differ.
CLOCKS_DIFFER_BY = timedelta(minutes=10)
_AHEAD = (
    "The clock of the sender is ahead of the clock here by {}; the message counts from when it "
    "came. Set that clock, or the feed's timezone in the site file."
)
_UNDATED = "It names no moment, so it can't tell which of two messages is the newer one."
#: The largest unit of which there are at least two.
_UNITS = (("days", 86_400), ("hours", 3_600), ("minutes", 60))


@dataclass(frozen=True)
class Sent:
    """When a message was sent.

    Attributes:
        at: A FHIR instant; where the message can't tell, when it came.
        is_dated: Whether versions may be ordered by it.
        is_ahead: Whether it said a moment that was still to come.
    """

    at: str
    is_dated: bool
    is_ahead: bool = False


def sent_at(message: Message, zone: ZoneInfo, received: datetime, notes: Notes) -> Sent:
    """Find when a message was sent.

    Args:
        message: The message.
        zone: Of a moment that names none.
        received: When it came first, by our clock.
        notes: Takes it where MSH-7 names no moment, or one that can't be right.
    """
    told, at = message.header.text(7), message.header.at(7)
    written, moment = _read(told, zone)
    if moment is None:
        if told:
            notes.add(Code.DATA_TYPE, at, _UNDATED)
        return Sent(received.isoformat(timespec="milliseconds"), is_dated=False)
    if moment <= received + CLOCKS_DIFFER_BY:
        return Sent(written, is_dated=True)
    notes.add(Code.DATA_TYPE, at, _AHEAD.format(_length(moment - received)))
    second = received.replace(microsecond=0)
    return Sent(second.isoformat(timespec="milliseconds"), is_dated=True, is_ahead=True)


def _read(told: str, zone: ZoneInfo) -> tuple[str, datetime | None]:
    """Give the moment as FHIR writes it and as a time; None where there is none."""
    try:
        written = times.instant(told, zone)
    except times.NoTime:
        return "", None
    span = clinical_time.parse(written)
    return written, span.first if span else None


def _length(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    name, size = next((each for each in _UNITS if seconds >= 2 * each[1]), _UNITS[-1])
    return f"{seconds // size} {name}"
