"""What a benchmark hands over: its tables, what went wrong, and the figures that others quote.

A result can be written as JSON and read back unchanged, so that the page can be written anew
without measuring anew.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Rows, short

#: Number of the result that tells where the time goes; it stands before the benchmarks.
BUDGET = "budget"

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        is_quick: Fewer rounds and events, for trying it out.
        tell: Takes one line about what is under way.
        events: Most events of the benchmark that asks how cost grows.
        within_s: When there are to be fewer rounds, because they take long.
        broker: `rabbitmq`: Nadi with that is measured beside Nadi at her defaults, nobody else.
        database: `postgresql`: the same.
    """

    is_quick: bool
    tell: Tell
    events: int = 100_000
    within_s: float = math.inf
    broker: str = "valkey"
    database: str = "sqlite"

    @property
    def is_as_shipped(self) -> bool:
        """Say whether it is Nadi at her defaults that others are measured against."""
        return (self.broker, self.database) == ("valkey", "sqlite")

    def pick(self, full: int, quick: int) -> int:
        """Choose between the full and the quick measure."""
        return quick if self.is_quick else full


@dataclass(frozen=True)
class Chart:
    """A picture of some figures.

    Attributes:
        axis: What is drawn, with its unit.
        bars: Label -> figure.
        lines: Label -> points (x, y), where there are no bars.
        x: What the points' x is.
        is_log: Whether the figures lie decades apart.
    """

    title: str
    axis: str
    bars: Mapping[str, float] = field(default_factory=dict)
    lines: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    x: str = ""
    is_log: bool = False


@dataclass(frozen=True)
class Result:
    """A benchmark, measured.

    Attributes:
        number: B1 to B11.
        name: Its command: `python -m benchmarks NAME`.
        title: What is measured, against what.
        fairness: What is equal on both sides, durability above all, and what is not.
        tables: Title -> table.
        values: What targets and recommendations read; a figure that is absent was not measured.
        charts: To be drawn.
        failed: What went wrong, a sentence each; empty when everything was right.
        skipped: What was not measured and why, a sentence each.
        seconds: How long it took.
        options: What was asked for beyond what `make bench` measures, as on the command line; such
            a result stands beside the one without.
        day: When it was measured, ISO; empty where it is the page's.
        machine: What is known of the machine then; empty where it is the page's.
    """

    number: str
    name: str
    title: str
    fairness: str
    tables: Mapping[str, Rows]
    values: Mapping[str, float]
    charts: Sequence[Chart] = ()
    failed: Sequence[str] = ()
    skipped: Sequence[str] = ()
    seconds: float = 0.0
    options: str = ""
    day: str = ""
    machine: Mapping[str, str] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """How it is measured again."""
        return f"python -m benchmarks {self.name} {self.options}".rstrip()

    @property
    def place(self) -> tuple[str, str]:
        """Name its place on the page, which a result that was measured again takes."""
        return (self.number, self.options)

    def show(self, console: Console) -> None:
        """Print it."""
        console.print(f"\n[bold]{self.number} {self.title}[/]\n{self.fairness}", soft_wrap=True)
        for title, rows in self.tables.items():
            console.print(rich_table(title, rows))
        for line in self.skipped:
            console.print(f"[yellow]Not measured:[/] {line}", soft_wrap=True)
        for line in self.failed:
            console.print(f"[red]Went wrong:[/] {line}", soft_wrap=True)

    def as_json(self) -> dict[str, Any]:
        """Give it as plain JSON; a figure that is not a number is left out."""
        known = {name: value for name, value in self.values.items() if not math.isnan(value)}
        return {**asdict(self), "values": known}


def from_json(read: Mapping[str, Any]) -> Result:
    """Read back what `Result.as_json` wrote."""
    tables = {title: [tuple(row) for row in rows] for title, rows in read["tables"].items()}
    told = {name: tuple(read[name]) for name in ("failed", "skipped")}
    charts = tuple(Chart(**chart) for chart in read["charts"])
    return Result(**{**read, **told, "tables": tables, "charts": charts})


def rich_table(title: str, rows: Rows) -> Table:
    """Lay a table out for the terminal."""
    table = Table(*rows[0], title=title, title_justify="left")
    for row in rows[1:]:
        table.add_row(*row)
    return table


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Write rows as a table of Markdown; the first is its head."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def told(value: float | None, unit: str = "") -> str:
    """Say a figure with its unit, or that it was not measured."""
    return "not measured" if value is None else f"{short(value)}{unit}"
