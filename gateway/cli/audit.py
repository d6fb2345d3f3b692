"""`nadi audit`: read one patient's trail, and check that the whole log is what was written."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from gateway.cli import audit_prove, audit_witnesses
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
from gateway.core.errors import GatewayError
from gateway.store.audit_log import AuditFilter, AuditRow
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.evidence import read_claim
from gateway.store.verification_checkpoints import OutsideNote
from gateway.store.verification_report import Finding, FirstBad, Kind, Verification

app = noun("The audit log: what was done with whose data, why, and that nothing was changed.")
app.command()(audit_prove.prove)
app.command()(audit_witnesses.witnesses)
app.command()(audit_witnesses.publish)

#: Most findings shown of one table, so that no table hides another.
_SHOWN_FINDINGS = 20
#: Causes come before what follows from them; other tables stand between these.
_FIRST = ("database", "database file", "key_check")
_LAST = ("audit_events", "audit_leaves", "audit_checkpoints", "checkpoint file")
#: As wide as the id of a row.
_ROW_WIDTH = 36
#: Steps that somebody outside asked for.
_CALLED = frozenset(
    {"receive", "read", "query", "configure", "credential", "model", "sign-in-failure", "forbid"}
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
def verify(
    earlier: audit_prove.From = None,
    witness: audit_witnesses.Names = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Compare everything in the database with what was recorded; name every place that differs."""
    witnessed = [
        OutsideNote(str(path), f"note {number}", note)
        for path in earlier or []
        for number, note in enumerate(audit_prove.read_notes(path), start=1)
    ]
    with _told_as_json(as_json), opened(data_dir, checks_key=False) as nadi:
        witnessed += audit_witnesses.kept_by(nadi, witness)
        report = _verify(nadi, witnessed, quiet=as_json)
        # A site file that was tampered with may not even be one any more.
        with contextlib.suppress(GatewayError):
            if not nadi.site().witnesses:
                report.notes.append(audit_witnesses.NO_WITNESS)
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


@contextmanager
def _told_as_json(as_json: bool) -> Iterator[None]:
    """Give scripts a report also when there is nothing that can be verified."""
    try:
        yield
    except GatewayError as error:
        if not as_json:
            raise
        report = Verification()
        report.found("data folder", "", error.message)
        print_json(_report_json(report))
        raise typer.Exit(EXIT_NOT_SO) from None


def _verify(nadi: Opened, witnessed: Sequence[OutsideNote], *, quiet: bool) -> Verification:
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
        return compare(uow, nadi.keys.verifier, outside=outside, witnessed=witnessed, progress=tell)


def _progress_bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description:<14}"), BarColumn(), TaskProgressColumn())
    return Progress(*columns, TimeElapsedColumn(), console=console, transient=True)


def _show_report(report: Verification) -> None:
    counted = ", ".join(
        f"{number} {name.replace('_', ' ')}" for name, number in report.counted.items()
    )
    findings = sorted(set(report.findings), key=_causes_first)
    for name, group in itertools.groupby(findings, key=lambda finding: finding.table):
        _show_findings(name, list(group))
    for note in report.notes:
        out.print(f"[yellow]![/] {escape(note)}", soft_wrap=True)
    out.print(f"[dim]Looked at {counted}.[/]", soft_wrap=True)
    if report.holds:
        out.print(f"[green]✓[/] The log holds: {report.size} leaves, root {report.root.hex()}")
    else:
        number = len(findings)
        plural = "s" if number != 1 else ""
        if report.first_bad:
            out.print(f"  First bad entry of the log: [bold]{_first_bad(report.first_bad)}[/]")
        out.print(f"[red]✗ Not everything is as it was recorded: {number} finding{plural}.[/]")


def _first_bad(bad: FirstBad) -> str:
    if bad.kind in (Kind.TRUNCATED, Kind.ROLLED_BACK):
        return f"{bad.kind} from leaf {bad.first_leaf} on"
    if bad.first_leaf == bad.last_leaf:
        return f"leaf {bad.first_leaf}, {bad.kind}"
    return f"among leaves {bad.first_leaf} to {bad.last_leaf}, {bad.kind}"


def _causes_first(finding: Finding) -> tuple[int, str, str, str]:
    """Order by table, then by row; numbers stand right-aligned, so that 999 is before 1000."""
    name = finding.table
    rank = 0
    if name in _FIRST:
        rank = _FIRST.index(name) - len(_FIRST)
    elif name in _LAST:
        rank = _LAST.index(name) + 1
    return rank, name, finding.row.rjust(_ROW_WIDTH), finding.what


def _show_findings(name: str, findings: Sequence[Finding]) -> None:
    """Show those of one table; checkpoints that a change took with it are told in one line."""
    sizes = {finding.leaves for finding in findings if finding.leaves is not None}
    if len(sizes) > 1:
        findings = [finding for finding in findings if finding.leaves is None]
    for finding in findings[:_SHOWN_FINDINGS]:
        event = f", AuditEvent {finding.audit_event}" if finding.audit_event else ""
        place = f"[bold]{escape(name)}[/] {escape(finding.row)}"
        says = f"{escape(finding.what)} ({finding.kind}{event})"
        out.print(f"[red]✗[/] {place}: {says}", soft_wrap=True)
    if len(findings) > _SHOWN_FINDINGS:
        out.print(f"  … {len(findings) - _SHOWN_FINDINGS} more of {name}; --json gives all")
    if len(sizes) > 1:
        says = f"{len(sizes)} checkpoints from size {min(sizes)} on no longer fit"
        out.print(f"[red]✗[/] [bold]{escape(name)}[/]: {says}")


def _report_json(report: Verification) -> dict[str, object]:
    return {
        "holds": report.holds,
        "size": report.size,
        "root": report.root.hex(),
        "first_bad": vars(report.first_bad) if report.first_bad else None,
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
    if row.event in ("infer", "model"):
        named.insert(0, f"model {claim.names.get(MODEL_SYSTEM, '')}")
    return ", ".join(named)


def _moment(text: str) -> int:
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        fail("--since wants a date or time of ISO 8601, such as 2026-11-23.", code=EXIT_USAGE)
    return to_ms(read if read.tzinfo else read.astimezone(UTC))
