"""`nadi codes suggest`: which codes arrived that no model understands, and what they may be.

It opens the Observations that were received, on record, and shows codes, names, units and counts
of them, never a value or a patient. Nothing is mapped by it: a person who knows the laboratory does
that in the site file (`codes`).
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.markup import escape

from adapters.site import Site
from gateway.cli.code_candidates import LOINC, Candidate, Unmapped, candidates
from gateway.cli.context import (
    AsJson,
    DataDir,
    Opened,
    explained,
    noun,
    opened,
    out,
    print_json,
    table,
)
from gateway.cli.models_installed import installed
from gateway.cli.patients import record_search
from gateway.core.event import is_made_by_ai
from models.manifest import Manifest

_PART = 500
_MOST_UNITS = 5
#: What is written into a file to be looked through is at least so likely.
_LIKELY = 0.6

Json = Mapping[str, Any]
Key = tuple[str, str]

app = noun("Local codes: what arrived that no model understands.")


@app.callback()
def codes() -> None:
    """Local codes: what arrived that no model understands."""


@app.command()
@explained
def suggest(
    *,
    most: Annotated[
        int, typer.Option(min=1, help="Look at so many Observations at most, of each system.")
    ] = 20_000,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", dir_okay=False, help="Write the likeliest here, for review."),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List the codes that arrived unmapped, how often, and which LOINC codes they may be."""
    with opened(data_dir) as nadi:
        site = nadi.site()
        manifests = _manifests(nadi, site)
        found = list(_unmapped(nadi, site, most))
    rows = [(each, candidates(each, manifests)) for each in found]
    if csv_file:
        _write(csv_file, rows)
    if as_json:
        print_json(
            [{**asdict(each), "candidates": [asdict(one) for one in ones]} for each, ones in rows]
        )
    else:
        _show(rows)


def _manifests(nadi: Opened, site: Site) -> list[Manifest]:
    """Give the manifests of the models that the site's routes use."""
    there = installed(nadi.settings)
    models = (there.find(name) for name in {route.model for route in site.routes})
    return [model.manifest for model in models if model is not None]


@dataclass
class _Seen:
    count: int = 0
    names: Counter[str] = field(default_factory=Counter)
    units: Counter[str] = field(default_factory=Counter)


def _unmapped(nadi: Opened, site: Site, most: int) -> Iterator[Unmapped]:
    seen: dict[Key, _Seen] = {}
    with nadi.store.write() as uow:
        record_search(uow, nadi.source(), None, "Observation?_elements=code")
    for system in site.of_patients:
        for content in _observations(nadi, system, most):
            if is_made_by_ai(content):
                continue  # its code is ours, or one that the site gave it
            for element in (content, *content.get("component", ())):
                _note(seen, element, site)
    for (system, code), each in sorted(seen.items(), key=lambda item: -item[1].count):
        units = tuple(unit for unit, _ in each.units.most_common(_MOST_UNITS))
        name = each.names.most_common(1)[0][0] if each.names else ""
        yield Unmapped(system, code, name, units, each.count)


def _observations(nadi: Opened, system: str, most: int) -> Iterator[Json]:
    after, left = "", most
    while left > 0:
        with nadi.store.read() as uow:
            part = uow.events.current_of(system, "Observation", after=after, limit=min(_PART, left))
            contents = [uow.events.content(each) for each in part if not each.is_erased]
        if not part:
            return
        after, left = part[-1].id, left - len(part)
        yield from (orjson.loads(content) for content in contents)


def _note(seen: dict[Key, _Seen], element: Json, site: Site) -> None:
    """Note the codes of an Observation or component, unless one of them is understood."""
    concept = element.get("code") or {}
    codings = [each for each in concept.get("coding", ()) if "code" in each]
    keys = [(each.get("system", ""), each["code"]) for each in codings]
    if any(system == LOINC or (system, code) in site.local_codes for system, code in keys):
        return
    for key, coding in zip(keys, codings, strict=True):
        each = seen.setdefault(key, _Seen())
        each.count += 1
        name = coding.get("display") or concept.get("text")
        each.names.update([name] if name else [])
        quantity = element.get("valueQuantity") or {}
        unit = quantity.get("code") or quantity.get("unit")
        each.units.update([unit] if unit else [])


def _write(file: Path, rows: Iterable[tuple[Unmapped, tuple[Candidate, ...]]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as opened_file:
        writer = csv.writer(opened_file)
        writer.writerow(["system", "code", "loinc"])
        for each, ones in rows:
            if ones and ones[0].likeness >= _LIKELY:
                writer.writerow([each.system, each.code, ones[0].loinc])


def _show(rows: list[tuple[Unmapped, tuple[Candidate, ...]]]) -> None:
    if not rows:
        out.print("Every code that arrived is understood, or none has arrived yet.")
        return
    listing = table("COUNT", "CODE", "SYSTEM", "NAME", "UNITS", "MAY BE")
    for each, ones in rows:
        may_be = "\n".join(f"{one.loinc} {one.label} ({one.likeness:.0%})" for one in ones)
        texts = (each.code, each.system, each.name, ", ".join(each.units), may_be or "-")
        listing.add_row(str(each.count), *map(escape, texts))
    out.print(listing)
    out.print(
        "Nothing was mapped. Look them through with the laboratory, then add them to `codes`."
    )
