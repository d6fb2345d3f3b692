"""Writes docs/performance.md with its pictures from what was measured.

`docs/performance.json` keeps every result with the facts of the machine, so that the page can be
written anew without measuring anew (`python -m benchmarks page`), and so that one benchmark that
was measured again takes the place of its older self. What was asked for with an option that `make
bench` does not use (a million stored events, PostgreSQL, the budget) stands beside that, with its
day, and outlives the next `make bench`. What a person has to say about the figures (why a target is
missed) is in `docs/performance-notes.md` and is taken over as it is.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import orjson

from benchmarks import recommendations, targets
from benchmarks.pictures import draw
from benchmarks.reconciled import with_b8
from benchmarks.result import BUDGET, Result, from_json, markdown_table

DOCS = Path(__file__).resolve().parents[1] / "docs"
_JSON, _PAGE, _NOTES = "performance.json", "performance.md", "performance-notes.md"
_ORDER = (
    *(BUDGET, "B1", "B2", "B3", "B4", "B4b", "B5", "B6"),
    *("B7", "B8", "B9", "B10", "B11"),
)


@dataclass(frozen=True)
class Page:
    """All that the page tells.

    Attributes:
        day: When `make bench` ran, ISO.
        facts: Of the machine then.
        results: In the order of their numbers.
        bench_s: How long all of `make bench` took; None where it is not known.
    """

    day: str
    facts: Mapping[str, str]
    results: Sequence[Result]
    bench_s: float | None = None

    def write(self, folder: Path = DOCS) -> list[Path]:
        """Write the JSON, a picture for each benchmark that has one, and the page.

        Returns:
            The files.
        """
        written = [folder / _JSON, folder / _PAGE]
        content = {
            "day": self.day,
            "facts": self.facts,
            "bench_s": self.bench_s,
            "results": [result.as_json() for result in self.results],
        }
        written[0].write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
        for result in self.results:
            if result.charts:
                written.append(folder / picture_of(result))
                draw(result, written[-1])
        notes = folder / _NOTES
        written[1].write_text(self.markdown(notes.read_text("utf-8") if notes.exists() else ""))
        return written

    def markdown(self, notes: str = "") -> str:
        """Write the page.

        Args:
            notes: What a person says about the figures.
        """
        about = [("what", "value"), *self.facts.items()]
        parts = [
            "# Performance",
            _INTRODUCTION.format(day=self.day, minutes=self._minutes()),
            "## Targets",
            self._measured_on(),
            markdown_table(targets.rows(self.results, self.bench_s)),
            *self._budget(),
            *([notes.strip()] if notes.strip() else []),
            "## The ten recommendations",
            _TEN,
            markdown_table(recommendations.rows(self.results)),
            markdown_table(recommendations.predictions(self.results)),
            "## Machine",
            markdown_table(about),
        ]
        for result in self.results:
            if result.number != BUDGET:
                parts += self._section(result)
        return "\n\n".join(parts) + "\n"

    def _minutes(self) -> str:
        return f"{math.ceil(self.bench_s / 60)}" if self.bench_s else "an unknown number of"

    def _measured_on(self) -> str:
        return _MEASURED_ON.format(
            cpu=self.facts.get("CPU", "a CPU that is not known"),
            flags=self.facts.get("CPU flags", ""),
            kernels=self.facts.get("int8 kernels", "unknown"),
        )

    def _budget(self) -> list[str]:
        found = next((each for each in self.results if each.number == BUDGET), None)
        if found is None:
            return []
        rows = with_b8(found, next((each for each in self.results if each.number == "B8"), None))
        return [
            *self._section(found),
            "**CPU of each process, ms per event**",
            markdown_table(rows),
        ]

    def _section(self, result: Result) -> list[str]:
        name = f"{result.number}: {result.title}" if result.number != BUDGET else result.title
        asked = f" (`{result.options}`)" if result.options else ""
        parts = [f"## {name}{asked}", f"`{result.command}`. {result.fairness}"]
        parts += self._apart(result)
        parts += [f"**Went wrong:** {line}" for line in result.failed]
        parts += [f"**Not measured:** {line}" for line in result.skipped]
        if result.charts:
            parts.append(f"![{result.title}]({picture_of(result)})")
        for title, rows in result.tables.items():
            parts += [f"**{title}**", markdown_table(rows)]
        return parts

    def _apart(self, result: Result) -> list[str]:
        """Say when it was measured, and what was other then, where that was not `make bench`."""
        if not result.day:
            return []
        other = [
            f"{what}: {value}"
            for what, value in result.machine.items()
            if self.facts.get(what) != value
        ]
        told = f" What differs from the machine above: {'; '.join(other)}." if other else ""
        return [f"Measured by itself on {result.day}.{told}"]


_INTRODUCTION = """\
Don't edit it by hand: it is written by `make bench`, which took {minutes} minutes on {day}, and by
the other commands that are named here, for what says its own day. Contestants have their turns
interleaved within one run, on the same machine; figures are medians of the rounds with the lowest
and the highest in brackets. CPU time counts beside the clock, since the machine also plays
the EHR and the generator; latency counts from the moment at which a request was due. Where Nadi
loses, it stands here too. How each is measured, and how fair it is, is in
[benchmarks/README.md](../benchmarks/README.md); every figure is in
[performance.json](performance.json)."""

_MEASURED_ON = """\
The targets speak of a machine of two cores with AVX2. These figures are of {cpu}, with {flags}
(int8 kernels: {kernels}): a network runs faster on it, all else is Python and does not use that."""

_TEN = """\
Foretold from published figures before there was code, and judged by the benchmarks, prediction by
prediction. **confirmed**: as foretold. **partly**: at least half of the gain that was foretold, or
more than the range that was, or only for some of what it was foretold of. **killed**: the gain that
was found is not the one foretold; the part may be worth having all the same."""


def merged(older: Page | None, newer: Page) -> Page:
    """Put newly measured results in the place of their older selves.

    Args:
        older: What is there; None where nothing is.
        newer: All of `make bench`, where it knows how long that took; else a part, which keeps the
            day and the machine of the older page and is told its own.
    """
    before = older.results if older else ()
    if newer.bench_s is not None:
        return replace(newer, results=_ordered((*before, *newer.results)))
    made = [replace(each, day=newer.day, machine=newer.facts) for each in newer.results]
    return replace(older or newer, results=_ordered((*before, *made)))


def _ordered(results: Sequence[Result]) -> list[Result]:
    """Let the last of each place stand, in the order of the numbers."""
    known = {result.place: result for result in results}
    return sorted(known.values(), key=lambda each: (_ORDER.index(each.number), each.options))


def read(folder: Path = DOCS) -> Page | None:
    """Read what was measured last; None where nothing was, or in a form that is no longer read."""
    path = folder / _JSON
    content = orjson.loads(path.read_bytes()) if path.exists() else {}
    if "results" not in content:
        return None
    results = [from_json(each) for each in content["results"]]
    return Page(content["day"], content["facts"], results, content.get("bench_s"))


def today() -> str:
    """Give the day of the measurement."""
    return datetime.now(UTC).date().isoformat()


def picture_of(result: Result) -> str:
    """Name the picture of a benchmark."""
    asked = re.sub(r"[^a-z0-9]+", "-", result.options)
    return f"performance-{result.name}{asked.rstrip('-')}.png"
