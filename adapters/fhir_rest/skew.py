"""How far the clock of an EHR is from ours, by the Date of its answers.

A Date is cut to whole seconds, servers write it anew only once a second, and it lies somewhere
between question and answer: what is known is an interval. Of several questions the one that was
answered fastest tells most.

Source: RFC 9110 section 6.6.1 (Date) and 5.6.7 (HTTP-date).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

#: Half of how old a Date can be: cut by up to a second, and kept for up to another.
_HALF_AGE = timedelta(seconds=1)
_TRIES = 3


@dataclass(frozen=True)
class Skew:
    """What is known of the difference between two clocks.

    Attributes:
        ahead_s: How far theirs is ahead of ours, in seconds; below 0 it is behind.
        uncertainty_s: The truth is no further than this from `ahead_s`.
    """

    ahead_s: float
    uncertainty_s: float

    @property
    def surely_s(self) -> float:
        """How far they are apart at least, in seconds."""
        return max(0.0, abs(self.ahead_s) - self.uncertainty_s)


def skew_of(said: datetime, asked: datetime, answered: datetime) -> Skew:
    """Work out the difference from one answer.

    Args:
        said: Its Date.
        asked: When the question left, by our clock.
        answered: When the answer was here, by our clock.
    """
    half = (answered - asked) / 2
    ahead = said + _HALF_AGE - (asked + half)
    return Skew(ahead.total_seconds(), (half + _HALF_AGE).total_seconds())


def measured(told_time: Callable[[], datetime | None], now: Callable[[], datetime]) -> Skew | None:
    """Ask a few times; None where it doesn't say what time it is there.

    Args:
        told_time: Asks once.
        now: Our clock.

    Raises:
        GatewayError: As `told_time`.
    """
    found = []
    for _ in range(_TRIES):  # the first makes the connection, which takes longest
        asked = now()
        said = told_time()
        if said is None:
            return None
        found.append(skew_of(said, asked, now()))
    return min(found, key=lambda each: each.uncertainty_s)
