"""From rounds to figures: who has a turn when, medians with their spread, percentiles, tables.

Every benchmark takes its figures here, so that the rules are the same for all of them:

* contestants have their turns interleaved within one run (A-B-A-B), so that a machine that slows
  down slows all of them;
* a figure is the median of its rounds and is told with its lowest and highest;
* what could not be measured is NaN, is told as such, and never counts as a win.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_PERCENT = 100
_LEAST_ROUNDS = 2
_THOUSAND = 1000

#: What one turn measured: measure -> figure.
Sample = Mapping[str, float]
#: One turn of a contestant; it is given the number of the round.
Turn = Callable[[int], Sample]
#: A table: its head, and then its rows.
Rows = list[tuple[str, ...]]


@dataclass(frozen=True)
class Figure:
    """A figure over several rounds."""

    median: float
    low: float
    high: float
    rounds: int = 1

    def __str__(self) -> str:
        if self.low == self.high or math.isnan(self.median):
            return short(self.median)
        return f"{short(self.median)} ({short(self.low)} to {short(self.high)})"


Figures = dict[str, dict[str, Figure]]


def figure(values: Sequence[float]) -> Figure:
    """Condense the same measurement of several rounds."""
    if not values or any(map(math.isnan, values)):
        return Figure(math.nan, math.nan, math.nan)
    return Figure(statistics.median(values), min(values), max(values), len(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """Give a percentile by nearest rank; NaN when there is no value."""
    if not values:
        return math.nan
    rank = math.ceil(percent / _PERCENT * len(values)) - 1
    return sorted(values)[min(max(rank, 0), len(values) - 1)]


def by_turns(
    contestants: Mapping[str, Turn],
    rounds: int,
    tell: Callable[[str], None],
    within_s: float = math.inf,
) -> dict[str, list[Sample]]:
    """Let everyone have a turn, and again, until all rounds are over.

    Args:
        contestants: Name -> what its turn does; their order is that of the turns.
        rounds: How many turns each has.
        tell: Told whose turn it is.
        within_s: On a slow machine there are fewer rounds, but at least two, so that it does not
            take longer than this.
    """
    taken: dict[str, list[Sample]] = {name: [] for name in contestants}
    began = time.monotonic()
    for number in range(rounds):
        if number >= _LEAST_ROUNDS and _next_ends_s(began, number) > within_s:
            break
        for name, turn in contestants.items():
            tell(f"round {number + 1} of {rounds}: {name}")
            taken[name].append(turn(number))
    return taken


def _next_ends_s(began: float, rounds: int) -> float:
    """Foresee how long it will have taken when one more round is over."""
    return (time.monotonic() - began) * (rounds + 1) / rounds


def condensed(taken: Mapping[str, Sequence[Sample]]) -> Figures:
    """Give each contestant's figure for each measure that its rounds have."""
    return {
        name: {
            measure: figure([sample[measure] for sample in samples])
            for measure in (samples[0] if samples else ())
        }
        for name, samples in taken.items()
    }


def comparison(figures: Figures, *, first: str = "measure") -> Rows:
    """Lay out one row per measure and one column per contestant, and how many rounds there were.

    Args:
        figures: What was measured; the measures are those of all contestants together.
        first: Head of the first column.
    """
    measures = dict.fromkeys(measure for each in figures.values() for measure in each)
    rows = [
        (measure, *(str(each[measure]) if measure in each else "" for each in figures.values()))
        for measure in measures
    ]
    most = [str(max(one.rounds for one in each.values())) for each in figures.values()]
    return [(first, *figures), *rows, ("rounds", *most)]


def times(over: Figure, under: Figure) -> float:
    """Give the ratio of two medians; NaN where the second is nothing."""
    return over.median / under.median if under.median else math.nan


def short(value: float) -> str:
    """Write a figure with three digits or, from a hundred on, as a whole number."""
    if math.isnan(value):
        return "not measured"
    return f"{value:,.0f}" if abs(value) >= _PERCENT else f"{value:.3g}"
