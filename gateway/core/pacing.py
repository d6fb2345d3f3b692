"""When requests to a system with a rate cap may leave, whoever sends them: evenly spaced places.

One line per system, kept where all processes see it. Who wants to send takes the next places in it,
several at once if need be; a place is a moment, and no two are closer than the cap allows.

Rules:

1. The first place is now, or right after the last one that was given, whichever is later.
2. A clock that was set back, or began anew with its machine, moves the line by as much: nobody
   waits longer than before, and no place is given twice.
3. A line that is longer than somebody can wait gives her no place, and says when to come again.

Times are whole microseconds of one clock that all who share the line read.

Source: the generic cell rate algorithm, ITU-T I.371, with no tolerance.
"""

from dataclasses import dataclass

_SECOND_US = 1_000_000


@dataclass(frozen=True)
class PacedLine:
    """The line before one system.

    Attributes:
        next_us: From when on the next place may be.
        seen_us: What the clock said when the last places were given.
    """

    next_us: int
    seen_us: int


def apart_us(per_second: float) -> int:
    """Give the microseconds from one place to the next."""
    return -int(-_SECOND_US // per_second)


def first_place_us(line: PacedLine, now_us: int) -> int:
    """Say when the first free place is.

    Args:
        line: As it was left.
        now_us: What the clock says.
    """
    set_back_us = max(line.seen_us - now_us, 0)
    return max(line.next_us - set_back_us, now_us)


def after_places(first_us: int, now_us: int, *, count: int, each_us: int) -> PacedLine:
    """Give the line as it stands once places were taken.

    Args:
        first_us: The first of them.
        now_us: What the clock says.
        count: How many were taken.
        each_us: From one to the next.
    """
    return PacedLine(first_us + count * each_us, now_us)
