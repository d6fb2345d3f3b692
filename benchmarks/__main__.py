"""Run the benchmarks: `python -m benchmarks [all|consent|models|…] [--quick]`."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import audit_questions, consent, models, recovery
from benchmarks.end_to_end import QUICK, SYSTEMS, Plan, Round, run_rounds
from benchmarks.machine import facts
from benchmarks.memory import measure
from benchmarks.report import Report

console = Console()


class Part(StrEnum):
    """What is measured."""

    ALL = "all"
    END_TO_END = "end-to-end"
    MEMORY = "memory"
    MODELS = "models"
    AUDIT_QUESTIONS = "audit-questions"
    CONSENT = "consent"
    RECOVERY = "recovery"


def main(
    part: Annotated[Part, typer.Argument(help="What to measure.")] = Part.ALL,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer events, one round; writes no file.")
    ] = False,
    fp32: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FILE: an fp32 network that the repository lacks; for models."),
    ] = None,
    events: Annotated[
        int,
        typer.Option(
            min=1000, help="Length of the log, or stored events; for audit-questions, recovery."
        ),
    ] = 1_000_000,
    folder: Annotated[
        Path | None,
        typer.Option(help="Data folder of that, filled if it is not there, kept for next time."),
    ] = None,
) -> None:
    """Measure Nadi beside the plain build; about ten minutes.

    `models` measures the models, `audit-questions` what a compliance officer asks of a long log.
    """
    if part == Part.AUDIT_QUESTIONS:
        raise typer.Exit(0 if audit_questions.run(events, folder, console) else 1)
    if part == Part.RECOVERY:
        raise typer.Exit(0 if recovery.run(events, folder, console) else 1)
    if part == Part.MODELS:
        twins = dict(each.split("=", 1) for each in fp32 or [])
        written = models.run({name: Path(file) for name, file in twins.items()}, console)
        console.print(f"Written: {written}", soft_wrap=True)
        return
    if part == Part.CONSENT:
        consent.run(console)
        return
    about = facts()
    rounds = _rounds(QUICK if quick else Plan()) if part != Part.MEMORY else []
    names = SYSTEMS if part != Part.END_TO_END else {}
    with console.status("Measuring memory and start-up …"):
        report = Report(about, rounds, [measure(name) for name in names])
    report.show(console)
    if part == Part.ALL and not quick:
        for path in report.write():
            console.print(f"Written: {path}", soft_wrap=True)
    if not report.is_right:
        console.print("[red]A round did not do what it should; see the table.[/]")
        raise typer.Exit(1)


def _rounds(plan: Plan) -> Sequence[Round]:
    total = plan.rounds * len(SYSTEMS)
    with console.status("Making up patients …") as status:

        def tell(done: int, name: str) -> None:
            status.update(f"Round {done + 1} of {total}: {name} …")

        return run_rounds(plan, tell)


if __name__ == "__main__":
    typer.run(main)
