"""`nadi site`: the one YAML file of a site, checked, compared, applied and reverted."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.syntax import Syntax

from adapters.site import LOOK_EVERY_S, Site, SiteInvalid, load_site, self_contained, site_schema
from adapters.site_changes import Change, changes
from adapters.site_terms import doubts
from adapters.site_yaml import read_yaml
from gateway.cli.context import (
    EXIT_NOT_SO,
    AsJson,
    DataDir,
    Opened,
    err,
    explained,
    fail,
    iso,
    login,
    moment,
    noun,
    opened,
    operator,
    out,
    print_json,
    settings_for,
    table,
)
from gateway.cli.site_files import lacking
from gateway.cli.site_login_key import login_key
from gateway.cli.site_plan import (
    missing_models,
    of_itself,
    unreachable,
    warnings,
    without_models,
)
from gateway.core import audit
from gateway.core.clock import new_id
from gateway.settings import Settings
from gateway.store.sites import SiteRow

app = noun("The site file: which systems there are, and which events run which model.")
app.command("login-key")(login_key)

File = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="The site file.")
]

_SIGNS = {"added": "[green]+[/]", "removed": "[red]-[/]", "changed": "[yellow]~[/]"}


@app.command()
@explained
def validate(file: File, as_json: AsJson = False) -> None:
    """Check a site file; every problem is named with file, line and key."""
    _, site = _ready(file, as_json=as_json)
    settings = settings_for(None)
    _insist_on_models(file, site, settings, as_json=as_json)
    lacks = lacking(_text(file), str(file), with_variables=False)
    warned = [*without_models(site, settings), *of_itself(site), *_doubts(file), *lacks]
    if as_json:
        print_json({"valid": True, "problems": [], "warnings": warned})
        return
    _show_warnings(warned)
    out.print(f"[green]✓[/] {escape(str(file))} is valid: {_summary(site)}.")


@app.command()
@explained
def plan(
    file: File,
    data_dir: DataDir = None,
    check: Annotated[
        bool, typer.Option("--check", help="Also ask each system whether it answers.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what applying a site file would change; nothing is changed."""
    text, site = _ready(file, as_json=as_json)
    with opened(data_dir) as nadi:
        current = _current(nadi)
        warned = [*warnings(site, nadi.settings), *_doubts(file), *_lacks(file)]
        failed = unreachable(site, nadi.store) if check else []
    warned += failed
    found = changes(current.yaml if current else None, text)
    if as_json:
        print_json({"changes": [change.as_json() for change in found], "warnings": warned})
    else:
        _show_plan(found, warned, current)
        if not check:
            out.print("[dim]Whether the systems answer was not tried; --check does.[/]")
    if failed:
        raise typer.Exit(EXIT_NOT_SO)


@app.command()
@explained
def apply(
    file: File,
    data_dir: DataDir = None,
    force: Annotated[
        bool, typer.Option("--force", help="Apply it even when a model is not in service.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put a site file in force: live, without a restart, as a new version."""
    text, site = _ready(file, as_json=as_json)
    with opened(data_dir) as nadi:
        if not force:
            _insist_on_models(file, site, nadi.settings, as_json=as_json)
        current = _current(nadi)
        if current and current.yaml == text:
            _report(current, "is in force already; nothing to change", as_json=as_json)
            return
        found = changes(current.yaml if current else None, text)
        warned = [*warnings(site, nadi.settings), *_doubts(file), *_lacks(file)]
        row = put_in_force(nadi, text, site.name)
        said = _subscribe(nadi, current, site)
    if not as_json:
        _show_plan(found, warned, current)
        for line in said:
            out.print(f"  {escape(line)}", soft_wrap=True)
    _wait_for_the_processes()
    _report(row, "is in force", as_json=as_json)


@app.command()
@explained
def show(
    version: Annotated[int | None, typer.Argument(help="Another version than the newest.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Print the site file in force, or one that was."""
    with opened(data_dir) as nadi, nadi.store.read() as uow:
        row = uow.sites.current() if version is None else uow.sites.get(version)
    if row is None:
        fail("No site file was applied yet; `nadi site apply FILE` does it.")
    if as_json:
        print_json({**_row_json(row), "yaml": row.yaml})
    elif out.is_terminal:
        out.print(f"[dim]version {row.version}, {moment(row.applied_ms)}, {row.applied_by}[/]")
        out.print(Syntax(row.yaml, "yaml", background_color="default", word_wrap=True))
    else:
        typer.echo(row.yaml, nl=False)


@app.command()
@explained
def history(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List every version that was ever in force."""
    with opened(data_dir) as nadi, nadi.store.read() as uow:
        rows = uow.sites.history()
    if as_json:
        print_json([_row_json(row) for row in rows])
        return
    listing = table("VERSION", "APPLIED", "BY", "SHA-256")
    for index, row in enumerate(rows):
        mark = " [green](in force)[/]" if index == 0 else ""
        listing.add_row(
            f"{row.version}{mark}",
            moment(row.applied_ms),
            escape(row.applied_by),
            row.sha256[:16],
        )
    out.print(listing)


@app.command()
@explained
def revert(
    version: Annotated[int, typer.Argument(help="The version to go back to.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Put an earlier version in force again, as a new version."""
    with opened(data_dir) as nadi:
        with nadi.store.read() as uow:
            row, current = uow.sites.get(version), uow.sites.current()
        site = load_site(row.yaml, source=f"site version {version}")
        new = put_in_force(nadi, row.yaml, site.name)
        _subscribe(nadi, current, site)
    _wait_for_the_processes()
    _report(new, f"is in force; it says what version {version} said", as_json=as_json)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a site file, for editors."""
    print_json(site_schema())


def put_in_force(nadi: Opened, text: str, site_name: str) -> SiteRow:
    """Apply a valid, self-contained site file, with its audit event in the same transaction."""
    process = nadi.source().process
    with nadi.store.write() as uow:
        row = uow.sites.apply(text, login())
        step = audit.Step(id=new_id(), recorded=uow.now, source=audit.Source(site_name, process))
        by = operator()
        uow.audit(audit.configured(step, by=by, version=row.version, sha256=row.sha256))
    return row


def _subscribe(nadi: Opened, current: SiteRow | None, site: Site) -> list[str]:
    """See to the Subscriptions in the EHRs; say what was done."""
    try:
        before = load_site(current.yaml) if current else None
    except SiteInvalid:  # of an older Nadi: what it had is not known
        before = None
    feeds = [*(before.feeds.values() if before else ()), *site.feeds.values()]
    if not any(feed.kind == "subscription" for feed in feeds):
        return []
    from gateway.cli.site_subscriptions import keep_subscriptions  # noqa: PLC0415 - only then

    return keep_subscriptions(nadi, before, site)


def _wait_for_the_processes() -> None:
    """Return when every process judges by the new site, so that "in force" is true.

    Each looks once in `LOOK_EVERY_S`; the rest is for a look that was under way.
    """
    time.sleep(LOOK_EVERY_S * 1.2)


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file} can't be read as UTF-8 text ({type(error).__name__}).")


def _doubts(file: Path) -> Iterator[str]:
    return map(str, doubts(read_yaml(_text(file), str(file))))


def _lacks(file: Path) -> Iterator[str]:
    return lacking(_text(file), str(file), with_variables=True)


def _ready(file: Path, *, as_json: bool) -> tuple[str, Site]:
    """Read and check a file and make it self-contained; it ends here when there are problems."""
    try:
        text = self_contained(_text(file), source=str(file), folder=file.parent)
        return text, load_site(text, source=str(file))
    except SiteInvalid as error:
        _show_problems(error, as_json=as_json)
        raise typer.Exit(EXIT_NOT_SO) from None


def _insist_on_models(file: Path, site: Site, settings: Settings, *, as_json: bool) -> None:
    missing = missing_models(site, settings, text=_text(file), source=str(file))
    if missing:
        _show_problems(SiteInvalid(missing), as_json=as_json)
        raise typer.Exit(EXIT_NOT_SO)


def _current(nadi: Opened) -> SiteRow | None:
    with nadi.store.read() as uow:
        return uow.sites.current()


def _show_problems(error: SiteInvalid, *, as_json: bool) -> None:
    if as_json:
        print_json({"valid": False, "problems": [vars(problem) for problem in error.problems]})
        return
    for problem in error.problems:
        place = f"{problem.source}:{problem.line}:{problem.column}:"
        key = f" [bold]{escape(problem.path)}[/]:" if problem.path else ""
        err.print(f"{escape(place)}{key} {escape(problem.message)}", soft_wrap=True)
    number = len(error.problems)
    err.print(f"[red]✗[/] {number} problem{'s' * (number != 1)}")


def _show_plan(found: list[Change], warned: list[str], current: SiteRow | None) -> None:
    against = f"version {current.version}" if current else "nothing: no site was applied yet"
    out.print(f"[bold]Changes[/] against {against}")
    for change in found:
        out.print(f"  {_SIGNS[change.kind]} {_change_line(change)}", soft_wrap=True)
    if not found:
        out.print("  none that matters")
    _show_warnings(warned)


def _show_warnings(warned: list[str]) -> None:
    for warning in warned:
        out.print(f"[yellow]![/] {escape(warning)}", soft_wrap=True)


def _change_line(change: Change) -> str:
    path, before, after = (
        escape(part or "") for part in (change.path, change.before, change.after)
    )
    if change.kind == "changed":
        return f"[bold]{path}[/]: [red]{before}[/] → [green]{after}[/]"
    return f"[bold]{path}[/]: {after or before}"


def _report(row: SiteRow, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_row_json(row))
    else:
        out.print(f"[green]✓[/] Version {row.version} {what}.")


def _row_json(row: SiteRow) -> dict[str, object]:
    return {
        "version": row.version,
        "applied_at": iso(row.applied_ms),
        "applied_by": row.applied_by,
        "sha256": row.sha256,
    }


def _summary(site: Site) -> str:
    parts = (
        (len(site.systems), "system"),
        (len(site.routes), "route"),
        (len(site.local_codes), "local code"),
    )
    return ", ".join(f"{number} {word}{'s' * (number != 1)}" for number, word in parts)
