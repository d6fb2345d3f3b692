"""Whether what is measured over a long run stays as it was: its last third against its first.

What a run needs to get warm is left out. Then the last third is compared with the first: medians,
or the highest where peaks count. A measure is flat when it did not grow by more than it may: a
share of its first third, or a floor below which a change means nothing. That it fell is no fault.
Beside it stands the slope of a straight line through all points (least squares), which tells a slow
leak from a step.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.figures import Rows, short

_WARM_UP_SHARE = 0.1
_PERCENT = 100
_S_PER_HOUR = 3600
_FEWEST = 3

#: Seconds since the beginning, and the figure.
Point = tuple[float, float]


@dataclass(frozen=True)
class Measure:
    """What is watched, and how much it may grow.

    Attributes:
        unit: Of the figures.
        may_grow: Share of the first third by which the last may be above it.
        floor: Growth up to this is none, in the unit.
        of_third: Condenses the figures of a third.
    """

    name: str
    unit: str
    may_grow: float
    floor: float
    of_third: Callable[[Sequence[float]], float] = statistics.median


@dataclass(frozen=True)
class Trend:
    """How a measure went.

    Attributes:
        first: Its first third.
        last: Its last third.
        per_hour: Slope, in the unit per hour.
    """

    measure: Measure
    first: float
    last: float
    per_hour: float

    @property
    def is_flat(self) -> bool:
        """Say whether it did not grow; False where there were too few points to know."""
        allowed = max(self.first * self.measure.may_grow, self.measure.floor)
        return self.last - self.first <= allowed  # NaN compares as False


def trend(measure: Measure, points: Sequence[Point]) -> Trend:
    """Compare the last third of a run with its first.

    Args:
        measure: What the points are of.
        points: In the order of their times.
    """
    if not points:
        return Trend(measure, math.nan, math.nan, math.nan)
    began, ended = points[0][0], points[-1][0]
    warm = [point for point in points if point[0] >= began + _WARM_UP_SHARE * (ended - began)]
    if len(warm) < _FEWEST:
        return Trend(measure, math.nan, math.nan, math.nan)
    third = len(warm) // 3
    return Trend(
        measure,
        measure.of_third([y for _, y in warm[:third]]),
        measure.of_third([y for _, y in warm[-third:]]),
        _slope(warm) * _S_PER_HOUR,
    )


def rows(trends: Sequence[Trend]) -> Rows:
    """Lay trends out."""
    heads = ("measure", "first third", "last third", "change", "slope per hour", "may grow", "")
    return [heads, *(_row(each) for each in trends)]


def _row(each: Trend) -> tuple[str, ...]:
    measure, unit = each.measure, each.measure.unit
    change = (each.last / each.first - 1) * _PERCENT if each.first else math.nan
    return (
        measure.name,
        f"{short(each.first)} {unit}",
        f"{short(each.last)} {unit}",
        "" if math.isnan(change) else f"{change:+.1f} %",
        f"{short(each.per_hour)} {unit}",
        f"{measure.may_grow * _PERCENT:g} % or {short(measure.floor)} {unit}",
        "flat" if each.is_flat else "NOT FLAT",
    )


def _slope(points: Sequence[Point]) -> float:
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope
