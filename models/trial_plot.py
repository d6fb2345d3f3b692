"""The picture of a choice: how right each candidate is against how long it takes.

The bar of a point reaches to what the gate judges: the metric as far from fp32's as the upper bound
of the paired loss says. A bar that crosses the dashed line is refused.

Needs the extra `quantize` (matplotlib). Nothing is shown on a screen; a file's bytes are made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

from matplotlib.figure import Figure

from models.gate import Comparison
from models.manifest import Gate
from models.task import LESS_IS_BETTER
from models.trials import Trial, kernels_here, latency_ms, size_bytes

ImageFormat = Literal["png", "svg"]

_INCHES = (10.5, 5.5)
_DOTS_PER_INCH = 150
_MB = 1e6
_ROOM = 0.15
#: Least distance of two labels, as a part of the height.
_LABEL_GAP = 0.06
_CHOSEN, _PASSES, _REFUSED, _PALE = "#1b7837", "#4575b4", "#b2182b", "#999999"


@dataclass(frozen=True)
class _Point:
    """A candidate in the picture.

    Attributes:
        trial: What became of it.
        found: Its comparison with fp32 on all cases, on the worst kernels.
        worse: The direction of worse: 1 where less is better, else -1.
        colour: By its fate.
    """

    trial: Trial
    found: Comparison
    worse: int
    colour: str

    @property
    def x(self) -> float:
        return latency_ms(self.trial)

    @property
    def y(self) -> float:
        return self.found.int8.value

    @property
    def judged(self) -> float:
        """As bad as the gate has to take it for."""
        return self.found.fp32.value + self.worse * self.found.loss_bound


def draw(
    trials: Sequence[Trial], chosen: Trial | None, gate: Gate, *, title: str, kind: ImageFormat
) -> bytes:
    """Draw one labelled point per candidate that was judged and measured.

    Args:
        trials: The candidates.
        chosen: The one that was kept.
        gate: What they had to meet.
        title: Of the picture.
        kind: Of the file.

    Raises:
        ValueError: There is no candidate to draw.
    """
    worse = 1 if gate.metric in LESS_IS_BETTER else -1
    points = [
        _Point(each, each.worst, worse, _colour(each, chosen))
        for each in trials
        if each.is_known and each.worst
    ]
    if not points:
        raise ValueError("no candidate was judged and measured, so there is nothing to draw")
    figure = Figure(figsize=_INCHES, layout="constrained")
    axes = figure.subplots()
    for point in points:
        _mark(axes, point, is_chosen=point.trial is chosen)
    _zoom(axes, points)
    _limit(axes, points[0], gate)
    _labels(axes, points, chosen)
    _words(axes, points[0], gate, title)
    made = BytesIO()
    figure.savefig(made, format=kind, dpi=_DOTS_PER_INCH)
    return made.getvalue()


def _colour(trial: Trial, chosen: Trial | None) -> str:
    if trial is chosen:
        return _CHOSEN
    return _PASSES if trial.passes else _REFUSED


def _mark(axes: Any, point: _Point, *, is_chosen: bool) -> None:  # noqa: ANN401 - untyped
    down, up = sorted((point.y, point.judged))
    axes.errorbar(
        point.x,
        point.y,
        yerr=[[point.y - down], [up - point.y]],
        fmt="*" if is_chosen else "o",
        markersize=18 if is_chosen else 8,
        color=point.colour,
        markerfacecolor=point.colour if point.trial.passes else "white",
        ecolor=point.colour,
        elinewidth=1,
        capsize=4,
    )


def _zoom(axes: Any, points: Sequence[_Point]) -> None:  # noqa: ANN401 - untyped
    """Show the part of the plane that the candidates are in, so that they lie apart."""
    axes.set_xlim(*_around([point.x for point in points]))
    axes.set_ylim(*_around([each for point in points for each in (point.y, point.judged)]))


def _around(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = _ROOM * (high - low) or _ROOM * abs(high) or _ROOM
    return low - room, high + room


def _limit(axes: Any, point: _Point, gate: Gate) -> None:  # noqa: ANN401 - untyped
    """The dashed line, or in words where it lies when it is far from every candidate."""
    value = point.found.fp32.value + point.worse * gate.max_loss
    low, high = axes.get_ylim()
    is_shown = low < value < high
    said = f"most that may be lost: {gate.max_loss:g}"
    if is_shown:
        axes.axhline(value, linestyle="--", linewidth=1, color=_PALE)
    else:
        side = "below" if value <= low else "above"
        said += f", at {value:.4g}, {side} what is shown"
    axes.annotate(
        said,
        (0.01, value if is_shown else (0.0 if value <= low else 0.96)),
        xycoords=("axes fraction", "data" if is_shown else "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        fontsize=8,
        color=_PALE,
    )


def _labels(axes: Any, points: Sequence[_Point], chosen: Trial | None) -> None:  # noqa: ANN401
    """One label per point, in a column at the right so that none covers another."""
    low, high = axes.get_ylim()
    ordered = sorted(points, key=lambda each: (-each.y, -each.x))
    heights = spread([(each.y - low) / (high - low) for each in ordered])
    for height, point in zip(heights, ordered, strict=True):
        axes.annotate(
            f"{point.trial.name}  {point.x:.3g} ms, {size_bytes(point.trial) / _MB:.2g} MB"
            + ("" if point.trial.passes else " (refused)"),
            (point.x, point.y),
            xytext=(1.03, height),
            textcoords="axes fraction",
            verticalalignment="center",
            fontsize=9,
            fontweight="bold" if point.trial is chosen else "normal",
            color=point.colour,
            arrowprops={"arrowstyle": "-", "color": _PALE, "linewidth": 0.5, "relpos": (0, 0.5)},
        )


def spread(heights: Sequence[float]) -> list[float]:
    """Move labels apart where they would touch, each as little as may be.

    Args:
        heights: Where each would stand, the highest first; 0 is the lowest place and 1 the highest.
    """
    gap = min(_LABEL_GAP, 1 / max(len(heights), 1))
    found: list[float] = []
    for place, height in enumerate(heights):
        # Above it others stand already, below it the rest has to find room.
        most = found[-1] - gap if found else 1.0
        least = gap * (len(heights) - 1 - place)
        found.append(max(min(height, most), least))
    return found


def _words(axes: Any, fp32: _Point, gate: Gate, title: str) -> None:  # noqa: ANN401 - untyped
    order = "less is better" if gate.metric in LESS_IS_BETTER else "more is better"
    axes.set_title(f"{title}; fp32 {gate.metric} {fp32.found.fp32}", loc="left", fontsize=11)
    axes.set_xlabel(f"median time of one case on one thread, ms ({kernels_here()})")
    axes.set_ylabel(f"{gate.metric} ({order}); bar: as bad as it may be")
    axes.grid(visible=True, linewidth=0.4, color="#e5e5e5")
    axes.spines[["top", "right"]].set_visible(False)
