"""Time and ids: the two things that rules take from outside."""

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

#: A clock gives aware UTC time; tests inject their own.
Clock = Callable[[], datetime]


# Whole numbers, since a float of seconds would sometimes lose the last millisecond.
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def utc_now() -> datetime:
    """Give the present time, aware, in UTC."""
    return datetime.now(UTC)


def to_ms(moment: datetime) -> int:
    """Turn an aware time into milliseconds since 1970-01-01 UTC."""
    return (moment - _EPOCH) // _MILLISECOND


def from_ms(value: int) -> datetime:
    """Turn milliseconds since 1970-01-01 UTC into an aware time."""
    return datetime.fromtimestamp(value / 1000, UTC)


def new_id() -> str:
    """Make a time-ordered UUID (version 7), usable as a FHIR id.

    Source: RFC 9562 section 5.7.
    """
    millis = time.time_ns() // 1_000_000
    number = millis << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62
    digits = f"{number | secrets.randbits(62):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
