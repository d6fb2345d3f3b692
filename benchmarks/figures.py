"""From rounds to figures: medians, spread, the ratio, and whether everything was right."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.end_to_end import Round

_PERCENT = 100


@dataclass(frozen=True)
class Figure:
    """A figure over several rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_short(self.median)} ({_short(self.low)} to {_short(self.high)})"


def figure(values: Sequence[float]) -> Figure:
    """Condense the same measurement of several rounds."""
    return Figure(statistics.median(values), min(values), max(values))


def percentile(values: Sequence[float], percent: float) -> float:
    """Give a percentile by nearest rank; NaN when there is no value."""
    if not values:
        return float("nan")
    rank = round(percent / _PERCENT * len(values) + 0.5) - 1
    return sorted(values)[min(max(rank, 0), len(values) - 1)]


MEASURES: Mapping[str, Callable[[Round], float]] = {
    "Events per CPU-second, saturated": lambda each: each.saturated.per_cpu_second,
    "CPU-seconds per 1,000 events, saturated": lambda each: each.saturated.cpu_per_1000,
    "Events per second end to end, saturated": lambda each: each.saturated.per_second,
    "POST to stored Observation at 10/s, p50 (ms)": lambda each: percentile(each.latency_ms, 50),
    "POST to stored Observation at 10/s, p99 (ms)": lambda each: percentile(each.latency_ms, 99),
    "CPU-seconds per 1,000 events at 10/s": lambda each: each.paced.cpu_per_1000,
    "Resources received per second": lambda each: each.received.per_second,
    "CPU-seconds per 1,000 resources received": lambda each: each.received.cpu_per_1000,
    "CPU while idle (% of one core)": lambda each: each.idle_cpu_share * _PERCENT,
    "Start until ready (s)": lambda each: each.started_s,
}


def measured(rounds: Sequence[Round], system: str) -> dict[str, Figure]:
    """Give every measure of one system."""
    own = [each for each in rounds if each.system == system]
    return {name: figure([measure(each) for each in own]) for name, measure in MEASURES.items()}


def cpu_by_process(rounds: Sequence[Round], system: str) -> dict[str, float]:
    """Give the median CPU-seconds per 1,000 saturating events of each process."""
    own = [each.saturated for each in rounds if each.system == system]
    names = dict.fromkeys(name for work in own for name in work.cpu)
    return {
        name: statistics.median(work.cpu.get(name, 0.0) * 1000 / work.count for work in own)
        for name in names
    }


def ratio(rounds: Sequence[Round]) -> float:
    """Give how many times the plain build's events per CPU-second Nadi does."""
    headline = next(iter(MEASURES))
    pair = [measured(rounds, name)[headline].median for name in ("nadi", "plain")]
    return pair[0] / pair[1]


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= _PERCENT else f"{value:.3g}"
