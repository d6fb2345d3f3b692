"""Draws the charts of a benchmark side by side."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from benchmarks.figures import short
from benchmarks.result import Chart, Result

_WIDTH, _HEIGHT = 6.0, 3.6
_DPI = 110


def draw(result: Result, path: Path) -> None:
    """Write one picture with all charts of a benchmark."""
    draw_charts(result.charts, path, columns=len(result.charts))


def draw_charts(charts: Sequence[Chart], path: Path, *, columns: int) -> None:
    """Write one picture with charts in rows of so many."""
    mpl.use("Agg")
    rows = -(-len(charts) // columns)
    picture = Picture(figsize=(_WIDTH * columns, _HEIGHT * rows), dpi=_DPI, layout="constrained")
    places = list(picture.subplots(rows, columns, squeeze=False).flat)
    for axes in places[len(charts) :]:
        axes.set_axis_off()
    for axes, chart in zip(places, charts, strict=False):
        (_bars if chart.bars else _lines)(axes, chart)
        axes.set_title(chart.title)
    picture.savefig(path)


def _bars(axes: Axes, chart: Chart) -> None:
    labels = list(chart.bars)
    drawn = axes.barh(labels, list(chart.bars.values()))
    axes.bar_label(drawn, [short(value) for value in chart.bars.values()], padding=3)
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.set_xlabel(chart.axis)
    if chart.is_log:
        axes.set_xscale("log")


def _lines(axes: Axes, chart: Chart) -> None:
    for label, points in chart.lines.items():
        axes.plot([x for x, *_ in points], [y for _, y, *_ in points], label=label)
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.axis)
    axes.set_ylim(bottom=0)
    if chart.is_log:
        axes.set_xscale("log")
    axes.legend()
