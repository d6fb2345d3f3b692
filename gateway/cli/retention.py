"""`nadi retention`: what has had its time, and removing it now instead of within the hour."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from gateway.cli.context import (
    AsJson,
    DataDir,
    explained,
    fail,
    iso,
    moment,
    noun,
    opened,
    operator,
    out,
    print_json,
    table,
)
from gateway.cli.officer import opened_for_rights
from gateway.core.clock import new_id
from gateway.core.retention import TERMS, Retention, RetentionClass
from gateway.store.retaining import Due, Run, due, expire

app = noun("How long what is held is kept, and removing what has had its time.")

_OFF = "The site file has no `retention`, so nothing is removed when its time is over."


@app.command()
@explained
def plan(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show each class, its rule, and how much of it has had its time; nothing is removed."""
    with opened(data_dir) as nadi:
        retention = nadi.site().retention
        with nadi.store.read() as uow:
            found = due(uow, retention)
    if as_json:
        print_json(
            {
                "in_force": retention.is_in_force,
                "classes": [_as_json(each, retention) for each in found],
                "audit": {"days": retention.rules[RetentionClass.AUDIT].days, "removed": False},
            }
        )
        return
    out.print(_listing(found, retention))
    if not retention.is_in_force:
        out.print(f"[yellow]![/] {_OFF}")


@app.command()
@explained
def run(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Remove what has had its time now, in short transactions, each on record."""
    with opened_for_rights(data_dir) as nadi:
        retention = nadi.site().retention
        if not retention.is_in_force:
            fail(_OFF)
        with nadi.store.read() as uow:
            found = due(uow, retention)
        if not yes:
            out.print(_listing(found, retention))
            typer.confirm("This can't be undone. Remove what is due?", abort=True)
        done = expire(nadi.store, retention, Run(nadi.source(), operator(), new_id()))
    if as_json:
        print_json({name.value: count for name, count in done.items()})
        return
    told = ", ".join(f"{count} {name.value}" for name, count in done.items() if count)
    out.print(f"[green]✓[/] Removed: {told or 'nothing was due'}.")


def _listing(found: list[Due], retention: Retention) -> Table:
    listing = table("CLASS", "KEPT", "DUE", "ON HOLD", "OLDEST", "HOLDS")
    for each in found:
        oldest = moment(each.oldest_ms) if each.oldest_ms is not None else ""
        row = (str(each.count), str(each.on_hold), oldest)
        listing.add_row(each.name.value, *_kept(each.name, retention, row))
    audit = RetentionClass.AUDIT
    listing.add_row(audit.value, *_kept(audit, retention, ("never removed", "", "")))
    return listing


def _kept(name: RetentionClass, retention: Retention, row: tuple[str, ...]) -> tuple[str, ...]:
    rule = retention.rules[name]
    days = f"{rule.days} days" + (f" ({escape(rule.law)})" if rule.law else "")
    return (days, *row, TERMS[name].holds)


def _as_json(each: Due, retention: Retention) -> dict[str, object]:
    rule = retention.rules[each.name]
    return {
        "class": each.name.value,
        "days": rule.days,
        "law": rule.law or None,
        "before": iso(each.before_ms),
        "due": each.count,
        "on_hold": each.on_hold,
        "oldest": iso(each.oldest_ms) if each.oldest_ms is not None else None,
    }
