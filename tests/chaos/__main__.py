"""`make chaos MINUTES=60`: run for long and print a table.

Run with `python -m tests.chaos --minutes 3 --seed 7 --database postgresql --json file`.
"""

import json
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tests import postgres
from tests.chaos.rabbit import Rabbit, node
from tests.chaos.run import Order, Report, run
from tests.rabbitmq import MISSING, PROGRAM

app = typer.Typer(pretty_exceptions_show_locals=False)
out = Console()


@app.command()
def chaos(
    *,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long faults strike.")] = 3,
    seed: Annotated[int | None, typer.Option(help="Drawn, and told, when left out.")] = None,
    per_s: Annotated[float, typer.Option(min=1, help="Pushes a second.")] = 12,
    database: Annotated[str, typer.Option(help="sqlite or postgresql.")] = "sqlite",
    broker: Annotated[str, typer.Option(help="valkey or rabbitmq.")] = "valkey",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write it all here.")] = None,
) -> None:
    """Break Nadi at random while events flow, then check what it promises."""
    seed = random.randrange(10**6) if seed is None else seed  # noqa: S311 - a game, not a key
    out.print(f"Seed {seed}, {minutes:g} minutes, {database}, {broker}.")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="nadi-chaos-"))
        url = stack.enter_context(_postgresql()) if database == "postgresql" else None
        rabbit = stack.enter_context(_rabbitmq()) if broker == "rabbitmq" else None
        order = Order(
            seed=seed,
            seconds=minutes * 60,
            per_s=per_s,
            database_url=url,
            rabbit=rabbit,
            keep=_kept(seed),
        )
        report = run(Path(folder), order)
    told = report.as_json()
    if json_file is not None:
        json_file.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    _show(report)
    sys.exit(1 if report.violations else 0)


def _kept(seed: int) -> Path:
    return Path(tempfile.gettempdir()) / f"nadi-chaos-kept-{seed}"


def _postgresql() -> AbstractContextManager[str]:
    found = postgres.programs()
    if found is None:
        sys.exit("PostgreSQL (initdb, postgres) is not on this machine.")
    return postgres.cluster(found)


@contextmanager
def _rabbitmq() -> Iterator[Rabbit]:
    if not PROGRAM.exists():
        sys.exit(f"{MISSING}.")
    with tempfile.TemporaryDirectory(prefix="nadi-rabbit-") as folder, node(Path(folder)) as made:
        yield made


def _show(report: Report) -> None:
    told = report.as_json()
    table = Table("fault", "struck", "missed", "median s to next result", "longest")
    for kind in sorted({*_counts(told, "faults"), *_counts(told, "missed")}):
        took = report.recoveries.get(kind, [])
        times = [f"{median(took):.1f}", f"{max(took):.1f}"] if took else ["", ""]
        counts = [str(_counts(told, name).get(kind, 0)) for name in ("faults", "missed")]
        table.add_row(kind, *counts, *times)
    out.print(table)
    for name in ("database", "broker", "full disk", "clock", "acknowledged", "expected", "load"):
        out.print(f"{name}: {told[name]}")
    for name in ("results", "starts", "settled_s"):
        out.print(f"{name}: {told[name]}")
    out.print(f"violations: {len(report.violations)}")
    for each in report.violations:
        out.print(f"  {each.invariant}: {each.what}", markup=False, soft_wrap=True)
    if report.violations:
        out.print(f"The data folder is kept: {_kept(report.seed)}", soft_wrap=True)


def _counts(told: object, name: str) -> dict[str, int]:
    counts: dict[str, int] = told[name]  # type: ignore[index]
    return counts


if __name__ == "__main__":
    app()
