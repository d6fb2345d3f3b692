"""`nadi worklist`: what no EHR takes, until it is signed off or tried again.

To list and to have something tried again is for who runs the machine; no patient value is shown. To
sign off is a clinician's: it asks for the credential of one (`gateway.cli.officer`), and their
result is read over the API or in a client of theirs.
"""

from typing import Annotated

import typer
from rich.markup import escape

from gateway.cli.context import (
    EXIT_USAGE,
    AsJson,
    DataDir,
    age,
    explained,
    fail,
    moment,
    noun,
    one_of,
    opened,
    operator,
    out,
    print_json,
    table,
    words_of,
)
from gateway.cli.jobs import changed, job_json, report
from gateway.cli.officer import opened_by_officer
from gateway.cli.patients import record_search
from gateway.core import audit
from gateway.core.principal import Permission
from gateway.core.worklist import Item, SignOffReason, item_task
from gateway.store import worklist
from gateway.store.registering import Actor
from gateway.store.unit_of_work import UnitOfWork

app = noun("What no EHR takes: list it, sign it off, have it tried again.")

_Id = Annotated[str, typer.Argument(metavar="ID", help="From the list.")]


@app.command(name="list")
@explained
def list_items(
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most items.")] = 100,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List what nobody signed off yet, the newest first."""
    with opened(data_dir) as nadi, nadi.store.read() as uow:
        items, _ = worklist.listed(uow, before=None, limit=limit)
        total, _ = worklist.count(uow)
    if as_json:
        print_json([_json(each) for each in items])
        return
    listing = table("ID", "AGE", "ROUTE", "MODEL", "MEANT FOR")
    for each in items:
        job, system = each.job, escape(each.delivery.system)
        listing.add_row(job.id, age(each.since_ms), escape(job.route), escape(job.model), system)
    out.print(listing)
    if len(items) < total:
        out.print(f"[dim]{len(items)} of {total}; --limit shows more.[/]")


@app.command()
@explained
def show(item_id: _Id, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show an item without its result: why it is here, and who signed it off."""
    with opened(data_dir) as nadi, nadi.store.write() as uow:
        item = worklist.find(uow, item_id)
        record_search(uow, nadi.source(), item.job.patient_key, f"worklist/{item.job.id}")
    if as_json:
        print_json(item_task(item))
        return
    job, signed = item.job, item.signed
    where = "" if item.is_open or signed else "; not on the worklist"
    out.print(f"{job.id}  {job.business_status}, since {moment(item.since_ms)}{where}")
    out.print(f"  route {escape(job.route)}, model {escape(job.model)}, version {item.version}")
    if job.reason:
        out.print(f"  {escape(job.reason)}", soft_wrap=True)
    if signed:
        why = f": {signed.reason}" if signed.reason else ""
        out.print(f"  signed off by {escape(signed.name)}, {moment(signed.at_ms)}{why}")


@app.command(name="sign-off")
@explained
def sign_off(
    item_id: _Id,
    reason: Annotated[
        SignOffReason | None,
        typer.Option(
            "--reason",
            parser=one_of(SignOffReason),
            metavar=words_of(SignOffReason),
            help="Why it needs nobody's eyes any more.",
        ),
    ] = None,
    seen: Annotated[
        str | None, typer.Option("--seen", help="Only as you saw it: its version.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Sign an item off, as the clinician whose credential this is."""
    with (
        opened_by_officer(data_dir, Permission.SIGN_OFF) as nadi,
        nadi.store.write() as uow,
    ):
        actor = Actor(nadi.source(), operator(), operator().identifier)
        worklist.sign_off(uow, item_id, actor, reason, seen=seen)
    out.print(f"[green]✓[/] {escape(item_id)} is signed off.")


@app.command()
@explained
def retry(
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="From the list.")] = None,
    system: Annotated[
        str | None, typer.Option("--system", help="Everything that was meant for this system.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Have items written into the EHR after all, as when it was mended."""
    if bool(ids) == bool(system):
        fail("Name items, or a system by --system.", code=EXIT_USAGE)
    with opened(data_dir) as nadi:
        site = nadi.site()
        with nadi.store.read() as uow:
            wanted = ids or worklist.listed_jobs(uow, system)
        if not wanted and system not in site.systems:
            known = ", ".join(site.systems)
            fail(f"There is no system '{system}' in the site file; known: {known}.")

        def again(uow: UnitOfWork, item_id: str, source: audit.Source) -> None:
            actor = Actor(source, operator(), operator().identifier)
            worklist.retry(uow, item_id, actor, lambda name: site.route(name) is not None)

        why = changed(nadi, wanted, again)
    report(why, "is tried again", as_json=as_json)
    if not wanted and not as_json:
        out.print("Nothing that was meant for it is on the worklist.")


def _json(item: Item) -> dict[str, object]:
    shown = job_json(item.job)
    return {**shown, "system": item.delivery.system, "version": item.version}
