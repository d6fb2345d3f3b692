"""Time and ids: the two things that rules take from outside."""

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Lock

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
    return _EPOCH + value * _MILLISECOND


class _Ticks:
    """Milliseconds and a count within them that only go up, whatever the clock does."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._last = 0

    def next(self) -> int:
        """Give the next tick: milliseconds since 1970, and a count in the lower 12 bits."""
        with self._lock:
            # A new millisecond begins in the lower half of the count, so that there is room to go.
            fresh = (time.time_ns() // 1_000_000) << _COUNT_BITS | secrets.randbits(_COUNT_BITS - 1)
            self._last = max(fresh, self._last + 1)
            return self._last


_COUNT_BITS = 12
_ticks = _Ticks()


def new_id() -> str:
    """Make a time-ordered UUID (version 7), usable as a FHIR id.

    Ids made by one process sort in the order in which they were made.

    Source: RFC 9562 section 5.7 and section 6.2, method 1.
    """
    millis, count = divmod(_ticks.next(), 1 << _COUNT_BITS)
    number = millis << 80 | 0x7 << 76 | count << 64 | 0b10 << 62
    digits = f"{number | secrets.randbits(62):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
