"""`nadi audit`: read one patient's trail, and check that the whole log is what was written."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from gateway.cli import (
    audit_incident,
    audit_prove,
    audit_questions,
    audit_report,
    audit_search,
    audit_witnesses,
)
from gateway.cli.audit_view import progress_bar
from gateway.cli.context import (
    EXIT_NOT_SO,
    AsJson,
    DataDir,
    Opened,
    explained,
    noun,
    opened,
    operator,
    out,
    print_json,
)
from gateway.core import audit
from gateway.core.clock import new_id
from gateway.core.errors import GatewayError
from gateway.store.checkpoint_file import CheckpointFile
from gateway.store.verification_checkpoints import OutsideNote
from gateway.store.verification_report import Finding, FirstBad, Kind, Verification

app = noun("The audit log: what was done with whose data, why, and that nothing was changed.")
app.command(name="list")(audit_search.search)
app.command()(audit_search.search)
app.command()(audit_search.export)
app.command()(audit_incident.incident)
app.command()(audit_prove.prove)
for name, question in audit_questions.VERBS.items():
    app.command(name=name)(question)
app.command()(audit_report.report)
app.command()(audit_witnesses.witnesses)
app.command()(audit_witnesses.publish)

#: Most findings shown of one table, so that no table hides another.
_SHOWN_FINDINGS = 20
#: Causes come before what follows from them; other tables stand between these.
_FIRST = ("database", "database file", "key_check")
_LAST = ("audit_terms", "audit_events", "audit_leaves", "audit_checkpoints", "checkpoint file")
#: Where it is seen that entries of the log are gone, and the kinds that say so.
_LOG = ("audit_leaves", "audit_events", "audit_checkpoints", "checkpoint file")
_GONE = (Kind.MISSING, Kind.TRUNCATED, Kind.ROLLED_BACK)
_NO_WITNESS = "The audit log has no witness; docs/audit.md says how to name one."
#: As wide as the id of a row.
_ROW_WIDTH = 36


@app.command()
@explained
def verify(
    earlier: audit_prove.From = None,
    witness: audit_witnesses.Names = None,
    log_only: Annotated[
        bool, typer.Option("--log-only", help="Only the log itself, several times as fast.")
    ] = False,
    no_witnesses: Annotated[
        bool, typer.Option("--no-witnesses", help="Ask no witness that --witness does not name.")
    ] = False,
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
        silent: list[str] = []
        if not witness and not no_witnesses:
            kept, silent = audit_witnesses.kept_by_all(nadi)
            witnessed += kept
        report = _verify(nadi, witnessed, is_log_only=log_only, quiet=as_json)
        report.notes += silent
        # A site file that was tampered with may not even be one any more.
        with contextlib.suppress(GatewayError):
            if not nadi.site().witnesses:
                report.notes.append(_NO_WITNESS)
        _record(nadi, report)
    if as_json:
        print_json(_report_json(report))
    else:
        _show_report(report)
    if not report.holds:
        raise typer.Exit(EXIT_NOT_SO)


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


def _verify(
    nadi: Opened, witnessed: Sequence[OutsideNote], *, is_log_only: bool, quiet: bool
) -> Verification:
    """Verify with a progress bar on standard error."""
    from gateway.store.verification import verify as compare  # noqa: PLC0415 - same name

    outside = CheckpointFile(nadi.settings.data_dir).notes()
    bar = progress_bar(Console(stderr=True, quiet=quiet))
    tasks: dict[str, Any] = {}

    def tell(phase: str, done: int, total: int) -> None:
        if phase not in tasks:
            tasks[phase] = bar.add_task(phase.replace("_", " "), total=total)
        bar.update(tasks[phase], completed=done, total=total)

    with bar, nadi.store.read() as uow:
        return compare(
            uow,
            nadi.keys.verifier,
            outside=outside,
            witnessed=witnessed,
            progress=tell,
            is_log_only=is_log_only,
        )


def _record(nadi: Opened, report: Verification) -> None:
    """Put the verification on record, after it: what was looked at stays as it was found."""
    outcome = audit.Outcome.SUCCESS if report.holds else audit.Outcome.SERIOUS_FAILURE
    kinds = ", ".join(sorted({str(finding.kind) for finding in report.findings}))
    details = {
        "size": str(report.size),
        "root": report.root.hex(),
        "findings": str(len(report.findings)),
        "kinds": kinds,
    }
    try:
        with nadi.store.write() as uow:
            step = audit.Step(id=new_id(), recorded=uow.now, source=nadi.source(), outcome=outcome)
            uow.audit(audit.noted(step, "verify", agents=[operator()], details=details))
    except GatewayError as error:
        report.notes.append(f"This verification could not be put on record: {error.message}")


def _show_report(report: Verification) -> None:
    """Show the verdict first, then what shows it, then what it does not cover."""
    is_cut = report.first_bad is not None and report.first_bad.kind in _GONE
    order = _log_first if is_cut else _causes_first
    findings = sorted(set(report.findings), key=order)
    if report.holds:
        out.print(f"[green]✓[/] The log holds: {report.size} leaves, root {report.root.hex()}")
    else:
        number = len(findings)
        plural = "s" if number != 1 else ""
        out.print(f"[red]✗ Not everything is as it was recorded: {number} finding{plural}.[/]")
        if report.first_bad:
            out.print(f"  First bad entry of the log: [bold]{_first_bad(report.first_bad)}[/]")
    for name, group in itertools.groupby(findings, key=lambda finding: finding.table):
        found = list(group)
        _show_findings(name, _without_what_follows(name, found) if is_cut else found)
    counted = ", ".join(
        f"{number} {name.replace('_', ' ')}" for name, number in report.counted.items()
    )
    out.print(f"[dim]Looked at {counted}.[/]", soft_wrap=True)
    for note in report.notes:
        out.print(f"[yellow]![/] {escape(note)}", soft_wrap=True)


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


def _log_first(finding: Finding) -> tuple[int, str, str, str]:
    """Order what is said of a log in which entries are gone: rows that nothing made follow."""
    rank, *rest = _causes_first(finding)
    if finding.table in _LOG:
        rank = -len(_FIRST) - len(_LOG) + _LOG.index(finding.table)
    return rank, rest[0], rest[1], rest[2]


def _without_what_follows(name: str, findings: list[Finding]) -> list[Finding]:
    """Fold rows of a table whose entries are gone with a part of the log into one line."""
    follow = [each for each in findings if name not in _LOG and each.kind is Kind.INVENTED]
    if len(follow) > 1:
        says = f"{len(follow)} rows follow from it: nothing on record made them; --json names each"
        out.print(f"[red]✗[/] [bold]{escape(name)}[/]: {says}", soft_wrap=True)
        return [each for each in findings if each not in follow]
    return findings


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
