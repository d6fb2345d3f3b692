"""`nadi models`: what is installed, read from the packages' manifests without loading a runtime."""

from dataclasses import dataclass
from typing import Annotated

import typer
from rich.markup import escape

from gateway.cli.context import AsJson, DataDir, err, explained, fail, noun, out, print_json, table
from gateway.cli.context import settings_for as settings
from gateway.cli.models_convert import convert
from gateway.cli.models_evaluate import evaluate
from gateway.cli.models_quantize import quantize
from gateway.settings import Settings
from models.manifest import MANIFEST_FILE, Input, ManifestError
from models.registry import REFERENCE_MODELS, InstalledModel, ModelUnusable, load
from models.versions import spellings

_DAY_H = 24

app = noun("The models that are installed, and what each needs and gives.")
app.command()(quantize)
app.command()(evaluate)
app.command()(convert)


@dataclass(frozen=True)
class Installed:
    """What is in the folder of models.

    Attributes:
        models: The packages that can be read.
        broken: Folder name and reason of those that can't.
    """

    models: tuple[InstalledModel, ...]
    broken: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Every way in which a route may name one: `name@1`, `name@1.0` and `name@1.0.0`."""
        return frozenset(name for model in self.models for name in _spellings(model))

    def find(self, name: str) -> InstalledModel | None:
        """Find a model by `name`, or by `name@version` as a route writes it."""
        return next((m for m in self.models if name == m.name or name in _spellings(m)), None)


def _spellings(model: InstalledModel) -> tuple[str, ...]:
    return spellings(model.name, model.manifest.version)


def installed(where: Settings) -> Installed:
    """Read the manifests of the installed models; one that is broken hides no other."""
    root = where.models_dir or REFERENCE_MODELS
    models: list[InstalledModel] = []
    broken: list[tuple[str, str]] = []
    for path in sorted(root.glob(f"*/{MANIFEST_FILE}")):
        try:
            models.append(load(path.parent))
        except (ManifestError, ModelUnusable) as error:
            broken.append((path.parent.name, str(error)))
    return Installed(tuple(models), tuple(broken))


@app.command(name="list")
@explained
def list_models(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the installed models."""
    found = installed(settings(data_dir))
    rows = [*map(_as_json, found.models), *(_broken_json(*each) for each in found.broken)]
    if as_json:
        print_json(rows)
        return
    listing = table("NAME", "VERSION", "FORMAT", "STATE", "DIGEST")
    for row in rows:
        colour = "green" if row["state"] == "usable" else "red"
        state = f"[{colour}]{row['state']}[/]"
        listing.add_row(row["name"], row["version"], row["format"], state, row["digest"][:16])
    out.print(listing if rows else "No model is installed.")
    for name, reason in found.broken:
        err.print(f"[red]✗[/] {escape(name)}: {escape(reason)}", soft_wrap=True)


@app.command()
@explained
def show(
    name: Annotated[str, typer.Argument(help="Name, or name@version.")],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what one model is for, what it needs and what it gives."""
    model = installed(settings(data_dir)).find(name)
    if model is None:
        fail(f"Model {name} is not installed.")
    if as_json:
        print_json({**_as_json(model), "manifest": model.manifest.model_dump(mode="json")})
        return
    _show(model)


def _show(model: InstalledModel) -> None:
    manifest = model.manifest
    out.print(f"[bold]{model.reference}[/]  {escape(manifest.title)}")
    out.print(f"[dim]{model.digest}[/]  {manifest.weights.format}  {state_of(model)}")
    out.print(f"\n{escape(manifest.intended_use)}\n")
    listing = table("INPUT", "UNIT", "AT MOST", "PLAUSIBLE", "IF MISSING", "CODES")
    for spec in manifest.inputs:
        listing.add_row(*_input_row(spec))
    out.print(listing)


def _input_row(spec: Input) -> list[str]:
    age = "" if spec.max_age_h is None else f"{spec.max_age_h / _DAY_H:g} days old"
    low_high = f"{spec.plausible[0]:g} to {spec.plausible[1]:g}"
    codes = ", ".join(code.code for code in spec.codes)
    return [spec.id, spec.unit, age, low_high, spec.missing, codes]


def state_of(model: InstalledModel) -> str:
    """Say whether the weights are those that the manifest was written for."""
    try:
        model.weights()
    except ModelUnusable:
        return "altered"
    return "usable"


def _as_json(model: InstalledModel) -> dict[str, str]:
    return {
        "name": model.name,
        "version": model.manifest.version,
        "digest": model.digest,
        "format": model.manifest.weights.format,
        "state": state_of(model),
    }


def _broken_json(folder: str, reason: str) -> dict[str, str]:
    return {
        "name": folder,
        "version": "",
        "digest": "",
        "format": "",
        "state": "unusable",
        "reason": reason,
    }
