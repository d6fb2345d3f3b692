"""The targets of speed, and whether what was measured meets them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.figures import Rows, short
from benchmarks.result import Result


@dataclass(frozen=True)
class Target:
    """A figure that is aimed at.

    Attributes:
        what: In words, with its unit.
        number: The benchmark that measures it.
        key: Its figure there.
        limit: What it has to be at least, or at most.
        is_floor: Whether more is better.
        at: A figure that says how far it was measured, where that can be less than was aimed at.
        far: What that figure has to be; what was measured less far neither meets nor misses.
    """

    what: str
    number: str
    key: str
    limit: float
    is_floor: bool = False
    at: str = ""
    far: float = 0

    def is_met(self, value: float) -> bool:
        """Say whether a figure meets it."""
        return value >= self.limit if self.is_floor else value <= self.limit

    def row(self, results: Iterable[Result]) -> tuple[str, ...]:
        """Say what was aimed at, what was measured, whether it is met and by which command."""
        aim = f"{'≥' if self.is_floor else '≤'} {short(self.limit)}"
        result = self._judge(results)
        if result is None:
            return (self.what, aim, "not measured", "", "")
        value, command = result.values.get(self.key), f"`{result.command}`"
        if value is None:
            return (self.what, aim, "not measured", "", command)
        return (self.what, aim, self._told(value, result), self._verdict(value, result), command)

    def _judge(self, results: Iterable[Result]) -> Result | None:
        """Choose what was measured as `make bench` does or, if it counts how far, farthest."""
        known = [each for each in results if each.number == self.number]
        if not self.at:
            return next((each for each in known if not each.options), None)
        return max(known, key=lambda each: each.values.get(self.at, 0), default=None)

    def _told(self, value: float, result: Result) -> str:
        if not self.at:
            return short(value)
        on = f", on {result.day}" if result.day else ""
        return f"{short(value)} (up to {short(result.values.get(self.at, math.nan))}{on})"

    def _verdict(self, value: float, result: Result) -> str:
        if self.at and not result.values.get(self.at, 0) >= self.far:
            return "not measured that far"
        return "met" if self.is_met(value) else "**missed**"


TARGETS = (
    Target(
        "Events/s end to end at saturation, ckd-risk on SQLite", "B8", "events_per_s", 600, True
    ),
    Target("CPU-ms per event at saturation", "B8", "cpu_ms", 2.0),
    Target("Times the plain build's events per CPU-second", "B8", "times_plain", 10, True),
    Target("p50 from POST to Observation in the EHR at 116/s, ms", "B8", "p50_ms", 25),
    Target("p99 from POST to Observation in the EHR at 116/s, ms", "B8", "p99_ms", 150),
    Target("Accepted single resources/s at 64 clients, SQLite", "B2", "accepted_per_s", 1500, True),
    Target("Times faster than fhir.resources", "B1", "times_fhir_resources", 20, True),
    Target("Official examples wrongly refused", "B1", "examples_refused", 0),
    Target("Idle PSS with all reference models installed, MiB", "B9", "idle_mib", 450),
    Target("Start until ready, s", "B9", "ready_s", 8),
    Target(
        "Growth of the cost per event from 1,000 to 1,000,000 stored events, %",
        "B10",
        "grows_by_percent",
        20,
        at="most_events",
        far=1_000_000,
    ),
    Target(
        "Cards per CPU-second where the result is on record, eight at once",
        "B11",
        "again_per_cpu_s_at_8",
        300,
        is_floor=True,
    ),
    Target(
        "p99 of a card where the model runs first, eight at once, ms",
        "B11",
        "first_p99_ms_at_8",
        500,
    ),
    Target("p99 of a card that is on record, eight at once, ms", "B11", "again_p99_ms_at_8", 500),
)


#: Minutes that `make bench` may take.
BENCH_MINUTES = 15
_MINUTE_S = 60


def rows(results: Sequence[Result], bench_s: float | None = None) -> Rows:
    """Lay out every target; what was not measured is told as such.

    Args:
        results: What was measured.
        bench_s: How long all of `make bench` took; None where it was not measured.
    """
    heads = ("target", "aim", "measured", "", "command")
    return [heads, *(target.row(results) for target in TARGETS), _time(bench_s)]


def _time(bench_s: float | None) -> tuple[str, ...]:
    what, aim, command = "All benchmarks in one run, minutes", f"≤ {BENCH_MINUTES}", "`make bench`"
    if bench_s is None:
        return (what, aim, "not measured", "", command)
    taken = bench_s / _MINUTE_S
    return (what, aim, f"{taken:.1f}", "met" if taken <= BENCH_MINUTES else "**missed**", command)
