"""Run the benchmarks: `python -m benchmarks NAME [--quick] [--json]`; `--help` lists them."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import orjson
import typer
from rich.console import Console

from benchmarks import (
    audit_questions,
    audit_size,
    backfill,
    models,
    page,
    recovery,
    soak,
    soak_told,
)
from benchmarks.catalogue import BESIDE, RUNS, about, measure
from benchmarks.machine import facts
from benchmarks.page import Page
from benchmarks.result import Result, Scale, rich_table
from tests import postgres, rabbitmq

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
err = Console(stderr=True)

#: How long the rounds of a benchmark may take where all are measured, in seconds.
WITHIN_S = {"intake": 100, "end-to-end": 340, "growth": 110, "cds-hooks": 100}
_USUAL_S = 60
#: Most stored events, unless it is said otherwise.
_EVENTS = 100_000

Quick = Annotated[
    bool, typer.Option("--quick", help="One round with few events, to try it; keeps nothing.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]
Keep = Annotated[
    bool, typer.Option("--keep", help="Put the figures into docs/performance.*, in their place.")
]
Events = Annotated[
    int, typer.Option(min=1000, help="Stored events, or length of the log; where it grows.")
]
Folder = Annotated[
    Path | None, typer.Option(help="Data folder; filled if it is not there, kept for next time.")
]


@dataclass(frozen=True)
class Asked:
    """How a run was asked for.

    Attributes:
        keeps: Whether docs/performance.* is written.
        events: Most stored events, where it is asked how cost grows.
        broker: Of Nadi, from end to end.
        database: Of Nadi, from end to end.
    """

    quick: bool
    as_json: bool
    keeps: bool
    events: int = _EVENTS
    broker: str = "valkey"
    database: str = "sqlite"

    @property
    def options(self) -> str:
        """What is other than in `make bench`, as on the command line."""
        told = {
            "--events": (str(self.events), str(_EVENTS)),
            "--database": (self.database, "sqlite"),
            "--broker": (self.broker, "valkey"),
        }
        return " ".join(f"{key} {wish}" for key, (wish, usual) in told.items() if wish != usual)


@app.command("all")
def everything(*, quick: Quick = False, as_json: AsJson = False) -> None:
    """Measure everything, at most 15 minutes, and write docs/performance.*."""
    _measure(list(RUNS), Asked(quick, as_json, keeps=not quick))


def _measure(names: list[str], asked: Asked) -> None:
    began = time.monotonic()
    machine, results = facts(), list[Result]()
    with err.status("…") as status:
        for name in names:
            scale = Scale(
                asked.quick,
                lambda line, n=name: status.update(f"{n}: {line}"),
                asked.events,
                WITHIN_S.get(name, _USUAL_S) if len(names) > 1 else math.inf,
                asked.broker,
                asked.database,
            )
            results.append(replace(measure(name, scale), options=asked.options))
            err.print(f"{results[-1].number} {name}: {results[-1].seconds:.0f} s")
    bench_s = time.monotonic() - began if names == list(RUNS) else None
    made = Page(page.today(), machine, results, bench_s)
    _show(made, as_json=asked.as_json)
    if asked.keeps:
        for path in page.merged(page.read(), made).write():
            err.print(f"Written: {path}", soft_wrap=True)
    if any(result.failed for result in results):
        err.print("[red]Something did not do what it should; see the tables.[/]")
        raise typer.Exit(1)


def _show(made: Page, *, as_json: bool) -> None:
    if as_json:
        told = {"facts": made.facts, "results": [each.as_json() for each in made.results]}
        sys.stdout.write(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    console = Console()
    console.print(rich_table("Machine", [("what", "value"), *made.facts.items()]))
    for result in made.results:
        result.show(console)


def _command(name: str) -> Callable[..., None]:
    def command(
        *,
        quick: Quick = False,
        as_json: AsJson = False,
        keep: Keep = False,
    ) -> None:
        _measure([name], Asked(quick, as_json, keeps=keep))

    return command


_END_TO_END, _GROWTH = "end-to-end", "growth"
for _name in [name for name in (*RUNS, *BESIDE) if name not in {_END_TO_END, _GROWTH}]:
    app.command(_name, help=about(_name))(_command(_name))


@app.command(_GROWTH, help=about(_GROWTH))
def grow(
    *, quick: Quick = False, as_json: AsJson = False, keep: Keep = False, events: Events = _EVENTS
) -> None:
    """Measure what an event costs as the store grows."""
    _measure([_GROWTH], Asked(quick, as_json, keep, events))


@app.command(_END_TO_END, help=about(_END_TO_END))
def end_to_end(
    *,
    quick: Quick = False,
    as_json: AsJson = False,
    keep: Keep = False,
    broker: Annotated[
        Literal["valkey", "rabbitmq"],
        typer.Option(help="`rabbitmq`: Nadi with it beside Nadi at her defaults, nobody else."),
    ] = "valkey",
    database: Annotated[
        Literal["sqlite", "postgresql"], typer.Option(help="`postgresql`: the same.")
    ] = "sqlite",
) -> None:
    """Measure from POST to Observation."""
    missing = {
        rabbitmq.MISSING: broker == "rabbitmq" and not rabbitmq.PROGRAM.exists(),
        "PostgreSQL is not on this machine": database == "postgresql" and not postgres.programs(),
    }
    if any(missing.values()):
        err.print(f"{next(told for told, is_so in missing.items() if is_so)}.")
        raise typer.Exit(1)
    _measure([_END_TO_END], Asked(quick, as_json, keep, broker=broker, database=database))


@app.command("page")
def write_page() -> None:
    """Write docs/performance.md and its pictures anew from docs/performance.json."""
    known = page.read()
    if known is None:
        err.print("docs/performance.json has no results that can be read. Run `make bench` first.")
        raise typer.Exit(1)
    for path in known.write():
        err.print(f"Written: {path}", soft_wrap=True)


@app.command("reference-models")
def reference_models(
    fp32: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE: an fp32 network the repository lacks.")
    ] = None,
) -> None:
    """Measure the reference models and write docs/reference-models.md."""
    twins = dict(each.split("=", 1) for each in fp32 or [])
    written = models.write_page({name: Path(file) for name, file in twins.items()}, Console())
    err.print(f"Written: {written}", soft_wrap=True)


@app.command("audit-questions")
def ask_audit(*, events: Events = 1_000_000, folder: Folder = None) -> None:
    """Ask a long log what a compliance officer asks; each within 200 ms."""
    raise typer.Exit(0 if audit_questions.run(events, folder, Console()) else 1)


@app.command("audit-size")
def size_of_audit(*, events: Events = 1_000_000, folder: Folder = None) -> None:
    """Append, integrate, prove and verify a long log (docs/audit.md)."""
    audit_size.run(events, folder, Console())


@app.command("backfill")
def fill_in(
    *, patients: Annotated[int, typer.Option(min=10, help="Of the stand-in EHR.")] = 10_000
) -> None:
    """Export an EHR, kill the backfill in its midst, and go on (docs/backfill.md)."""
    raise typer.Exit(0 if backfill.run(patients, Console()) else 1)


@app.command("recovery")
def recover(*, events: Events = 1_000_000, folder: Folder = None) -> None:
    """Start after a kill, by the number of stored events."""
    raise typer.Exit(0 if recovery.run(events, folder, Console()) else 1)


@app.command("soak")
def soak_for_long(
    *,
    minutes: Annotated[float, typer.Option(min=0.2, help="How long events are pushed.")] = 30,
    rate: Annotated[float, typer.Option(min=1, help="Events per second.")] = 116,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every reading to this file.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Write docs/soak.md and docs/soak.png.")] = (
        False
    ),
) -> None:
    """Push events at a fixed rate for half an hour, and see whether anything grows."""
    machine = facts()
    with err.status("…") as status:
        plan = soak.Plan(per_s=rate, seconds=60 * minutes)
        soaked = soak.soak(plan, lambda line: status.update(f"soak: {line}"))
    soak_told.show(soaked, Console())
    if json_file is not None:
        json_file.write_bytes(orjson.dumps(soak_told.as_json(soaked, machine)))
    for path in soak_told.write(soaked, machine, page.DOCS) if keep else ():
        err.print(f"Written: {path}", soft_wrap=True)
    raise typer.Exit(0 if soak_told.is_passed(soaked) else 1)


if __name__ == "__main__":
    app()
