"""Writes docs/performance.md with its pictures from what was measured.

`docs/performance.json` keeps every result with the facts of the machine, so that the page can be
written anew without measuring anew (`python -m benchmarks page`), and so that one benchmark that
was measured again takes the place of its older self. What a person has to say about the figures
(the budget per verb, why a target is missed) is in `docs/performance-notes.md` and is taken over as
it is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson

from benchmarks import recommendations, targets
from benchmarks.pictures import draw
from benchmarks.result import Result, from_json, markdown_table

DOCS = Path(__file__).resolve().parents[1] / "docs"
_JSON, _PAGE, _NOTES = "performance.json", "performance.md", "performance-notes.md"
_ORDER = tuple(f"B{number}" for number in range(1, 12))


@dataclass(frozen=True)
class Page:
    """All that the page tells.

    Attributes:
        day: When it was measured, ISO.
        facts: Of the machine.
        results: In the order of their numbers.
    """

    day: str
    facts: Mapping[str, str]
    results: Sequence[Result]

    def write(self, folder: Path = DOCS) -> list[Path]:
        """Write the JSON, a picture for each benchmark that has one, and the page.

        Returns:
            The files.
        """
        written = [folder / _JSON, folder / _PAGE]
        content = {
            "day": self.day,
            "facts": self.facts,
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
            markdown_table(targets.rows(self.results)),
            *([notes.strip()] if notes.strip() else []),
            "## The ten recommendations",
            _TEN,
            markdown_table(recommendations.rows(self.results)),
            "## Machine",
            markdown_table(about),
        ]
        for result in self.results:
            parts += _section(result)
        return "\n\n".join(parts) + "\n"

    def _minutes(self) -> str:
        return f"{math.ceil(sum(result.seconds for result in self.results) / 60)}"


_INTRODUCTION = """\
Written by `make bench` on {day} in {minutes} minutes; don't edit it by hand. Contestants have their
turns interleaved within one run, on the same machine; figures are medians of the rounds with the
lowest and the highest in brackets. CPU time counts beside the clock, since the machine also plays
the EHR and the generator; latency counts from the moment at which a request was due. Where Nadi
loses, it stands here too. How each is measured, and how fair it is, is in
[benchmarks/README.md](../benchmarks/README.md); every figure is in
[performance.json](performance.json)."""

_TEN = """\
Foretold from published figures before there was code, and judged by the benchmarks. **killed**
means that the gain found is not the one foretold: the part may be worth having all the same."""


def merged(older: Page | None, newer: Page) -> Page:
    """Put newly measured results in the place of their older selves."""
    known = {
        result.number: result for result in (*(older.results if older else ()), *newer.results)
    }
    ordered = [known[number] for number in _ORDER if number in known]
    return Page(newer.day, newer.facts, ordered)


def read(folder: Path = DOCS) -> Page | None:
    """Read what was measured last; None where nothing was, or in a form that is no longer read."""
    path = folder / _JSON
    content = orjson.loads(path.read_bytes()) if path.exists() else {}
    if "results" not in content:
        return None
    results = [from_json(each) for each in content["results"]]
    return Page(content["day"], content["facts"], results)


def today() -> str:
    """Give the day of the measurement."""
    return datetime.now(UTC).date().isoformat()


def picture_of(result: Result) -> str:
    """Name the picture of a benchmark."""
    return f"performance-{result.name}.png"


def _section(result: Result) -> list[str]:
    parts = [f"## {result.number}: {result.title}", f"`{result.command}`. {result.fairness}"]
    parts += [f"**Went wrong:** {line}" for line in result.failed]
    parts += [f"**Not measured:** {line}" for line in result.skipped]
    if result.charts:
        parts.append(f"![{result.title}]({picture_of(result)})")
    for title, rows in result.tables.items():
        parts += [f"**{title}**", markdown_table(rows)]
    return parts
