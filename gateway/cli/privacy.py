"""`nadi privacy record`: what is processed here, why and for whom, out of the configuration."""

import re
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.markup import escape

from adapters.site import Site
from gateway.cli.context import (
    AsJson,
    DataDir,
    Opened,
    explained,
    fail,
    noun,
    opened,
    out,
    settings_for,
)
from gateway.cli.models_installed import Installed, installed
from gateway.cli.privacy_emergency import ENDED, emergencies
from gateway.core.clock import from_ms, to_ms, utc_now
from gateway.core.jobs import JobState
from gateway.core.model_register import RegisteredModel
from gateway.core.processing_record import (
    Activity,
    ModelLine,
    ProcessingRecord,
    Recipient,
    html,
    markdown,
)
from gateway.core.purposes import in_words
from gateway.core.retention import DAY_MS
from gateway.core.routing import Route
from gateway.store.processing import jobs_by_route, patients_since, reviews_since
from models.manifest import Manifest

app = noun("Personal data: the record of what is processed here, why and for whom.")

_GROUNDS = {
    "consent": "consent given elsewhere (DPDP Act 2023, s.6)",
    "dpdp-7-emergency": "medical emergency (DPDP Act 2023, s.7(f))",
    "dpdp-7-public-health": "epidemic or public health (DPDP Act 2023, s.7(g))",
    "dpdp-7-disaster": "disaster (DPDP Act 2023, s.7(h))",
    "legal-obligation": "a legal obligation",
}
#: A code that a trigger asks for.
_CODE = re.compile(r"\bcode\s*(?:=|in)\s*'([^']+)'")
_FORMS = {".html": html, ".md": markdown}


@app.callback()
def privacy() -> None:
    """Personal data: the record of what is processed here, why and for whom."""


@app.command()
@explained
def record(
    to: Annotated[
        Path | None,
        typer.Option("--out", help="Write a page (.html), Markdown (.md) or JSON (.json) instead."),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Draw up the record of processing; it names no patient."""
    models = installed(settings_for(data_dir))
    with opened(data_dir) as nadi:
        made = _record(nadi, models)
    if to is None:
        typer.echo(_json(made) if as_json else markdown(made))
        return
    form = _FORMS.get(to.suffix, _json if to.suffix == ".json" else None)
    if form is None:
        fail("--out ends in .html, .md or .json.", code=2)
    try:
        to.write_text(form(made), encoding="utf-8")
    except OSError as error:
        fail(f"{to} can't be written: {error.strerror}.")
    gaps = f"; {len(made.missing)} things are missing in the site file" if made.missing else ""
    out.print(f"[green]✓[/] {escape(str(to))}: {len(made.activities)} activities{gaps}.")


def _json(made: ProcessingRecord) -> str:
    return orjson.dumps(made.as_json(), option=orjson.OPT_INDENT_2).decode()


def _record(nadi: Opened, models: Installed) -> ProcessingRecord:
    site, now_ms = nadi.site(), to_ms(utc_now())
    since_ms = now_ms - 365 * DAY_MS
    with nadi.store.read() as uow:
        counts, lines = jobs_by_route(uow, since_ms), uow.models.lines()
        patients = patients_since(uow, since_ms)
        reviews = reviews_since(uow, since_ms)
        in_force = [each for each in uow.credentials.list() if each.revoked_ms is None]
    activities = [_activity(each, site, models, counts.get(each.name, {})) for each in site.routes]
    if site.break_glass is not None or reviews.uses:
        activities.append(emergencies(site, activities, counts, reviews))
    used = {found.digest for each in site.routes if (found := models.find(each.model))}
    return ProcessingRecord(
        made_at=from_ms(now_ms),
        site=site.name or "site",
        site_version=site.version,
        privacy=site.privacy,
        activities=activities,
        models=[_model(line) for line in lines if line.card.digest in used],
        recipients=_recipients(site),
        retention=site.retention,
        patients=patients,
        credentials={
            role: sum(each.role == role for each in in_force)
            for role in sorted({each.role.value for each in in_force})
        },
    )


def _activity(route: Route, site: Site, models: Installed, counts: dict[str, int]) -> Activity:
    found = models.find(route.model)
    done = counts.get(JobState.COMPLETED, 0)
    return Activity(
        route=route.name,
        purpose=route.purpose,
        purpose_in_words=in_words(route.purpose),
        basis=_basis(route, site),
        source=_starts(route, site, found.manifest if found else None),
        trigger=route.match,
        categories=_categories(found.manifest) if found else ("the model is not installed",),
        model=route.model,
        recipient=site.called(route.sink),
        done=done,
        refused=sum(counts.get(state, 0) for state in ENDED),
    )


def _starts(route: Route, site: Site, manifest: Manifest | None) -> str:
    """Say in words what starts a route: which resources, with which codes, from which system."""
    inputs = manifest.inputs if manifest else ()
    labels = {code.code: each.label for each in inputs for code in each.codes}
    codes: dict[str, list[str]] = {}
    for code in dict.fromkeys(_CODE.findall(route.match)):
        codes.setdefault(labels.get(code, "the code"), []).append(code)
    named = [f"{label} ({' or '.join(same)})" for label, same in codes.items()]
    about = f" of {' or '.join(named)}" if named else " that the trigger matches"
    return f"each {route.resource_type or 'resource'}{about}, sent by {site.called(route.source)}"


def _basis(route: Route, site: Site) -> str:
    """Say on which ground a route's purpose rests, and where that is written."""
    if route.consent_default == "deny":
        but = ", but in an emergency (see that activity)" if site.break_glass else ""
        return (
            f"Consent of the patient (DPDP Act 2023, s.6); without one nothing is processed{but}."
        )
    stated = route.consent_terms.implicit.get(route.purpose)
    ground = _GROUNDS.get(stated.basis if stated else "", "no ground is stated in the site file")
    evidence = f"; written in: {stated.evidence}" if stated and stated.evidence else ""
    return (
        f"Permitted where the patient has not decided: {ground}{evidence}. Her own consent or "
        "refusal goes before it."
    )


def _categories(manifest: Manifest) -> tuple[str, ...]:
    """Name what a model reads of a patient."""
    told = [each.label for each in manifest.inputs]
    told += ["an image"] if manifest.image else []
    told += ["a clinical note"] if manifest.text else []
    return tuple(told)


def _model(line: RegisteredModel) -> ModelLine:
    card = line.card
    return ModelLine(
        reference=card.reference,
        title=card.title,
        intended_use=card.intended_use,
        not_for=card.not_for,
        manufacturer=card.manufacturer,
        device_class=card.device_class or "",
        licence=card.licence_number or "",
        is_demonstration=card.demonstration_only,
    )


def _recipients(site: Site) -> list[Recipient]:
    abroad = site.privacy.outside_india if site.privacy else {}
    sinks = {route.sink for route in site.routes}
    systems = [
        Recipient(
            name=site.called(name),
            kind="system",
            gets="results of models" if name in sinks else "nothing; it sends events",
            outside=abroad.get(name, ""),
        )
        for name in site.systems
    ]
    witnesses = [
        Recipient(name=name, kind="witness", gets="length and root of the audit log; no data")
        for name in site.witnesses
    ]
    return [*systems, *witnesses]
