"""`nadi route explain`: try a route on a real resource; nothing is sent or stored."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import orjson
import typer
from rich.markup import escape
from rich.syntax import Syntax

from adapters.hl7v2.problems import Hl7Problem
from adapters.site import Site, load_site
from gateway.api.arrivals import base_url_of
from gateway.cli.context import (
    EXIT_NOT_SO,
    AsJson,
    DataDir,
    Opened,
    err,
    explained,
    fail,
    noun,
    opened,
    out,
    print_json,
    settings_for,
    table,
)
from gateway.cli.explanation import Explainer, Explanation
from gateway.cli.models_installed import installed
from gateway.cli.patients import record_search
from gateway.cli.sample import Sample, is_dicom, read_file, read_sample
from gateway.cli.sample_cds import Answer, Called, is_call, read_call, show_answer
from gateway.cli.write_back_view import show_way, way_for
from gateway.core.errors import ContentError
from gateway.core.fhir import ParseLimits
from gateway.core.routing import Route
from gateway.settings import Settings
from models.explained import Explained, NotExplained
from models.registry import InstalledModel

app = noun("The routes: which events run which model, and what one makes of a sample.")

_SAMPLE = "A resource, Bundle, HL7 v2 message, DICOM file or CDS Hooks request."
_STATUS = {"present": "green", "imputed": "yellow", "stale": "yellow", "missing": "yellow"}


@app.command(name="list")
@explained
def list_routes(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the routes in force."""
    with opened(data_dir) as nadi:
        routes = nadi.site().routes
    if as_json:
        print_json([_route_json(route) for route in routes])
        return
    listing = table("ROUTE", "SOURCE", "MATCH", "PURPOSE", "MODEL", "SINK")
    for route in routes:
        match = escape(" ".join(route.match.split()))
        listing.add_row(route.name, route.source, match, route.purpose, route.model, route.sink)
    out.print(listing)


@app.command()
@explained
def explain(  # noqa: PLR0913 (one parameter per option)
    *,
    route: Annotated[str, typer.Option("--route", help="Name of the route.")],
    sample: Annotated[
        Path,
        typer.Option("--sample", exists=True, dir_okay=False, help=_SAMPLE),
    ],
    site_file: Annotated[
        Path | None,
        typer.Option("--site", exists=True, dir_okay=False, help="Instead of the site in force."),
    ] = None,
    map_file: Annotated[
        Path | None,
        typer.Option("--map", dir_okay=False, help="Write the occlusion map here, as a PNG."),
    ] = None,
    feed: Annotated[
        str | None,
        typer.Option("--feed", help="Of a message or image, where there are several feeds."),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what a route would make of a sample: match, consent, features, result."""
    with _installation(data_dir, needed=site_file is None) as nadi:
        site = _site(nadi, site_file)
        chosen = _route(site, route)
        settings = nadi.settings if nadi else settings_for(data_dir)
        model = installed(settings).find(chosen.model)
        raw = _converted(sample, feed, site, chosen, nadi)
        called = _called(sample, raw, (site, chosen, model), settings)
        read = called.sample if called else _read(sample, raw, site, chosen)
        store = nadi.store if nadi else None
        found = Explainer(site, chosen, model, store).explain(read)
        if nadi:
            _audit(nadi, chosen, found)
    if map_file:
        _write_map(map_file, found)
    answer = called.answered(found) if called else None
    _tell((site, chosen), read, found, answer, as_json=as_json)
    if answer and not as_json:
        show_answer(sample, answer)
    if (answer and answer.is_refused) or not any(each.why_not is None for each in found):
        raise typer.Exit(EXIT_NOT_SO)


def _tell(
    where: tuple[Site, Route],
    read: Sample,
    found: list[Explanation],
    answer: Answer | None,
    *,
    as_json: bool,
) -> None:
    """Print what was found, and how its results would go to the EHR."""
    site, route = where
    results = [each.result for each in found if each.result is not None]
    kind = str(results[0]["resourceType"]) if results else "Observation"
    is_matched = any(each.why_not is None for each in found)
    way = way_for(site, route, kind) if is_matched else None
    if not as_json:
        if found or not answer:
            _show(route, read, found)
        if way:
            show_way(way)
        return
    print_json(
        {
            "route": route.name,
            "problems": list(read.problems),
            "resources": [_as_json(each) for each in found],
            "write_back": way.as_json() if way else None,
            "answer": answer.as_json() if answer else None,
        }
    )


@contextmanager
def _installation(data_dir: Path | None, *, needed: bool) -> Iterator[Opened | None]:
    """Open the installation, if there is one or one is needed."""
    settings = settings_for(data_dir)
    if not needed and settings.database_url is None and not settings.data_dir.exists():
        yield None
        return
    with opened(data_dir) as nadi:
        yield nadi


def _site(nadi: Opened | None, file: Path | None) -> Site:
    if file is not None:
        return load_site(file.read_text("utf-8"), source=str(file), folder=file.parent)
    return nadi.site() if nadi else Site()


def _called(
    file: Path, raw: bytes, asked: tuple[Site, Route, InstalledModel | None], settings: Settings
) -> Called | None:
    """Read a call of a CDS service; None where the sample is none."""
    limits = ParseLimits(settings.max_depth, settings.max_entries)
    site, route, model = asked
    try:
        return read_call(raw, site, route, model, limits) if is_call(raw, limits) else None
    except ContentError as error:
        _refuse(file, error)


def _read(file: Path, raw: bytes, site: Site, route: Route) -> Sample:
    try:
        return read_sample(raw, base_url=base_url_of(site, route.source))
    except ContentError as error:
        _refuse(file, error)


def _refuse(file: Path, error: ContentError) -> NoReturn:
    for issue in error.issues:
        place = f" {issue.expression}:" if issue.expression else ""
        err.print(f"[red]✗[/] {escape(f'{file}:{place} {issue.diagnostics}')}", soft_wrap=True)
    raise typer.Exit(EXIT_NOT_SO) from None


def _converted(
    file: Path, feed: str | None, site: Site, route: Route, nadi: Opened | None
) -> bytes:
    """Give a sample as FHIR; what else there is as the listener of its feed would convert it."""
    from gateway.cli import sample_hl7v2 as hl7v2  # noqa: PLC0415 - needed for such a sample only

    raw = read_file(file)
    if is_dicom(raw):
        return _study_of(file, raw, (site, route, feed), nadi)
    if not hl7v2.is_hl7v2(raw):
        return raw
    chosen = hl7v2.feed_for(site, route.source, feed)
    try:
        bundle, notes = hl7v2.bundle_of(raw, chosen, site, nadi)
    except Hl7Problem as error:
        _refuse(file, error)
    for note in notes:
        place = f"{note.place.segment}[{note.place.sequence}]-{note.place.field}"
        err.print(f"[yellow]![/] {escape(f'{file}: {place}: {note.says}')}", soft_wrap=True)
    return bundle


def _study_of(
    file: Path, raw: bytes, where: tuple[Site, Route, str | None], nadi: Opened | None
) -> bytes:
    from gateway.cli import sample_dicom  # noqa: PLC0415 - needed for such a sample only

    site, route, name = where
    feed = sample_dicom.feed_for(site, route.source, name)
    try:
        return sample_dicom.bundle_of_file(raw, feed, site, nadi)
    except ContentError as error:
        _refuse(file, error)


def _route(site: Site, name: str) -> Route:
    found = site.route(name)
    if found is None:
        known = ", ".join(each.name for each in site.routes) or "none"
        fail(f"There is no route '{name}' in the site file; known: {known}.")
    return found


def _audit(nadi: Opened, route: Route, found: list[Explanation]) -> None:
    """Put on record whose data was looked at, if anything of theirs was on record."""
    source = nadi.source()
    patients = {each.patient for each in found if each.patient}
    with nadi.store.write() as uow:
        for patient in sorted(patients):
            key = nadi.store.sealer.patient_key(route.source, patient)
            record_search(uow, source, key, f"Observation?patient={key}")


def _route_json(route: Route) -> dict[str, object]:
    names = ("name", "source", "match", "resource_type", "model", "purpose", "consent_default")
    more = ("sink", "with_provenance", "report_refusals", "explain")
    return {name: getattr(route, name) for name in (*names, *more)}


def _as_json(each: Explanation) -> dict[str, object]:
    consent = each.consent
    return {
        "resource": each.name,
        "matches": each.why_not is None,
        "why_not": each.why_not,
        "patient": each.patient,
        "consent": None
        if consent is None
        else {
            "permitted": consent.is_permitted,
            "purpose": consent.purpose,
            "basis": consent.basis,
            "reasons": list(consent.reasons),
        },
        "features": [
            {
                "id": given.id,
                "value": given.value,
                "unit": given.unit,
                "status": given.status,
                "effective": given.effective.isoformat() if given.effective else None,
                "sources": list(given.sources),
                "note": given.note,
            }
            for given in each.inputs
        ],
        "refusal": None
        if each.refusal is None
        else {"reason": each.refusal.reason, "text": each.refusal.text},
        "would_ask_ehr_for": list(each.not_here),
        "result": each.result,
        "explained": _explained_json(each.explained),
        "notes": each.notes,
    }


def _write_map(file: Path, found: list[Explanation]) -> None:
    drawings = (each.explained.drawing for each in found if each.explained)
    drawing = next((each for each in drawings if each), None)
    if drawing is None:
        fail("There is no map: the route needs `explain: true` and a model that reads images.")
    file.write_bytes(drawing.png)


def _explained_json(found: Explained | NotExplained | None) -> dict[str, object] | None:
    if found is None or isinstance(found, NotExplained):
        return None if found is None else {"why_not": found.why}
    return {
        "of": found.subject or found.output.name,
        "effects": [{"part": each.part, "change": each.change} for each in found.effects],
        "all_hidden": found.total,
        "adds_up": found.is_additive,
        "not_hidden": list(found.kept),
        "has_map": found.drawing is not None,
    }


def _show(route: Route, sample: Sample, found: list[Explanation]) -> None:
    out.print(f"Route [bold]{route.name}[/] looks for [cyan]{escape(_one_line(route.match))}[/]")
    for problem in sample.problems:
        out.print(f"[red]✗[/] not valid, so it would be refused: {escape(problem)}")
    for why, names in _grouped(found).items():
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")  # noqa: PLR2004 - enough to recognise them
        out.print(f"[dim]-[/] {escape(shown)}: no match, {escape(why)}")
    matched = [each for each in found if each.why_not is None]
    for each in matched:
        _show_match(each)
    if not matched:
        out.print("[yellow]✗ Nothing in this sample starts the route.[/]")
    else:
        out.print("[dim]Nothing was sent or stored.[/]")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _grouped(found: list[Explanation]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for each in found:
        if each.why_not is not None:
            groups.setdefault(each.why_not, []).append(each.name)
    return groups


def _show_match(each: Explanation) -> None:
    out.print(f"\n[green]✓[/] [bold]{escape(each.name)}[/] matches")
    for note in each.notes:
        out.print(f"  [yellow]![/] {escape(note)}")
    if each.consent is not None:
        verdict = "[green]permitted[/]" if each.consent.is_permitted else "[red]denied[/]"
        out.print(f"  Consent for {escape(each.consent.purpose)}: {verdict}")
        for reason in each.consent.reasons:
            out.print(f"    • {escape(reason)}", soft_wrap=True)
    if each.refusal is not None:
        refused = f"{each.refusal.reason}: {each.refusal.text}"
        out.print(f"  [yellow]The model would not be asked:[/] {escape(refused)}")
    _show_inputs(each)
    if each.not_here:
        out.print(f"  [dim]The EHR would be asked for:[/] {escape(', '.join(each.not_here))}")
    _show_result(each)


def _show_inputs(each: Explanation) -> None:
    if not each.inputs:
        return
    listing = table("INPUT", "VALUE", "UNIT", "STATUS", "FROM")
    for given in each.inputs:
        value = escape(given.note) if given.value is None else f"{given.value:.4g}"
        status = f"[{_STATUS[given.status]}]{given.status}[/]"
        sources = escape(", ".join(given.sources))
        listing.add_row(given.id, value, escape(given.unit), status, sources)
    out.print(listing)


def _show_result(each: Explanation) -> None:
    if each.result is None:
        return
    if each.explained is not None:
        out.print(f"  [cyan]{escape(each.explained.describe())}[/]", soft_wrap=True)
    is_permitted = each.consent is None or each.consent.is_permitted
    words = "would be written" if is_permitted else "would be written if the patient consented"
    out.print(f"  This {each.result['resourceType']} {words}:")
    text = _pretty(each.result)
    out.print(Syntax(text, "json", background_color="default", word_wrap=True))


def _pretty(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
