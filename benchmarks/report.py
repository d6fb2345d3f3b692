"""Writes the figures down: a table in the terminal, JSON, a picture and `docs/performance.md`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import matplotlib as mpl
import orjson
from matplotlib.figure import Figure as Picture
from rich.console import Console
from rich.table import Table

from benchmarks.end_to_end import Round
from benchmarks.figures import MEASURES, Figure, cpu_by_process, measured, ratio
from benchmarks.memory import Footprint

_Rows = list[tuple[str, ...]]

_MIB = 2**20
_SYSTEMS = ("nadi", "plain")
_NAMES = {"nadi": "Nadi", "plain": "Plain build"}
_AIM_RATIO, _AIM_P50_MS = 5, 60
# Smaller parts of a bar get no name.
_LEGIBLE = 0.3
_DOCS = Path(__file__).resolve().parents[1] / "docs"


@dataclass(frozen=True)
class Report:
    """Everything that was measured."""

    facts: Mapping[str, str]
    rounds: Sequence[Round]
    footprints: Sequence[Footprint]

    def show(self, console: Console) -> None:
        """Print it."""
        for title, rows in self._tables().items():
            table = Table(*rows[0], title=title, title_justify="left")
            for row in rows[1:]:
                table.add_row(*row)
            console.print(table)
        if self.rounds:
            console.print(f"[bold]{self._headline()}[/]")

    def write(self, folder: Path = _DOCS) -> list[Path]:
        """Write `performance.json`, `.png` and `.md`.

        Returns:
            The files.
        """
        files = [folder / f"performance.{kind}" for kind in ("json", "png", "md")]
        folder.mkdir(exist_ok=True)
        files[0].write_bytes(orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2))
        _draw(self.rounds, files[1])
        files[2].write_text(self._markdown(), "utf-8")
        return files

    @property
    def is_right(self) -> bool:
        """Say whether every round did what it should."""
        return all(each.correctness.is_right for each in self.rounds)

    def _headline(self) -> str:
        times = ratio(self.rounds)
        nadi, plain = (measured(self.rounds, name) for name in _SYSTEMS)
        p50 = nadi["POST to stored Observation at 10/s, p50 (ms)"].median
        cost = "CPU-seconds per 1,000 events at 10/s"
        dearer = nadi[cost].median / plain[cost].median
        return (
            f"Nadi does {times:.1f} times the plain build's events per CPU-second "
            f"(aim: at least {_AIM_RATIO}); at 10 events/s its results are in the EHR after "
            f"{p50:.0f} ms (p50; aim: under {_AIM_P50_MS}), at {dearer:.1f} times the plain "
            "build's CPU, since nothing can be batched then."
        )

    def _tables(self) -> dict[str, _Rows]:
        tables: dict[str, _Rows] = {"Machine": [("what", "value"), *self.facts.items()]}
        if self.rounds:
            tables |= {
                "End to end: median (lowest to highest round)": self._comparison(),
                "CPU-seconds per 1,000 events by process, saturated": self._by_process(),
                "Was it right": self._correctness(),
            }
        if self.footprints:
            tables["Memory (PSS, MiB) and start-up"] = self._memory()
        return tables

    def _comparison(self) -> _Rows:
        nadi, plain = (measured(self.rounds, name) for name in _SYSTEMS)
        rows = [
            (name, str(nadi[name]), str(plain[name]), _times(nadi[name], plain[name]))
            for name in MEASURES
        ]
        return [("measure", *_NAMES.values(), "Nadi : plain"), *rows]

    def _by_process(self) -> _Rows:
        rows = [
            (_NAMES[system], process, f"{seconds:.2f}")
            for system in _SYSTEMS
            for process, seconds in cpu_by_process(self.rounds, system).items()
        ]
        return [("system", "process", "CPU-seconds"), *rows]

    def _correctness(self) -> _Rows:
        heads = ("system", "expected", "arrived", "duplicates", "unwanted", "refused", "gap")
        rows = []
        for each in self.rounds:
            c = each.correctness
            counts = (c.expected, c.arrived, c.duplicates, c.unwanted, c.refused)
            rows.append((_NAMES[each.system], *map(str, counts), f"{c.gap:.1g}"))
        return [heads, *rows]

    def _memory(self) -> _Rows:
        rows: _Rows = []
        for each in self.footprints:
            name = _NAMES[each.system]
            for process in each.idle:
                warm = each.warm.get(process, 0)
                rows.append((name, process, _mib(each.idle[process]), _mib(warm), ""))
            total = (_mib(sum(each.idle.values())), _mib(sum(each.warm.values())))
            rows.append((name, "all", *total, f"{each.started_s:.1f} s"))
        return [("system", "process", "idle", "after 200 events", "start until ready"), *rows]

    def _markdown(self) -> str:
        parts = ["# Performance", _INTRODUCTION.format(day=date.today().isoformat())]  # noqa: DTZ011
        parts += [f"**{self._headline()}**", "![CPU and latency](performance.png)"]
        for title, rows in self._tables().items():
            parts += [f"## {title}", markdown_table(rows)]
        return "\n\n".join([*parts, _CLOSING]) + "\n"


_INTRODUCTION = """\
Written by `make bench` on {day}; don't edit it by hand. The same seeded events go to Nadi and to a
plain build of the same job (`benchmarks/plain`), by turns, each freshly started beside a fresh EHR.
What the plain build is, what it leaves out and how to read this is in
[benchmarks/README.md](../benchmarks/README.md); every figure of every round is in
[performance.json](performance.json)."""

_CLOSING = """\
An event is a creatinine result that starts the model: it is received, admitted, inferred and its
Observation is stored in the EHR. CPU time is that of all processes of a system with its broker.
Both wait for the disk (SQLite, `synchronous=FULL`) before they answer 202. Results at a gap above
1e-6 from the model run directly would count as wrong; `unwanted` are results of patients who
denied."""


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Write rows as a table of Markdown; the first is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def _times(nadi: Figure, plain: Figure) -> str:
    return f"{nadi.median / plain.median:.2f}" if plain.median else ""


def _mib(size: int) -> str:
    return f"{size / _MIB:.0f}"


def _draw(rounds: Sequence[Round], path: Path) -> None:
    """Draw where the CPU time goes, and how long results take."""
    mpl.use("Agg")
    picture = Picture(figsize=(10, 4), layout="constrained")
    left, right = picture.subplots(1, 2)
    for place, system in enumerate(_SYSTEMS):
        bottom = 0.0
        for number, (process, seconds) in enumerate(cpu_by_process(rounds, system).items()):
            left.bar(place, seconds, bottom=bottom, color=f"C{number}", label=process)
            if seconds > _LEGIBLE:
                left.text(place, bottom + seconds / 2, process, ha="center", va="center")
            bottom += seconds
        values = sorted(ms for each in rounds if each.system == system for ms in each.latency_ms)
        shares = [100 * (i + 1) / len(values) for i in range(len(values))]
        right.plot(values, shares, label=_NAMES[system])
    left.set_xticks(range(len(_SYSTEMS)), [_NAMES[name] for name in _SYSTEMS])
    left.set_ylabel("CPU-seconds per 1,000 events")
    right.set_xlabel("ms from POST to stored Observation, 10 events/s")
    right.set_ylabel("% of events")
    right.legend()
    picture.savefig(path, dpi=120)
