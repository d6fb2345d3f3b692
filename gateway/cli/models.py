"""`nadi models`: what is installed and registered, packed and verified, imported and retired."""

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Annotated

import typer
from rich.markup import escape

from gateway.cli.context import (
    AsJson,
    DataDir,
    err,
    explained,
    fail,
    has_database,
    iso,
    moment,
    noun,
    opened_as,
    out,
    print_json,
    table,
)
from gateway.cli.context import settings_for as settings
from gateway.cli.models_convert import convert
from gateway.cli.models_evaluate import evaluate
from gateway.cli.models_quantize import quantize
from gateway.core.clock import utc_now
from gateway.core.model_register import RegisteredModel, Standing
from gateway.settings import Settings
from models.library import Broken, Library
from models.manifest import Input
from models.registry import REFERENCE_MODELS, InstalledModel, ModelUnusable
from models.versions import routable, spellings

_DAY_H = 24
_IN_SERVICE = Standing.ACTIVE.value
_UNREGISTERED = "unregistered"
_COLOURS = {_IN_SERVICE: "green", "retired": "yellow", _UNREGISTERED: "cyan"}

app = noun("The models: what is installed and registered, and what each needs and gives.")
app.command()(quantize)
app.command()(evaluate)
app.command()(convert)


@dataclass(frozen=True)
class Listed:
    """A model of the register, of a folder, or of both.

    Attributes:
        state: `active`, `retired`, `expired`, `not-yet-valid`, `unregistered`, `altered` (its files
            are not those its manifest was written for) or `unusable`.
        reason: Why, where that is not plain.
    """

    state: str
    reason: str = ""
    folder: str = ""
    model: InstalledModel | None = None
    line: RegisteredModel | None = None

    @property
    def name(self) -> str:
        """Its name; that of its folder when it can't be read."""
        if self.line:
            return self.line.card.name
        return self.model.name if self.model else self.folder

    @property
    def version(self) -> str:
        """Its version; empty when it can't be read."""
        if self.line:
            return self.line.card.version
        return self.model.manifest.version if self.model else ""

    @property
    def digest(self) -> str:
        """Its digest; empty when it can't be read."""
        if self.line:
            return self.line.card.digest
        return self.model.digest if self.model else ""

    @property
    def names(self) -> tuple[str, ...]:
        """Every way in which a person may name it."""
        return (self.name, *spellings(self.name, self.version), self.digest)


@dataclass(frozen=True)
class Installed:
    """What is on the register and in the folders of models."""

    listed: tuple[Listed, ...]

    @cached_property
    def models(self) -> tuple[InstalledModel, ...]:
        """Those that may run; where there is no register yet, all that can be read."""
        wanted = self._usable if self._has_register else self.listed
        return tuple(each.model for each in wanted if each.model)

    @property
    def names(self) -> frozenset[str]:
        """Every way in which a route may name one: `name@1`, `name@1.0` and `name@1.0.0`."""
        return frozenset(self._routable)

    def find(self, name: str) -> InstalledModel | None:
        """Find the model that a route means by `name@version`, or the newest of a bare name."""
        digest = self._routable.get(name) or self._newest.get(name)
        return next((model for model in self.models if model.digest == digest), None)

    def search(self, name: str) -> list[Listed]:
        """Find what a person means by `name`, `name@version` or the beginning of a digest."""
        exact = [each for each in self.listed if name in each.names]
        return exact or [each for each in self.listed if each.digest.startswith(name)]

    @cached_property
    def _usable(self) -> tuple[Listed, ...]:
        states = {_IN_SERVICE} if self._has_register else {_IN_SERVICE, _UNREGISTERED}
        return tuple(each for each in self.listed if each.state in states)

    @property
    def _has_register(self) -> bool:
        return any(each.line for each in self.listed)

    @cached_property
    def _routable(self) -> dict[str, str]:
        return routable((each.name, each.version, each.digest) for each in self._usable)

    @cached_property
    def _newest(self) -> dict[str, str]:
        by_version = routable((each.name, each.version, each.digest) for each in self._usable)
        return {spelling.partition("@")[0]: digest for spelling, digest in by_version.items()}


def library(where: Settings) -> Library:
    """The folders of models of an installation."""
    return Library(where.models_dir or REFERENCE_MODELS, where.imported_models_dir)


def installed(where: Settings) -> Installed:
    """Look at the register, where there is one, and at the folders.

    Raises:
        GatewayError: There is a register, but it can't be read.
    """
    lines: list[RegisteredModel] = []
    if has_database(where):
        with opened_as(where) as nadi, nadi.store.read() as uow:
            lines = uow.models.lines()
    return matched(lines, *library(where).all(), day=utc_now().date())


def matched(
    lines: list[RegisteredModel],
    models: list[InstalledModel],
    broken: list[Broken],
    *,
    day: date,
) -> Installed:
    """Put the lines of the register and the folders together."""
    on_disk = {model.digest: model for model in models}
    altered = {each.name: each for each in broken}
    registered = [
        _registered(line, on_disk.get(line.card.digest), altered.get(line.card.digest), day)
        for line in lines
    ]
    known = {line.card.digest for line in lines}
    rest = [_unregistered(model) for digest, model in on_disk.items() if digest not in known]
    rest += [
        Listed("altered" if each.is_altered else "unusable", each.reason, each.name)
        for each in broken
        if each.name not in known
    ]
    return Installed((*registered, *rest))


def _registered(
    line: RegisteredModel, model: InstalledModel | None, broken: Broken | None, day: date
) -> Listed:
    standing = line.standing(day)
    if standing is not Standing.ACTIVE:
        return Listed(standing.value, line.reason, model=model, line=line)
    if broken:
        return Listed("altered" if broken.is_altered else "unusable", broken.reason, line=line)
    if model is None:
        return Listed("unusable", "Its files are not on this machine.", line=line)
    return Listed(_IN_SERVICE, model=model, line=line)


def _unregistered(model: InstalledModel) -> Listed:
    try:
        model.insist_on_files()
    except ModelUnusable as error:
        return Listed("altered", str(error), model=model)
    return Listed(_UNREGISTERED, "`nadi prepare` registers what came with Nadi.", model=model)


@app.command(name="list")
@explained
def list_models(
    everything: Annotated[
        bool, typer.Option("--all", help="Retired ones too, which --json always gives.")
    ] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List the models, as the register has them and as they lie in their folders."""
    found = installed(settings(data_dir)).listed
    if as_json:
        print_json([as_listed(each) for each in found])
        return
    shown = [each for each in found if everything or each.state != Standing.RETIRED]
    listing = table("NAME", "VERSION", "FORMAT", "STATE", "SIGNER", "DIGEST")
    for each in shown:
        state = f"[{_COLOURS.get(each.state, 'red')}]{each.state}[/]"
        signer = escape(each.line.card.signer) if each.line else ""
        listing.add_row(
            escape(each.name), each.version, format_of(each), state, signer, each.digest[:16]
        )
    out.print(listing if shown else "No model is installed.")
    for each in shown:
        if each.state in {"altered", "unusable"}:
            err.print(f"[red]✗[/] {escape(f'{each.name}: {each.reason}')}", soft_wrap=True)


@app.command()
@explained
def show(
    name: Annotated[str, typer.Argument(help="Name, name@version, or a digest.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what one model is for, who answers for it, what it needs and how good it is."""
    found = installed(settings(data_dir))
    candidates = found.search(name)
    if not candidates:
        fail(f"There is no model {name}; `nadi models list` shows those that are.")
    running = found.find(name)
    # What runs first; of the others, what was registered last.
    in_use = (each for each in candidates if running is not None and each.model is running)
    chosen = next(in_use, candidates[-1])
    if as_json:
        manifest = chosen.model.manifest.model_dump(mode="json") if chosen.model else None
        print_json({**as_listed(chosen), "manifest": manifest})
        return
    _show(chosen)


def _show(each: Listed) -> None:
    colour = _COLOURS.get(each.state, "red")
    out.print(f"[bold]{each.name}@{each.version}[/]  [{colour}]{each.state}[/]  {format_of(each)}")
    out.print(f"[dim]{each.digest}[/]")
    if each.reason:
        out.print(escape(each.reason), soft_wrap=True)
    for what, said in facts(each):
        out.print(f"[bold]{what}:[/] {escape(said)}", soft_wrap=True)
    if each.model is None:
        return
    _show_inputs(each.model.manifest.inputs)
    _show_metrics(each.model)


def facts(each: Listed) -> list[tuple[str, str]]:
    """What people have to know of a model before they use it."""
    if each.line is None:
        return [("Intended use", each.model.manifest.intended_use)] if each.model else []
    card, line = each.line.card, each.line
    return [
        ("Title", card.title),
        ("Intended use", card.intended_use),
        ("Not for", card.not_for),
        *(("Contraindication", said) for said in card.contraindications),
        ("Manufacturer", card.manufacturer),
        ("Regulatory", regulatory(each.line)),
        ("Valid", validity(each.line)),
        ("Signed by", f"{card.signer} {card.signer_key}".strip()),
        ("Registered", f"{moment(line.registered_ms)} by {line.registered_by}"),
        *(
            [("Retired", f"{moment(line.retired_ms)} by {line.retired_by}")]
            if line.retired_ms
            else []
        ),
    ]


def regulatory(line: RegisteredModel) -> str:
    """What an authority says of it, in words."""
    card = line.card
    said = "Demonstration only: no medical device." if card.demonstration_only else ""
    device = f"class {card.device_class} in {card.jurisdiction}" if card.device_class else ""
    parts = (
        device,
        f"licence {card.licence_number}" if card.licence_number else "",
        f"change protocol {card.change_protocol}" if card.change_protocol else "",
    )
    named = ", ".join(part for part in parts if part)
    return " ".join(part for part in (said, named) if part) or "nothing is said"


def validity(line: RegisteredModel) -> str:
    """On which days it may run, in words."""
    first, last = line.card.not_before, line.card.not_after
    parts = (f"from {first}" if first else "", f"until {last}" if last else "")
    return " ".join(part for part in parts if part) or "without end"


def _show_inputs(inputs: tuple[Input, ...]) -> None:
    if not inputs:
        return
    listing = table("INPUT", "UNIT", "AT MOST", "PLAUSIBLE", "IF MISSING", "CODES")
    for spec in inputs:
        listing.add_row(*_input_row(spec))
    out.print(listing)


def _input_row(spec: Input) -> list[str]:
    age = "" if spec.max_age_h is None else f"{spec.max_age_h / _DAY_H:g} days old"
    low_high = f"{spec.plausible[0]:g} to {spec.plausible[1]:g}"
    codes = ", ".join(code.code for code in spec.codes)
    return [spec.id, spec.unit, age, low_high, spec.missing, codes]


def _show_metrics(model: InstalledModel) -> None:
    manifest = model.manifest
    if manifest.metrics:
        listing = table("METRIC", "VALUE", "95 % INTERVAL", "COHORT")
        for each in manifest.metrics:
            interval = "" if each.ci95 is None else f"{each.ci95[0]:.4f} to {each.ci95[1]:.4f}"
            listing.add_row(each.name, f"{each.value:.4f}", interval, escape(each.cohort))
        out.print(listing)
    out.print(f"[bold]Card:[/] {escape(str(model.folder / manifest.card))}", soft_wrap=True)


def format_of(each: Listed) -> str:
    """What its weights are; empty when its files are not here."""
    return each.model.manifest.weights.format if each.model else ""


def as_listed(each: Listed) -> dict[str, object]:
    """Give a model for scripts."""
    base: dict[str, object] = {
        "name": each.name,
        "version": each.version,
        "digest": each.digest,
        "format": format_of(each),
        "state": each.state,
        "reason": each.reason,
    }
    return {**base, **(as_registered(each.line) if each.line else {})}


def as_registered(line: RegisteredModel) -> dict[str, object]:
    """Give a line of the register for scripts."""
    card = line.card
    names = ("title", "intended_use", "not_for", "contraindications", "demonstration_only")
    more = ("manufacturer", "jurisdiction", "device_class", "licence_number", "change_protocol")
    return {
        **{name: getattr(card, name) for name in (*names, *more)},
        "not_before": card.not_before,
        "not_after": card.not_after,
        "signer": card.signer,
        "signer_key": card.signer_key,
        "registered_at": iso(line.registered_ms),
        "registered_by": line.registered_by,
        "retired_at": iso(line.retired_ms) if line.retired_ms else None,
        "retired_by": line.retired_by,
    }
