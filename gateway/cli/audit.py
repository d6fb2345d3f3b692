"""`nadi audit`: read one patient's trail, and prove that the whole log is what was written."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from gateway.cli.context import (
    EXIT_NOT_SO,
    EXIT_USAGE,
    AsJson,
    DataDir,
    Opened,
    explained,
    fail,
    moment,
    noun,
    opened,
    out,
    print_json,
    table,
)
from gateway.cli.patients import patient_of, record_search
from gateway.core.audit import read_record
from gateway.core.audit_event import MODEL_SYSTEM
from gateway.core.clock import to_ms
from gateway.store.audit_log import AuditFilter, AuditRow
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.evidence import read_claim
from gateway.store.verification import Verification

app = noun("The audit log: what was done with whose data, why, and that nothing was changed.")

_SHOWN_FINDINGS = 50
#: Steps that somebody outside asked for.
_CALLED = frozenset(
    {"receive", "read", "query", "configure", "credential", "sign-in-failure", "forbid"}
)
_TOLD = (
    "route",
    "model",
    "stage",
    "purpose",
    "state",
    "business-status",
    "http-status",
    "kernel-class",
)


@app.command()
@explained
def verify(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Compare everything in the database with what was recorded; name every place that differs."""
    with opened(data_dir) as nadi:
        report = _verify(nadi, quiet=as_json)
    if as_json:
        print_json(_report_json(report))
    else:
        _show_report(report)
    if not report.holds:
        raise typer.Exit(EXIT_NOT_SO)


@app.command(name="list")
@explained
def list_events(
    patient: Annotated[
        str | None, typer.Option("--patient", help="Only about this patient: Patient/<id>.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="From this time on, such as 2026-11-23.")
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", help="Whose patient it is, if that is not clear.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most events.")] = 200,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show the trail, oldest first; looking up a patient is itself put on record."""
    since_ms = None if since is None else _moment(since)
    with opened(data_dir) as nadi:
        key = patient_of(nadi, patient, system).key if patient else None
        wanted = AuditFilter(patient_key=key, since_ms=since_ms, limit=limit)
        with nadi.store.read() as uow:
            found = uow.audit_log.search(wanted)
            total = uow.audit_log.count(wanted)
        if key is not None:
            with nadi.store.write() as uow:
                record_search(uow, nadi.source(), key, f"AuditEvent?patient={key}")
    found.reverse()
    if as_json:
        print_json([orjson.loads(row.body) for row in found])
        return
    _show_trail(found, patient)
    if total > len(found):
        out.print(f"[dim]The newest {len(found)} of {total}; --limit shows more.[/]")


def _verify(nadi: Opened, *, quiet: bool) -> Verification:
    """Verify with a progress bar on standard error."""
    from gateway.store.verification import verify as compare  # noqa: PLC0415 - same name

    outside = CheckpointFile(nadi.settings.data_dir).notes()
    bar = _progress_bar(Console(stderr=True, quiet=quiet))
    tasks: dict[str, Any] = {}

    def tell(phase: str, done: int, total: int) -> None:
        if phase not in tasks:
            tasks[phase] = bar.add_task(phase.replace("_", " "), total=total)
        bar.update(tasks[phase], completed=done, total=total)

    with bar, nadi.store.read() as uow:
        return compare(uow, nadi.keys.verifier, outside=outside, progress=tell)


def _progress_bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description:<14}"), BarColumn(), TaskProgressColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True)


def _show_report(report: Verification) -> None:
    counted = ", ".join(
        f"{number} {name.replace('_', ' ')}" for name, number in report.counted.items()
    )
    for finding in sorted(set(report.findings), key=str)[:_SHOWN_FINDINGS]:
        shown = f" (AuditEvent {finding.audit_event})" if finding.audit_event else ""
        place = f"[bold]{escape(finding.table)}[/] {escape(finding.row)}"
        out.print(f"[red]✗[/] {place}: {escape(finding.what)}{shown}", soft_wrap=True)
    if len(report.findings) > _SHOWN_FINDINGS:
        out.print(f"  … {len(report.findings) - _SHOWN_FINDINGS} more; --json gives all")
    for note in report.notes:
        out.print(f"[yellow]![/] {escape(note)}", soft_wrap=True)
    out.print(f"[dim]Looked at {counted}.[/]", soft_wrap=True)
    if report.holds:
        out.print(f"[green]✓[/] The log holds: {report.size} leaves, root {report.root.hex()}")
    else:
        number = len(report.findings)
        plural = "s are" if number != 1 else " is"
        out.print(f"[red]✗ The database was changed: {number} place{plural} not as recorded.[/]")


def _report_json(report: Verification) -> dict[str, object]:
    return {
        "holds": report.holds,
        "size": report.size,
        "root": report.root.hex(),
        "findings": [vars(finding) for finding in report.findings],
        "notes": report.notes,
        "counted": report.counted,
    }


def _show_trail(found: Sequence[AuditRow], patient: str | None) -> None:
    listing = table("WHEN", "STEP", "OUTCOME", "WHO", "WHY")
    for row in found:
        listing.add_row(*_trail_row(row))
    if patient:
        out.print(f"What happened to data of [bold]{escape(patient)}[/]:")
    out.print(listing if found else "  nothing is on record")


def _trail_row(row: AuditRow) -> tuple[str, ...]:
    body = orjson.loads(row.body)
    colour = "green" if row.outcome == "0" else "yellow"
    word = {"0": "done", "4": "refused", "8": "refused"}.get(row.outcome, "failed")
    who = _who(row, body)
    why = body.get("outcomeDesc") or _about(row)
    step = f"[bold]{row.event}[/]"
    return moment(row.recorded_ms), step, f"[{colour}]{word}[/]", escape(who), escape(why)


def _who(row: AuditRow, body: dict[str, Any]) -> str:
    """Name who set the step going: a caller where there was one, else the process of ours."""
    if row.event in _CALLED:
        return str(body["agent"][0]["who"].get("display", ""))
    return str(body["source"]["observer"].get("display", ""))


def _about(row: AuditRow) -> str:
    """Say in a few words what a step that needed no reason was about."""
    claim = read_claim(row.seq, read_record(row.body))
    named = [f"{name} {claim.facts[name]}" for name in _TOLD if name in claim.facts]
    if row.event == "receive":
        return claim.resource_type
    if row.event in ("deliver", "fetch"):
        named.insert(0, f"{'to' if row.event == 'deliver' else 'from'} {claim.agents[0]}")
    if row.event == "infer":
        named.insert(0, f"model {claim.names.get(MODEL_SYSTEM, '')}")
    return ", ".join(named)


def _moment(text: str) -> int:
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        fail("--since wants a date or time of ISO 8601, such as 2026-11-23.", code=EXIT_USAGE)
    return to_ms(read if read.tzinfo else read.astimezone(UTC))
