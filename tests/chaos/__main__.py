"""`make chaos MINUTES=60`: run for long and print a table.

Run with `python -m tests.chaos --minutes 3 --seed 7 --database postgresql --ehr openmrs`.
"""

import json
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tests import postgres
from tests.chaos.ehr import SANDBOX, simulated
from tests.chaos.rabbit import Rabbit, node
from tests.chaos.run import Order, Report, run
from tests.rabbitmq import MISSING, PROGRAM
from tests.simulators import SIMULATORS

EHRS = (SANDBOX, *SIMULATORS)
app = typer.Typer(pretty_exceptions_show_locals=False)
out = Console()


@app.command()
def chaos(  # noqa: PLR0913 - each is an option of the command line
    *,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long faults strike.")] = 3,
    seed: Annotated[int | None, typer.Option(help="Drawn, and told, when left out.")] = None,
    per_s: Annotated[float, typer.Option(min=1, help="Pushes a second.")] = 12,
    database: Annotated[str, typer.Option(help="sqlite or postgresql.")] = "sqlite",
    broker: Annotated[str, typer.Option(help="valkey or rabbitmq.")] = "valkey",
    ehr: Annotated[str, typer.Option(help=f"{', '.join(EHRS)}; or all, in turn.")] = SANDBOX,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write it all here.")] = None,
) -> None:
    """Break Nadi at random while events flow, then check what it promises."""
    if ehr not in {*EHRS, "all"}:
        sys.exit(f"There is no simulator of '{ehr}'; known: {', '.join(EHRS)}, all.")
    seed = random.randrange(10**6) if seed is None else seed  # noqa: S311 - a game, not a key
    reports = []
    for name in SIMULATORS if ehr == "all" else [ehr]:
        out.print(f"Seed {seed}, {minutes:g} minutes, {database}, {broker}, {name}.")
        order = Order(seed=seed, seconds=minutes * 60, per_s=per_s, keep=_kept(seed, name))
        reports.append(_run(order, database=database, broker=broker, ehr=name))
        _show(reports[-1])
    told = [report.as_json() for report in reports]
    if json_file is not None:
        text = json.dumps(told if ehr == "all" else told[0], indent=2)
        json_file.write_text(f"{text}\n", encoding="utf-8")
    _summarise(reports)
    sys.exit(1 if any(report.violations for report in reports) else 0)


def _run(order: Order, *, database: str, broker: str, ehr: str) -> Report:
    """Run once with the servers that are asked for, which live as long as the run."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nadi-chaos-")))
        url = stack.enter_context(_postgresql()) if database == "postgresql" else None
        rabbit = stack.enter_context(_rabbitmq()) if broker == "rabbitmq" else None
        simulator = stack.enter_context(simulated(folder, ehr)) if ehr != SANDBOX else None
        return run(folder, replace(order, database_url=url, rabbit=rabbit, ehr=simulator))


def _kept(seed: int, ehr: str) -> Path:
    return Path(tempfile.gettempdir()) / f"nadi-chaos-kept-{seed}-{ehr}"


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
    for name in ("results", "on worklist", "starts", "settled_s"):
        out.print(f"{name}: {told[name]}")
    out.print(f"violations: {len(report.violations)}")
    for each in report.violations:
        out.print(f"  {each.invariant}: {each.what}", markup=False, soft_wrap=True)
    if report.violations:
        out.print(f"The data folder is kept: {_kept(report.seed, report.ehr)}", soft_wrap=True)


def _summarise(reports: Sequence[Report]) -> None:
    """Show a line for each run, as docs/faults.md has them."""
    names = ("seed", "faults", "acknowledged", "results", "on worklist")
    table = Table("EHR", "minutes", *names, "violations")
    for report in reports:
        told = {**report.as_json(), "faults": len(report.struck)}
        counts = (str(told[name]) for name in names)
        table.add_row(report.ehr, f"{report.seconds / 60:g}", *counts, str(len(report.violations)))
    out.print(table)


def _counts(told: object, name: str) -> dict[str, int]:
    counts: dict[str, int] = told[name]  # type: ignore[index]
    return counts


if __name__ == "__main__":
    app()
