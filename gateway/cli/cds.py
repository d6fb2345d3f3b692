"""`nadi cds`: the services that EHRs may ask by CDS Hooks, and what became of their cards."""

from typing import Annotated, Any

import orjson
import typer
from rich.markup import escape

from gateway.cli.context import (
    AsJson,
    DataDir,
    explained,
    moment,
    noun,
    opened,
    out,
    print_json,
    table,
)
from gateway.cli.patients import record_search
from gateway.core.clock import from_ms
from gateway.core.errors import Unsealable
from gateway.store.cds import KeptFeedback
from gateway.store.unit_of_work import UnitOfWork

app = noun("CDS Hooks: the services, and what became of their cards.")


@app.command()
@explained
def services(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the services of the site in force, and what each asks EHRs to bring along."""
    from gateway.api.cds.shown import ModelsShown  # noqa: PLC0415 - keep `--help` quick
    from gateway.core.cds.prefetch import templates_of  # noqa: PLC0415
    from gateway.store.model_watch import ModelWatch  # noqa: PLC0415

    with opened(data_dir) as nadi:
        site, models = nadi.site(), ModelWatch(nadi.store).current
        shown = ModelsShown(nadi.settings, nadi.store, models)
        found: list[dict[str, Any]] = []
        for service in site.cds.services.values():
            route = site.route(service.route)
            line = shown.line(route.model) if route else None
            manifest = shown.manifest(line) if line else None
            kind = route.resource_type if route else None
            asked = (
                templates_of(manifest, trigger_type=kind, local_codes=site.local_codes)
                if manifest
                else ()
            )
            prefetch = {each.key: each.query for each in asked}
            model = line.card.reference if line else ""
            found.append({"id": service.id, "hook": service.hook, "route": service.route})
            found[-1] |= {"model": model, "prefetch": prefetch}
    if as_json:
        print_json(found)
        return
    listing = table("ID", "HOOK", "MODEL", "ASKS FOR")
    for each in found:
        asks_for = ", ".join(each["prefetch"]) or "nothing"
        listing.add_row(each["id"], each["hook"], each["model"] or "not in service", asks_for)
    out.print(listing)


@app.command()
@explained
def feedback(
    route: Annotated[str | None, typer.Option("--route", help="Of this route only.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=10_000, help="At most so many.")
    ] = 100,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List what became of cards, newest first; what was said with it is opened, on record."""
    with opened(data_dir) as nadi, nadi.store.write() as uow:
        kept = uow.cds.listed(route=route, limit=limit)
        shown = [_shown(uow, each) for each in kept]
        for key in sorted({each.patient_key for each in kept if each.patient_key}):
            record_search(uow, nadi.source(), key, f"cds-feedback?route={route or ''}")
    if as_json:
        print_json(shown)
        return
    listing = table("WHEN", "ROUTE", "OUTCOME", "WHY", "COMMENT", "CARD")
    for each, told in zip(kept, shown, strict=True):
        comment = escape(str(told["comment"] or ""))
        when = moment(each.outcome_ms)
        listing.add_row(when, each.route, each.outcome, each.reason, comment, each.job_id)
    out.print(listing)


def _shown(uow: UnitOfWork, kept: KeptFeedback) -> dict[str, Any]:
    return {
        "card": kept.job_id,
        "route": kept.route,
        "client": kept.client,
        "outcome": kept.outcome,
        "reason": kept.reason,
        "at": from_ms(kept.outcome_ms).isoformat(),
        "received_at": from_ms(kept.received_ms).isoformat(),
        **_said(uow, kept),
    }


def _said(uow: UnitOfWork, kept: KeptFeedback) -> dict[str, Any]:
    try:
        opened_bytes = uow.cds.said(kept)
    except Unsealable:
        return {"comment": None, "said": "(erased)"}
    said = orjson.loads(opened_bytes) if opened_bytes else {}
    return {"comment": (said.get("overrideReason") or {}).get("userComment"), "said": said}
