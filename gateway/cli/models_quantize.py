"""`nadi models quantize`: from an fp32 network to the fastest form that is still it."""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, get_args

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gateway.cli.context import EXIT_USAGE, AsJson, err, explained, fail, print_json
from gateway.cli.models_quantize_view import conclude, show
from models.manifest import GateMetric, ManifestError

if TYPE_CHECKING:
    from models.subject import Named, Subject
    from models.trial_plot import ImageFormat
    from models.trials import Trial

_ALL = "all"
_MB = 1e6
_PICTURES: dict[str, "ImageFormat"] = {".png": "png", ".svg": "svg"}
_METRICS = get_args(GateMetric)

Folder = Annotated[
    Path | None, typer.Argument(help="Model folder; its manifest may be unfinished.")
]
Model = Annotated[Path | None, typer.Option(help="The fp32 ONNX file, where not in the folder.")]
Data = Annotated[
    Path | None,
    typer.Option(
        help=".npz with an array for each input, and truth.", show_default="evaluation.npz"
    ),
]
Calibration = Annotated[Path | None, typer.Option(help=".npz of inputs, for calibration alone.")]
Metric = Annotated[str | None, typer.Option(help=f"One of {', '.join(_METRICS)}.")]
MaxLoss = Annotated[float | None, typer.Option(help="Largest accepted loss of the metric.")]
Output = Annotated[str | None, typer.Option(help="The graph's output that is the answer.")]
Try = Annotated[str, typer.Option("--try", help="all, or recipes with commas between.")]
Qat = Annotated[Path | None, typer.Option(help="A file from quantization-aware training to try.")]
Budget = Annotated[int, typer.Option(min=0, help="Networks that a scan for nodes may try.")]
Out = Annotated[Path | None, typer.Option("--out", help="Where the chosen network goes.")]
Report = Annotated[Path | None, typer.Option(help="Where the JSON report goes.")]
Picture = Annotated[Path | None, typer.Option(help="Draw the choice as .png or .svg.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")]


@dataclass(frozen=True)
class _Targets:
    """Where the results go.

    Attributes:
        weights: The chosen network.
        report: What was tried, as JSON.
        picture: Accuracy against latency, where it is wanted.
    """

    weights: Path
    report: Path
    picture: Path | None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        return tuple(path for path in (self.weights, self.report, self.picture) if path)


@explained
def quantize(  # noqa: PLR0913 (one parameter per option)
    folder: Folder = None,
    *,
    model: Model = None,
    data: Data = None,
    calibration: Calibration = None,
    metric: Metric = None,
    max_loss: MaxLoss = None,
    output: Output = None,
    tries: Try = _ALL,
    qat: Qat = None,
    budget: Budget = 64,
    out_file: Out = None,
    report: Report = None,
    picture: Picture = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Quantize a network in every way, measure each here, keep the best that the gate accepts."""
    with _in_words():
        from models.subject import Named, read_subject  # noqa: PLC0415 - keep `--help` quick
        from models.trials import choose, try_all  # noqa: PLC0415

        named = Named(folder, model, data, calibration, _gate(metric, max_loss), output)
        names = _recipes(tries)
        targets = _targets(named, out_file, report, picture)
        _insist_on_room(targets, named, force=force)
        trained = qat.read_bytes() if qat else None
        subject = read_subject(named)
        with _Bars() as bars:
            trials = try_all(subject, names, bars, trained=trained, budget=budget)
        chosen = choose(trials)
        told = _write(targets, subject, trials, chosen)
    if as_json:
        print_json(told)
    else:
        show(trials, chosen)
    if chosen is None:
        fail(f"No form passes, so none was kept. {targets.report} says why.")
    if not as_json:
        conclude(trials, chosen, targets.weights)


def _gate(metric: str | None, max_loss: float | None) -> dict[str, Any]:
    if metric is not None and metric not in _METRICS:
        fail(f"--metric: '{metric}' is none of {', '.join(_METRICS)}.", code=EXIT_USAGE)
    if max_loss is not None and max_loss <= 0:
        fail("--max-loss: must be above 0, for example 0.005.", code=EXIT_USAGE)
    given = {"metric": metric, "max_loss": max_loss}
    return {key: value for key, value in given.items() if value is not None}


def _recipes(tries: str) -> tuple[str, ...]:
    from models.candidates import RECIPES  # noqa: PLC0415 - keep `--help` quick

    wanted = set(RECIPES) if tries == _ALL else {each.strip() for each in tries.split(",")}
    if unknown := sorted(wanted - set(RECIPES)):
        known = ", ".join((_ALL, *RECIPES))
        fail(f"--try: '{', '.join(unknown)}' is none of {known}.", code=EXIT_USAGE)
    return tuple(name for name in RECIPES if name in wanted)


def _targets(
    named: "Named", out_file: Path | None, report: Path | None, picture: Path | None
) -> _Targets:
    weights = out_file or (named.draft.weights_path if named.draft else None)
    if weights is None:
        fp32 = named.fp32_path()
        weights = fp32.with_name(f"{fp32.stem}.quantized.onnx")
    return _Targets(
        weights, report or weights.with_name(f"{weights.stem}.quantization.json"), picture
    )


def _insist_on_room(targets: _Targets, named: "Named", *, force: bool) -> None:
    """Before minutes of work: may everything be written?"""
    if targets.weights.resolve() == named.fp32_path().resolve():
        fail(f"{targets.weights} is the fp32 network itself; name another file with --out.")
    there = [str(path) for path in targets.paths if path.exists()]
    if there and not force:
        fail(f"{', '.join(there)}: already there. Name others, or overwrite with --force.")
    for path in targets.paths:
        if not path.parent.is_dir():
            fail(f"{path}: there is no folder {path.parent}.")
    if targets.picture and targets.picture.suffix not in _PICTURES:
        fail("--picture: the name must end in .png or .svg.", code=EXIT_USAGE)
    if targets.picture and importlib.util.find_spec("matplotlib") is None:
        fail("--picture needs matplotlib: install Nadi with its extra, as nadi[quantize].")


@contextmanager
def _in_words() -> Iterator[None]:
    """End with the sentence of an error that the toolkit can explain."""
    from models.dataset import DatasetUnusable  # noqa: PLC0415 - keep `--help` quick
    from models.draft import NotNamed  # noqa: PLC0415
    from models.quantize import NotQuantizable  # noqa: PLC0415
    from models.registry import ModelUnusable  # noqa: PLC0415

    try:
        yield
    except (DatasetUnusable, ManifestError, ModelUnusable, NotNamed, NotQuantizable) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}.")


class _Bars:
    """Shows on standard error what is being done, for how long, and how far it is."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=err,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, what: str) -> None:
        """A piece of work begins; the one before it is done."""
        self._progress.reset(self._task, description=what, total=None)
        if not err.is_terminal:  # a log has no bars
            err.print(what)

    def advance(self, done: int, of: int) -> None:
        """So much of it is done."""
        self._progress.update(self._task, completed=done, total=of)


def _write(
    targets: _Targets, subject: "Subject", trials: "Sequence[Trial]", chosen: "Trial | None"
) -> dict[str, Any]:
    import orjson  # noqa: PLC0415 - as above

    from models.trial_report import as_json  # noqa: PLC0415

    told = as_json(subject, trials, chosen)
    targets.report.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))
    if chosen and chosen.candidate:
        targets.weights.write_bytes(chosen.candidate.model)
    if targets.picture and any(each.is_known for each in trials):
        from models.trial_plot import draw  # noqa: PLC0415

        title = f"{subject.name}: {len(subject.cases.truth)} cases"
        kind = _PICTURES[targets.picture.suffix]
        targets.picture.write_bytes(draw(trials, chosen, subject.gate, title=title, kind=kind))
    return told
