"""The targets of speed, and whether what was measured meets them."""

from collections.abc import Iterable, Mapping
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
    """

    what: str
    number: str
    key: str
    limit: float
    is_floor: bool = False
    at: str = ""

    def is_met(self, value: float) -> bool:
        """Say whether a figure meets it."""
        return value >= self.limit if self.is_floor else value <= self.limit

    def row(self, results: Mapping[str, Result]) -> tuple[str, ...]:
        """Say what was aimed at, what was measured, whether it is met and by which command."""
        result = results.get(self.number)
        value = result.values.get(self.key) if result else None
        aim = f"{'≥' if self.is_floor else '≤'} {short(self.limit)}"
        command = f"`{result.command}`" if result else ""
        if value is None:
            return (self.what, aim, "not measured", "", command)
        far = result.values.get(self.at) if result else None
        return (
            self.what,
            aim,
            short(value) if far is None else f"{short(value)} (up to {short(far)})",
            "met" if self.is_met(value) else "**missed**",
            command,
        )


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


def rows(results: Iterable[Result]) -> Rows:
    """Lay out every target; what was not measured is told as such."""
    known = {result.number: result for result in results}
    heads = ("target", "aim", "measured", "", "command")
    return [heads, *(target.row(known) for target in TARGETS)]
