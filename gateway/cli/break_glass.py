"""`nadi break-glass`: a clinician runs a route in an emergency; compliance lists and reviews it.

Each verb asks for the credential of a person (`gateway.cli.officer`): to run the machine is no
right to break the glass, or to judge that it was broken.
"""

from typing import Annotated

import typer
from rich.markup import escape

from gateway import telemetry
from gateway.cli.context import (
    AsJson,
    DataDir,
    Opened,
    err,
    explained,
    login,
    moment,
    noun,
    one_of,
    operator,
    out,
    print_json,
    table,
    words_of,
)
from gateway.cli.officer import opened_by_officer
from gateway.cli.patients import patient_of, record_search
from gateway.core.errors import LoginRequired
from gateway.core.principal import Permission, Principal
from gateway.store.break_glass import ReviewVerdict, Use

#: Name in the log of an alert that did not arrive.
_ALERT_FAILED = "break-glass-alert-failed"

app = noun("Run a route in an emergency; list and review the uses.")


@app.command()
@explained
def run(
    patient: Annotated[str, typer.Argument(help="Patient/<id>, as the EHR writes it.")],
    route: Annotated[str, typer.Option("--route", help="Which route to run.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept sealed, for the review.")],
    system: Annotated[str | None, typer.Option("--system", help="Whose patient.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Run a route for the patient's newest event, although consent would not permit it."""
    from gateway.bell import Bell  # noqa: PLC0415
    from gateway.breaking import Emergency, break_glass  # noqa: PLC0415 - keep `--help` quick

    with opened_by_officer(data_dir, Permission.BREAK_GLASS) as nadi:
        wanted = Emergency(
            clinician=_person(nadi),
            patient_key=patient_of(nadi, patient, system).key,
            route=route,
            reason=reason,
            login=login(),
        )
        with telemetry.hushed() as logged:
            use = break_glass(nadi.store, nadi.site(), nadi.source(), wanted)
        Bell(nadi.settings.resolved_broker_url).knock()
    if _ALERT_FAILED in logged:
        err.print("[yellow]![/] The alert of the site file did not arrive: tell them yourself.")
    if as_json:
        print_json({"job": use.job_id, "review": use.id})
        return
    out.print(f"[yellow]![/] The glass is broken: job {use.job_id} runs for purpose BTG.")
    out.print(f"  It is on record. Review {use.id} is due {moment(use.due_ms)}.")


@app.command(name="list")
@explained
def list_uses(
    only_open: Annotated[bool, typer.Option("--open", help="Only those not reviewed.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List the uses, newest first, with their reasons and reviews."""
    from gateway.api.break_glass import use_json  # noqa: PLC0415

    with (
        opened_by_officer(data_dir, Permission.REVIEW_BREAK_GLASS) as nadi,
        nadi.store.write() as uow,
    ):
        uses = uow.break_glass.listed(only_open=only_open)
        shown = [use_json(uow, each) for each in uses]
        for key in {each.patient_key for each in uses}:
            record_search(uow, nadi.source(), key, f"break-glass?open={only_open}")
        now_ms = uow.now_ms
    if as_json:
        print_json(shown)
        return
    listing = table("ID", "WHEN", "CLINICIAN", "ROUTE", "REASON", "REVIEW")
    for use, each in zip(uses, shown, strict=True):
        who, why = escape(use.clinician), escape(str(each["reason"]))
        listing.add_row(use.id, moment(use.used_ms), who, use.route, why, _state(use, now_ms))
    out.print(listing)


@app.command()
@explained
def review(
    use_id: Annotated[str, typer.Argument(metavar="ID", help="From the list.")],
    verdict: Annotated[
        ReviewVerdict,
        typer.Option(
            "--verdict",
            parser=one_of(ReviewVerdict),
            metavar=words_of(ReviewVerdict),
            help="What you found.",
        ),
    ],
    comment: Annotated[str, typer.Option("--comment", help="In a sentence; kept sealed.")],
    data_dir: DataDir = None,
) -> None:
    """Close the review of a use; nobody reviews their own."""
    from gateway.breaking import review as close  # noqa: PLC0415

    with opened_by_officer(data_dir, Permission.REVIEW_BREAK_GLASS) as nadi:
        close(
            nadi.store,
            nadi.source(),
            use_id,
            reviewer=_person(nadi),
            verdict=verdict,
            comment=comment,
            login=login(),
        )
    out.print(f"[green]✓[/] {escape(use_id)} is reviewed: {verdict.value}.")


def _person(nadi: Opened) -> Principal:
    """Give who showed a credential to this command."""
    with nadi.store.read() as uow:
        found = uow.credentials.find(operator().identifier)
    if found is None:
        raise LoginRequired
    return found.principal()


def _state(use: Use, now_ms: int) -> str:
    if use.verdict is not None:
        return f"{use.verdict.value}, by {escape(use.reviewer or '')}"
    due = moment(use.due_ms)
    return f"[red]overdue since {due}[/]" if use.is_overdue(now_ms) else f"due {due}"
