"""`nadi assess`: which models this machine can serve, how many events an hour, with what settings.

Everything is measured here and now, each model in a process of its own on its golden cases, except
the events an hour: those are estimated (see `gateway.cli.capacity`). Ends with 0 when the machine
is enough for every model that was asked for, with 1 when it is not.
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn

from gateway.cli import capacity
from gateway.cli.capacity import BATCH, Fitness, Judgement, ModelCost
from gateway.cli.context import (
    EXIT_NOT_SO,
    EXIT_USAGE,
    AsJson,
    DataDir,
    err,
    explained,
    fail,
    out,
    print_json,
    settings_for,
    table,
)
from gateway.cli.machine import Machine, look
from gateway.cli.models_installed import installed
from gateway.cli.probe import Probe, probe
from models.measure import MeasuringFailed, measure
from models.pictures import ImageRefused
from models.registry import InstalledModel, ModelUnusable
from models.runtime import Runtime, needs_exact_int8

if TYPE_CHECKING:
    from models.film import Reading

_KIB, _MIB = 2**10, 2**20
_MB = 1_000_000
_GIB = 2**30
_BEDS = 100
#: Load for each processor from which on other work is felt in what is measured.
_QUIET = 0.5

app = typer.Typer(pretty_exceptions_show_locals=False)

_SIGNS = {
    Fitness.ENOUGH: "[green]✓[/]",
    Fitness.TIGHT: "[yellow]![/]",
    Fitness.NOT_ENOUGH: "[red]✗[/]",
}


@dataclasses.dataclass(frozen=True)
class Assessment:
    """What was measured, and what follows from it.

    Attributes:
        wanted: Events of the busiest hour that the machine should serve.
        load: Processes that ran or waited in the minute before it was measured.
        unmeasured: What the figures leave out, in sentences.
        is_assumed: Whether nobody said how large the hospital is.
    """

    machine: Machine
    probe: Probe
    costs: tuple[ModelCost, ...]
    wanted: int
    load: float = 0.0
    unmeasured: tuple[str, ...] = ()
    is_assumed: bool = False

    @property
    def is_busy(self) -> bool:
        """Whether other work took part of what was measured."""
        return self.load > _QUIET * self.machine.cores

    @property
    def models(self) -> list[Judgement]:
        """Whether each model can be served."""
        return [
            capacity.judge_model(self.machine, self.probe, cost, wanted=self.wanted)
            for cost in self.costs
        ]

    @property
    def parts(self) -> list[Judgement]:
        """Whether memory, disk and clock are enough."""
        return capacity.judge_machine(self.machine, self.costs, wanted=self.wanted)

    @property
    def is_enough(self) -> bool:
        """Whether nothing is too little."""
        found = [*self.models, *self.parts]
        return bool(self.costs) and all(j.fitness is not Fitness.NOT_ENOUGH for j in found)


@app.command()
@explained
def assess(
    *,
    names: Annotated[
        list[str] | None,
        typer.Option("--model", help="Name, or name@version; repeatable. All when absent."),
    ] = None,
    beds: Annotated[
        int | None, typer.Option("--beds", min=1, help="Size of the hospital.", show_default="100")
    ] = None,
    events_per_hour: Annotated[
        int | None,
        typer.Option("--events-per-hour", min=1, help="Events of the busiest hour, if known."),
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Measure this machine and every installed model; say what it can serve."""
    if beds is not None and events_per_hour is not None:
        fail("Give --beds or --events-per-hour, not both.", code=EXIT_USAGE)
    settings = settings_for(data_dir)
    models = _chosen(list(installed(settings).models), names or [])
    wanted = events_per_hour or capacity.rush_hour(beds or _BEDS)
    load = os.getloadavg()[0]
    measured = _measured(models, _folder(settings.data_dir), wanted)
    found = dataclasses.replace(
        measured,
        load=load,
        unmeasured=tuple(_unmeasured(models)),
        is_assumed=beds is None and events_per_hour is None,
    )
    if as_json:
        print_json(_as_json(found))
    else:
        _show(found)
    if not found.is_enough:
        raise typer.Exit(EXIT_NOT_SO)


def _chosen(models: list[InstalledModel], names: list[str]) -> list[InstalledModel]:
    if not names:
        return models
    chosen = [each for each in models if {each.name, each.reference} & set(names)]
    known = {name for each in chosen for name in (each.name, each.reference)}
    if missing := [name for name in names if name not in known]:
        fail(f"Not installed: {', '.join(missing)}. `nadi models list` shows what is.")
    return chosen


def _folder(data_dir: Path) -> Path:
    """The data folder, or the one in which it will be made."""
    wanted = data_dir.absolute()
    return next(each for each in (wanted, *wanted.parents) if each.is_dir())


def _measured(models: Sequence[InstalledModel], folder: Path, wanted: int) -> Assessment:
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("Looking at the machine …")
        machine = look(folder)
        progress.update(task, description="Timing what Nadi itself does …")
        speed = probe(machine.cores)
        costs = []
        for number, model in enumerate(models, 1):
            says = f"Measuring {model.reference} ({number} of {len(models)}) …"
            progress.update(task, description=says)
            costs.append(_cost(model))
    return Assessment(machine, speed, tuple(costs), wanted)


def _unmeasured(models: Sequence[InstalledModel]) -> Iterator[str]:
    """Say what the time of an answer leaves out: its cases are tensors already."""
    images = [each.reference for each in models if each.manifest.image]
    texts = [each.reference for each in models if each.manifest.text]
    if images:
        yield (
            f"{', '.join(images)}: the figures leave out receiving, unsealing and fetching the "
            "image, which grow with the size of its file."
        )
    if texts:
        yield f"{', '.join(texts)}: the figures leave out fetching the text and its tokens."


def _cost(model: InstalledModel) -> ModelCost:
    manifest = model.manifest
    try:
        Runtime(model)  # tries the golden cases
        sample, _ = model.golden_cases()
        found = measure(model, sample, exact_int8=needs_exact_int8())
        reading = _reading(model)
    except (ModelUnusable, MeasuringFailed, ImageRefused) as error:
        return ModelCost(name=model.reference, problem=str(error))
    return ModelCost(
        name=model.reference,
        weights_format=manifest.weights.format,
        size_bytes=found.size_bytes,
        load_ms=found.load_ms,
        memory_bytes=int(found.model_mb * _MB),
        alone_ms=found.p50_ms[1],
        batch_ms=found.p50_ms.get(BATCH, BATCH * found.p50_ms[1]),
        timeout_ms=manifest.limits.timeout_s * 1000,
        reading=reading,
    )


def _reading(model: InstalledModel) -> "Reading | None":
    from models.film import time_reading  # noqa: PLC0415 - it loads what reads DICOM

    return time_reading(model.manifest.image) if model.manifest.image else None


def _show(found: Assessment) -> None:
    machine = found.machine
    out.print(f"[bold]{escape(machine.cpu)}[/], {machine.cores} processors", end="")
    out.print(f", {machine.memory_bytes / _GIB:.1f} GiB of memory")
    out.print(
        f"[dim]Together the processors do the work of {found.probe.cores:.1f} that have a core "
        "each: measured, since threads and hosts share cores.[/]",
        soft_wrap=True,
    )
    if found.is_busy:
        out.print(
            f"[yellow]![/] The machine is busy (load {found.load:.1f} on {machine.cores} "
            "processors): it is measured slower than it is. Measure again when it is quiet.",
            soft_wrap=True,
        )
    exact = ", int8 runs with exact kernels" if machine.exact_int8 else ""
    out.print(f"[dim]{' '.join(machine.flags)}; kernels {machine.kernel_class}{exact}[/]")
    out.print(f"[dim]{escape(machine.system)}[/]\n")
    _judgements(found.parts)
    if found.costs:
        out.print()
        _figures(found.costs)
        _films(found.costs)
        out.print()
        _judgements(found.models)
        for says in found.unmeasured:
            out.print(f"[dim]{escape(says)}[/]", soft_wrap=True)
    else:
        out.print("[red]✗[/] No model is installed, so there is nothing to serve.")
    out.print("\nSettings for this machine:")
    for name, value in capacity.settings(machine, found.costs).items():
        out.print(f"  {name}={value}")
    words = "[green]This machine is enough[/]" if found.is_enough else "[red]Not enough[/]"
    out.print(f"\n{words} for {found.wanted:,} events in the busiest hour", end="")
    beds = f"{capacity.beds(found.wanted):,} beds"
    if found.is_assumed:
        beds += ", which is assumed; --beds says how many yours has"
    out.print(f" ({beds}); events an hour are an estimate.", soft_wrap=True)


def _figures(costs: Sequence[ModelCost]) -> None:
    listing = table(
        "MODEL", "FORMAT", "SIZE", "LOADS IN", "MEMORY", "ONE CASE", f"BATCH OF {BATCH}"
    )
    for cost in costs:
        if not cost.problem:
            listing.add_row(
                cost.name,
                cost.weights_format,
                _size(cost.size_bytes),
                f"{cost.load_ms:.0f} ms",
                f"{cost.memory_bytes / _MIB:.0f} MiB",
                f"{cost.alone_ms:.2f} ms",
                f"{cost.batch_ms:.2f} ms",
            )
    out.print(listing)


def _films(costs: Sequence[ModelCost]) -> None:
    """Say what reading an image takes, where a model reads one."""
    for cost in costs:
        if cost.reading is None:
            continue
        film, kinds = cost.reading, cost.reading.decode_ms.items()
        decoding = ", ".join(f"{kind.upper()} {ms:.0f} ms" for kind, ms in kinds)
        out.print(
            f"[dim]{escape(cost.name)} reads a film of {film.rows} x {film.columns} pixels on one "
            f"core: decoding {decoding}; checking and scaling {film.scale_ms:.0f} ms.[/]",
            soft_wrap=True,
        )


def _size(count: int) -> str:
    return f"{count / _MIB:.1f} MiB" if count >= _MIB else f"{count / _KIB:.1f} KiB"


def _judgements(found: Sequence[Judgement]) -> None:
    listing = table("", "", "")
    listing.show_header = False
    for each in found:
        listing.add_row(_SIGNS[each.fitness], each.about, escape(each.says))
    out.print(listing)


def _as_json(found: Assessment) -> dict[str, object]:
    return {
        "enough": found.is_enough,
        "wanted_events_per_hour": found.wanted,
        "is_assumed": found.is_assumed,
        "load": found.load,
        "is_busy": found.is_busy,
        "left_out": list(found.unmeasured),
        "machine": dataclasses.asdict(found.machine),
        "probe": dataclasses.asdict(found.probe),
        "parts": [dataclasses.asdict(each) for each in found.parts],
        "models": [
            {**dataclasses.asdict(cost), **dataclasses.asdict(judged)}
            for cost, judged in zip(found.costs, found.models, strict=True)
        ],
        "settings": capacity.settings(found.machine, found.costs),
    }
