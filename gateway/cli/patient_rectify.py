"""`nadi patient rectify`: what a wrong resource led to is stopped, or marked in the EHR."""

from typing import Annotated

import typer
from rich.markup import escape

from gateway.cli.context import (
    EXIT_USAGE,
    AsJson,
    DataDir,
    explained,
    fail,
    moment,
    operator,
    out,
    print_json,
    table,
)
from gateway.cli.officer import opened_for_rights
from gateway.cli.patient_erase import Law, Reason, Reference, System
from gateway.cli.patients import patient_of
from gateway.core.errors import NotFound
from gateway.store.rectifying import Affected, affected, wrong_versions
from gateway.store.rectifying import rectify as rectify_all
from gateway.store.registering import Actor


@explained
def rectify(  # noqa: PLR0913 - each is an option of the command line
    reference: Reference,
    *,
    resource: Annotated[
        str, typer.Option("--resource", help="What was wrong: Observation/<id>, as the EHR says.")
    ],
    reason: Reason,
    law: Law,
    version: Annotated[
        str | None,
        typer.Option("--version", help="The wrong one; every one before the newest when absent."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what is affected; change nothing.")
    ] = False,
    system: System = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Have results that were computed from wrong data marked as entered in error."""
    kind, _, name = resource.partition("/")
    if not name:
        fail("Name the resource as the EHR does: Observation/<id>.", code=EXIT_USAGE)
    marked = stopped = 0
    with opened_for_rights(data_dir) as nadi:
        patient, source = patient_of(nadi, reference, system), nadi.source()
        with nadi.store.write() as uow:
            wrong = wrong_versions(uow, patient.system, (kind, name), version)
            if wrong.patient_key != patient.key:
                raise NotFound("This resource is another patient's.")
            found = affected(uow, wrong)
            if not dry_run:
                actor = Actor(source, operator(), operator().identifier)
                marked, stopped = rectify_all(uow, found, (reason, law), actor)
    if as_json:
        print_json(_as_json(found, marked, stopped))
        return
    _show(found)
    if dry_run:
        return
    out.print(f"[green]✓[/] {marked} results will be marked in the EHR; {stopped} jobs stopped.")
    if not found.wrong.is_corrected:
        out.print(
            "[yellow]![/] No corrected version was received yet: have the EHR send it. It "
            "supersedes the wrong one, and runs anew where a route wants it.",
            soft_wrap=True,
        )


def _show(found: Affected) -> None:
    listing = table("ID", "WHEN", "MODEL", "STATE", "WHY")
    for job in found.jobs:
        why = job.reason or job.business_status.value
        listing.add_row(job.id, moment(job.created_ms), job.model, job.state.value, escape(why))
    out.print(listing if found.jobs else "  nothing was computed from it")


def _as_json(found: Affected, marked: int, stopped: int) -> dict[str, object]:
    return {
        "versions": sorted(found.wrong.event_ids),
        "is_corrected": found.wrong.is_corrected,
        "jobs": [
            {
                "id": job.id,
                "model": job.model,
                "state": job.state.value,
                "business_status": job.business_status.value,
            }
            for job in found.jobs
        ],
        "to_be_marked": marked,
        "stopped": stopped,
    }
