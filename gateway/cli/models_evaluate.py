"""`nadi models evaluate`: whether a quantized model is still the model, on all int8 kernels."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.markup import escape

from gateway.cli.context import AsJson, err, explained, fail, out, print_json, table
from models.ceilings import Ceilings
from models.draft import FP32_FILE
from models.manifest import MANIFEST_FILE, ManifestError, parse
from models.registry import InstalledModel, ModelUnusable
from models.report_words import is_fitted_on, merged

if TYPE_CHECKING:
    from models.dataset import Dataset
    from models.evaluate import Report
    from models.gate import Comparison

_REPORT_FILE, _DATA_FILE = "evaluation.json", "evaluation.npz"
_SPLITS = ("test", "evaluation", "validation")
_COLUMNS = (
    "KERNELS",
    "GROUP",
    "N",
    "FP32 (95 %)",
    "THIS FORM (95 %)",
    "LOSS, AT MOST",
    "ALLOWED",
    "ECE",
    "FLIPS",
)
_HOW = {
    "run": "run on this machine",
    "emulated": "emulated",
    "proved": "the same as vnni, as the weights prove",
}

Folder = Annotated[Path, typer.Argument(help="The model's folder.")]
Data = Annotated[
    Path | None,
    typer.Option(
        help=".npz with an array for each input, and truth.", show_default=f"{_DATA_FILE} there"
    ),
]
Split = Annotated[
    str | None,
    typer.Option(help="The part of the data to judge on.", show_default=", else ".join(_SPLITS)),
]
Twin = Annotated[
    Path | None, typer.Option("--fp32", help="The fp32 network, where the manifest names none.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="Where the report goes.", show_default=f"{_REPORT_FILE} there"),
]

Force = Annotated[bool, typer.Option("--force", help="Overwrite a report that is there.")]


@explained
def evaluate(  # noqa: PLR0913 - one argument for each option
    folder: Folder,
    *,
    data: Data = None,
    split: Split = None,
    twin: Twin = None,
    out_file: Out = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Judge a quantized model against its fp32 network, and write the report for the package."""
    from models.dataset import DatasetUnusable, read_dataset  # noqa: PLC0415 - keep `--help` quick
    from models.emulation import EmulationImpossible  # noqa: PLC0415
    from models.evaluate import EvaluationImpossible  # noqa: PLC0415
    from models.evaluate import evaluate as judge  # noqa: PLC0415

    try:
        model = _folder(folder)
        target = out_file or folder / (model.manifest.evaluation or _REPORT_FILE)
        if target.exists() and not force:
            fail(f"{target}: already there. Name another with --out, or overwrite with --force.")
        cases = _part(read_dataset(data or _usual_data(folder)), split)
        report = judge(model, cases, twin=twin or _usual_twin(model))
        target.write_bytes(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2) + b"\n")
    except (ManifestError, ModelUnusable, DatasetUnusable) as error:
        fail(str(error))
    except (EmulationImpossible, EvaluationImpossible) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}.")
    if as_json:
        print_json(report.as_json())
    else:
        _show(report, target)
    for why in _no_report(report, model):
        err.print(f"[yellow]![/] {escape(why)}", soft_wrap=True)
    if not report.is_accepted:
        count = len(merged(report.reasons))
        fail(f"{report.model} is refused: {count} reason{'' if count == 1 else 's'}.")


def _folder(folder: Path) -> InstalledModel:
    """The model, which may not have its report and card yet.

    Raises:
        ManifestError: Its manifest is wrong.
        OSError: There is none.
    """
    path = folder / MANIFEST_FILE
    return InstalledModel(parse(path.read_text(encoding="utf-8"), file=str(path)), folder, {})


def _usual_twin(model: InstalledModel) -> Path | None:
    """Where `nadi models quantize` looks for the fp32 network of a manifest that names none."""
    usual = model.folder / FP32_FILE
    return usual if model.manifest.weights.reference is None and usual.is_file() else None


def _usual_data(folder: Path) -> Path:
    """Where the evaluation set is that nobody named."""
    usual = folder / _DATA_FILE
    if not usual.is_file():
        fail(f"{usual} is not there: put the evaluation set there, or name it with --data FILE.")
    return usual


def _part(data: "Dataset", split: str | None) -> "Dataset":
    """The part to judge on: the one that was named, or the first of the usual ones."""
    there = set(data.splits or ())
    if split is None and not there:
        return data
    usual = next((name for name in _SPLITS if name in there), None)
    if split is None and usual is None:
        fail(f"None of {', '.join(_SPLITS)} is among the splits; name one of "
             f"{', '.join(sorted(there))} with --split.")  # fmt: skip
    return data.of_split(split or usual or "")


def _no_report(report: "Report", model: InstalledModel) -> list[str]:
    """Why no package will be made with this report, however good its figures are."""
    wide = Ceilings().against(model.manifest)
    found = [f"No package is made with this manifest: {said}." for said in wide]
    if report.split and is_fitted_on(report.split):
        found.append(
            f"This is no report for a package: the split {report.split} is what the model was "
            "fitted to. Name one with --split that training and quantizing did not see."
        )
    return found


def _show(report: "Report", target: Path) -> None:
    out.print(f"[bold]{escape(report.model)}[/]  {report.gate.metric}, "
              f"{report.gate.confidence:.0%} confidence")  # fmt: skip
    listing = table(*_COLUMNS)
    proved = {setting for setting, how in report.methods.items() if how == "proved"}
    for each in report.verdict.comparisons:
        if each.setting not in proved:
            listing.add_row(*_row(each, report.gate.max_flips))
    out.print(listing)
    for setting, how in report.methods.items():
        gap = report.golden_gaps[setting]
        out.print(f"{setting}: {_HOW[how]}; golden cases within {gap:.2g}", soft_wrap=True)
    for small in report.verdict.unjudged:
        out.print(f"[yellow]?[/] {escape(small.group)} not judged: {small.reason}", soft_wrap=True)
    for reason in merged(report.reasons):
        out.print(f"[red]✗[/] {escape(reason)}", soft_wrap=True)
    if report.is_accepted:
        out.print("[green]✓[/] accepted")
    out.print(f"report: {target}", soft_wrap=True)


def _row(each: "Comparison", max_flips: float) -> list[str]:
    before, after = each.fp32_calibration_error, each.int8_calibration_error
    honest = "" if before is None or after is None else f"{before:.3f} → {after:.3f}"
    loss = f"{each.loss:+z.4f}, {each.loss_bound:+z.4f}"
    flips = f"{each.flips:.1%}"
    is_many = each.group == "all" and each.flips > max_flips
    return [
        each.setting,
        escape(each.group),
        str(each.cases),
        str(each.fp32),
        str(each.int8),
        loss if each.is_within else f"[red]{loss}[/]",
        f"{each.allowed:g}",
        honest,
        f"[red]{flips}[/]" if is_many else flips,
    ]
