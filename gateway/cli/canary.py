"""`nadi canary`: a built-in patient who refuses everything; was she ever permitted?"""

from typing import Annotated

import typer
from rich.markup import escape

from gateway.cli.context import (
    EXIT_NOT_SO,
    EXIT_USAGE,
    AsJson,
    DataDir,
    Opened,
    explained,
    fail,
    iso,
    moment,
    noun,
    opened,
    operator,
    out,
    print_json,
)

app = noun("The canary, who refuses everything: run her, or let the gateway admit again.")

_WAIT_S = 10.0


@app.command()
@explained
def status(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show whether she was refused when she was last run."""
    with opened(data_dir) as nadi, nadi.store.read() as uow:
        state = uow.canary.state()
    if as_json:
        print_json(
            {
                "is_permitted": state.tripped_ms is not None,
                "is_proven": state.is_proven,
                "last_run_at": iso(state.last_run_ms) if state.last_run_ms else None,
                "why": state.why or None,
            }
        )
    elif state.tripped_ms is not None:
        out.print(f"[red]✗[/] Nothing is admitted since {moment(state.tripped_ms)}.")
        out.print(f"  {escape(state.why)}")
    elif state.last_run_ms is None:
        out.print("[yellow]![/] She was never run.")
    else:
        word = "She was refused" if state.is_proven else "Nobody asked for her consent"
        out.print(f"{word}; last run {moment(state.last_run_ms)}.")
    if state.tripped_ms is not None:
        raise typer.Exit(EXIT_NOT_SO)


@app.command()
@explained
def run(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Run her now."""
    with opened(data_dir) as nadi:
        report = run_now(nadi, wait_s=_WAIT_S)
    if as_json:
        print_json(report)
    else:
        sign = "[green]✓[/]" if report["is_proven"] else "[red]✗[/]"
        out.print(f"{sign} {escape(str(report['says']))}")
    if report["is_permitted"]:
        raise typer.Exit(EXIT_NOT_SO)


@app.command()
@explained
def clear(
    reason: Annotated[str, typer.Option("--reason", help="What was wrong, and how it was mended.")],
    data_dir: DataDir = None,
) -> None:
    """Let the gateway admit again after she was permitted; she is run at once."""
    from gateway import canary  # noqa: PLC0415

    if not reason.strip():
        fail("Say what was mended with --reason.", code=EXIT_USAGE)
    with opened(data_dir) as nadi:
        if not canary.clear(nadi.store, nadi.source(), operator(), reason.strip()):
            out.print("She was not permitted; there is nothing to clear.")
            return
        report = run_now(nadi, wait_s=_WAIT_S)
    if report["is_permitted"]:
        fail(f"She is permitted still. {report['says']}")
    out.print(f"[green]✓[/] Events are admitted again: {escape(str(report['says']))}.")


def run_now(nadi: Opened, *, wait_s: float) -> dict[str, object]:
    """Run her on an installation, whether its processes run or not."""
    from gateway.api.canary import post_through  # noqa: PLC0415
    from gateway.api.intake import Intake  # noqa: PLC0415
    from gateway.canary import Canary  # noqa: PLC0415
    from gateway.store.model_watch import ModelWatch  # noqa: PLC0415
    from gateway.telemetry import hushed  # noqa: PLC0415

    intake = Intake(
        nadi.store,
        nadi.site,
        ModelWatch(nadi.store).current,
        process_name="cli",
        after_commit=lambda: None,
    )
    with hushed():
        report = Canary(nadi.store, nadi.site, post_through(intake), "cli").run(wait_s=wait_s)
    return {
        "is_permitted": report.is_permitted,
        "is_proven": report.is_proven,
        "says": report.says,
    }
