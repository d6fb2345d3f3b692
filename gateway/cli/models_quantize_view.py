"""What `nadi models quantize` shows: a table of the candidates, and what was kept and why."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from gateway.cli.context import out, table

if TYPE_CHECKING:
    from models.measure import Measurement
    from models.trials import Trial

_MB = 1e6
_MOST_REASONS = 2
_AS_FAST = 0.05
_COLUMNS = (
    "",
    "CANDIDATE",
    "MB",
    "LOAD MS",
    "RAM MB",
    "P50 1",
    "P50 16",
    "METRIC (95 %)",
    "LOSS, AT MOST",
    "GATE",
)
_LEGEND = (
    "Two figures: {settings}. P50: median ms of a run of 1 and of 16 cases on one thread. RAM: "
    "what the model adds to a process. LOSS: against fp32, and the bound that the gate judges."
)

_LINES = """  [weights]
  file = "{}"
  format = "{}"
  sha256 = "{}\""""


def show(trials: "Sequence[Trial]", chosen: "Trial | None") -> None:
    """Print the candidates, and why some are refused.

    Args:
        trials: What was tried.
        chosen: What is kept.
    """
    from models.trials import KERNELS  # noqa: PLC0415 - keep `--help` quick

    listing = table(*_COLUMNS)
    for trial in trials:
        listing.add_row("[green]★[/]" if trial is chosen else "", trial.name, *_cells(trial))
    out.print(listing)
    out.print(f"[dim]{_LEGEND.format(settings=' / '.join(KERNELS))}[/]", soft_wrap=True)
    for trial in trials:
        reasons = _reasons(trial)
        for reason in reasons[:_MOST_REASONS]:
            sign = "[red]✗[/]" if trial.candidate else "[dim]-[/]"
            out.print(f"{sign} {trial.name}: {escape(reason)}", soft_wrap=True)
        if len(reasons) > _MOST_REASONS:
            out.print(f"  and {len(reasons) - _MOST_REASONS} more in the report")


def conclude(trials: "Sequence[Trial]", chosen: "Trial", written: Path) -> None:
    """Say which is kept, what that means beside fp32, and what belongs into the manifest.

    Args:
        trials: What was tried, the fp32 network first.
        chosen: What is kept.
        written: Where it was written.
    """
    from models.checksums import sha256  # noqa: PLC0415 - keep `--help` quick
    from models.trials import FP32, latency_ms, size_bytes  # noqa: PLC0415

    fp32, made = trials[0], chosen.candidate
    if chosen.name == FP32:
        rivals = [each for each in trials[1:] if each.passes]
        why = "none that passes is faster here" if rivals else "no quantized form passes"
        out.print(f"[bold]fp32 is kept: {why}.[/]")
    else:
        speed = _speed(latency_ms(fp32) / latency_ms(chosen))
        share = size_bytes(chosen) / size_bytes(fp32)
        out.print(
            f"[bold]{chosen.name} is kept[/]: {escape(chosen.how)}. {speed} at batch 1, "
            f"{share:.0%} of its size.",
            soft_wrap=True,
        )
    if made:
        out.print(f"Written to {escape(str(written))}. Its lines of the manifest:", soft_wrap=True)
        out.print(escape(_LINES.format(written.name, made.format, sha256(made.model))))


def _speed(ratio: float) -> str:
    """Beside fp32, in words that do not make a gain of noise."""
    if abs(ratio - 1) <= _AS_FAST:
        return "As fast as fp32"
    return f"{ratio:.2g} times as fast as fp32"


def _cells(trial: "Trial") -> list[str]:
    if not trial.measured or not trial.verdict:
        return [""] * 7 + ["[red]failed[/]" if trial.candidate else "[dim]not made[/]"]
    figures = list(trial.measured.values())
    return [
        f"{figures[0].size_bytes / _MB:.3g}",
        _pair([each.load_ms for each in figures]),
        _pair([each.model_mb for each in figures]),
        _latencies(figures, 1),
        _latencies(figures, 16),
        *_judged(trial),
        "[green]passes[/]" if trial.passes else "[red]refused[/]",
    ]


def _judged(trial: "Trial") -> tuple[str, str]:
    """The metric as served here, and the loss on the worst kernels."""
    if trial.served is None or trial.worst is None:
        return "", ""
    return str(trial.served.int8), f"{trial.worst.loss:.4f}, {trial.worst.loss_bound:.4f}"


def _latencies(figures: "Sequence[Measurement]", size: int) -> str:
    found = [each.p50_ms[size] for each in figures if size in each.p50_ms]
    return _pair(found) if found else "-"


def _pair(values: Sequence[float]) -> str:
    return " / ".join(dict.fromkeys(f"{value:.3g}" for value in values))


def _reasons(trial: "Trial") -> list[str]:
    """Why it is refused; what holds for several kernels is said once."""
    if trial.failure or trial.verdict is None:
        return [trial.failure]
    if not trial.verdict.comparisons:
        return list(trial.verdict.reasons)
    kernels: dict[str, list[str]] = {}
    for reason in trial.verdict.reasons:
        where, _, what = reason.partition(", ")
        kernels.setdefault(what, []).append(where)
    return [f"{', '.join(where)}: {what}" for what, where in kernels.items()]
