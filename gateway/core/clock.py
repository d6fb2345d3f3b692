"""Time and ids: the two things that rules take from outside."""

import os
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

    def next(self, first: int) -> int:
        """Give the next tick: milliseconds since 1970, and a count in the lower 12 bits.

        Args:
            first: Where the count of a new millisecond begins: in its lower half, so that there
                is room to go.
        """
        with self._lock:
            fresh = (time.time_ns() // 1_000_000) << _COUNT_BITS | first
            self._last = max(fresh, self._last + 1)
            return self._last


_COUNT_BITS = 12
_HALF_COUNT = 1 << _COUNT_BITS - 1
_RANDOM_BITS = 62
_ticks = _Ticks()


def new_id() -> str:
    """Make a time-ordered UUID (version 7), usable as a FHIR id.

    Ids made by one process sort in the order in which they were made.

    Source: RFC 9562 section 5.7 and section 6.2, method 1.
    """
    # One draw for both: each is a system call.
    drawn, tail = divmod(int.from_bytes(os.urandom(10)), 1 << _RANDOM_BITS)
    millis, count = divmod(_ticks.next(drawn % _HALF_COUNT), 1 << _COUNT_BITS)
    digits = f"{millis << 80 | 0x7 << 76 | count << 64 | 0b10 << _RANDOM_BITS | tail:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
