"""What a soak comes to: its verdict, its tables, its picture and its page."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.figures import Rows, percentile, short
from benchmarks.flatness import Measure, Point, Trend, rows, trend
from benchmarks.pictures import draw_charts
from benchmarks.result import Chart, markdown_table, rich_table
from benchmarks.soak import Soaked
from benchmarks.watch import Reading

_MIB = 2**20
_KIB = 2**10
_COLUMNS = 4
_S_PER_MINUTE = 60
_PERCENT = 100
_MEMORY = Measure("memory (PSS) of all processes", "MiB", may_grow=0.1, floor=10)
_DESCRIPTORS = Measure("file descriptors of all processes", "", may_grow=0.05, floor=4)
_WAL = Measure("write-ahead log, highest", "MiB", may_grow=0.25, floor=8, of_third=max)
_STORED = Measure("growth of the database per event", "KiB", may_grow=0.2, floor=0.2)
_READY = Measure("jobs ready", "", may_grow=0.5, floor=60)
_CPU = Measure("CPU per event", "ms", may_grow=0.2, floor=0.1)
_P50 = Measure("p50, POST to Observation in the EHR", "ms", may_grow=0.2, floor=3)
_P99 = Measure("p99, POST to Observation in the EHR", "ms", may_grow=0.5, floor=30)


def trends(soaked: Soaked) -> list[Trend]:
    """Compare the last third of everything that was watched with its first."""
    found = {
        _MEMORY: _totals(soaked, lambda each: each.pss_bytes, _MIB),
        _DESCRIPTORS: _totals(soaked, lambda each: each.descriptors),
        _CPU: _cpu_ms(soaked),
        _WAL: [(each.at_s, each.wal_bytes / _MIB) for each in soaked.readings],
        _STORED: _stored_kib(soaked),
        _READY: [(each.at_s, each.ready) for each in soaked.readings],
        _P50: _by_minute(soaked, 50),
        _P99: _by_minute(soaked, 99),
    }
    return [trend(measure, points) for measure, points in found.items()]


def is_passed(soaked: Soaked) -> bool:
    """Say whether everything was right, and flat."""
    return soaked.is_right and all(each.is_flat for each in trends(soaked))


def tables(soaked: Soaked) -> dict[str, Rows]:
    """Lay out what was found; title -> rows."""
    return {
        "Flat?": rows(trends(soaked)),
        "Memory by process, PSS in MiB (median of the first and the last third)": _by_process(
            soaked, lambda each: each.pss_bytes, _MIB
        ),
        "Was it right": [
            ("expected", "arrived", "duplicates", "unwanted", "refused", "nothing left open"),
            (
                *(str(soaked.expected), str(soaked.arrived), str(soaked.duplicates)),
                *(str(soaked.unwanted), str(soaked.refused), "yes" if soaked.is_settled else "NO"),
            ),
        ],
    }


def show(soaked: Soaked, console: Console) -> None:
    """Print it."""
    console.print(_headline(soaked))
    for title, listing in tables(soaked).items():
        console.print(rich_table(title, listing))


def as_json(soaked: Soaked, facts: Mapping[str, str]) -> dict[str, Any]:
    """Give everything as plain JSON, every reading with it."""
    return {
        "began": soaked.began.isoformat(timespec="seconds"),
        "facts": dict(facts),
        "per_s": soaked.plan.per_s,
        "seconds": soaked.plan.seconds,
        "is_flat": {each.measure.name: each.is_flat for each in trends(soaked)},
        "is_right": soaked.is_right,
        "tables": tables(soaked),
        "latency_ms": {
            f"p{percent}": [[at_s, round(ms, 2)] for at_s, ms in _by_minute(soaked, percent)]
            for percent in (50, 99)
        },
        "readings": [each.as_json() for each in soaked.readings],
    }


def write(soaked: Soaked, facts: Mapping[str, str], folder: Path) -> list[Path]:
    """Write `soak.md` and `soak.png` into a folder.

    Returns:
        The files.
    """
    page, picture = folder / "soak.md", folder / "soak.png"
    draw_charts(charts(soaked), picture, columns=_COLUMNS)
    parts = [
        "# Soak",
        _INTRODUCTION.format(
            minutes=short(soaked.plan.seconds / _S_PER_MINUTE), per_s=short(soaked.plan.per_s)
        ),
        f"{_headline(soaked)} Measured {soaked.began:%Y-%m-%d %H:%M} UTC.",
        f"![Everything watched, over the whole run]({picture.name})",
    ]
    for title, listing in tables(soaked).items():
        parts += [f"## {title}", markdown_table(listing)]
    parts += ["## Machine", markdown_table([("what", "value"), *facts.items()])]
    page.write_text("\n\n".join(parts) + "\n", "utf-8")
    return [page, picture]


_INTRODUCTION = """\
Written by `python -m benchmarks soak --keep`; don't edit it by hand.

A Nadi at its defaults (SQLite) and a stand-in EHR on one machine, events at {per_s} a second for \
{minutes} minutes in an open loop. The last third of the run is held against the first after its \
warm-up; what may grow is said beside it. The database grows with what is stored; what must stay \
is how much an event adds. The slope is that of a straight line through all points."""


def charts(soaked: Soaked) -> list[Chart]:
    """Give a panel for everything watched."""
    readings = soaked.readings
    return [
        _lines("Memory", "MiB of PSS", _each_process(soaked, lambda r: r.pss_bytes, _MIB)),
        _lines("File descriptors", "open", _each_process(soaked, lambda r: r.descriptors)),
        _lines("CPU", "% of a core", _cpu_share(soaked)),
        _lines("Jobs ready", "jobs", {"ready": [(r.at_s, r.ready) for r in readings]}),
        _lines("Write-ahead log", "MiB", {"nadi.db-wal": _sizes(soaked, lambda r: r.wal_bytes)}),
        _lines("Database", "MiB", {"nadi.db": _sizes(soaked, lambda r: r.database_bytes)}),
        _lines("POST to Observation in the EHR", "ms", {"p50": _by_minute(soaked, 50)}),
        _lines("POST to Observation in the EHR", "ms", {"p99": _by_minute(soaked, 99)}),
    ]


def _lines(title: str, axis: str, lines: Mapping[str, Sequence[Point]]) -> Chart:
    in_minutes = {
        name: [(at_s / _S_PER_MINUTE, value) for at_s, value in points]
        for name, points in lines.items()
    }
    return Chart(title, axis, lines=in_minutes, x="minutes")


def _headline(soaked: Soaked) -> str:
    verdict = "Passed" if is_passed(soaked) else "FAILED"
    if soaked.plan.seconds < _LEAST_S:
        verdict += " (too short to say much)"
    return f"{verdict}: {soaked.arrived:,} of {soaked.expected:,} results of the events arrived."


_LEAST_S = 600.0


# --- from readings to points ----------------------------------------------------------------

_Of = Callable[[Reading], Mapping[str, float]]


def _totals(soaked: Soaked, of: _Of, unit: float = 1) -> list[Point]:
    return [(each.at_s, sum(of(each).values()) / unit) for each in soaked.readings]


def _sizes(soaked: Soaked, of: Callable[[Reading], int]) -> list[Point]:
    return [(each.at_s, of(each) / _MIB) for each in soaked.readings]


def _each_process(soaked: Soaked, of: _Of, unit: float = 1) -> dict[str, list[Point]]:
    names = dict.fromkeys(name for each in soaked.readings for name in of(each))
    return {
        name: [(r.at_s, of(r)[name] / unit) for r in soaked.readings if name in of(r)]
        for name in names
    }


def _by_process(soaked: Soaked, of: _Of, unit: float) -> Rows:
    found = [("process", "first third", "last third")]
    for name, points in _each_process(soaked, of, unit).items():
        went = trend(Measure(name, "MiB", may_grow=0, floor=0), points)
        found.append((name, short(went.first), short(went.last)))
    return found


def _steps(soaked: Soaked) -> Iterator[tuple[Reading, Reading]]:
    """Give readings a minute apart, or all neighbours in a run of a few minutes."""
    apart = _S_PER_MINUTE if soaked.plan.seconds >= _LEAST_S else soaked.plan.look_every_s
    by = max(round(apart / soaked.plan.look_every_s), 1)
    few = soaked.readings[::by]
    return itertools.pairwise(few)


def _cpu_share(soaked: Soaked) -> dict[str, list[Point]]:
    shares: dict[str, list[Point]] = {}
    for one, other in _steps(soaked):
        for name in other.cpu_s.keys() & one.cpu_s.keys():
            used = other.cpu_s[name] - one.cpu_s[name]
            share = _PERCENT * used / (other.at_s - one.at_s)
            shares.setdefault(name, []).append((other.at_s, share))
    return dict(sorted(shares.items()))


def _cpu_ms(soaked: Soaked) -> list[Point]:
    return _per_event(soaked, lambda each: 1000 * sum(each.cpu_s.values()))


def _stored_kib(soaked: Soaked) -> list[Point]:
    return _per_event(soaked, lambda each: each.database_bytes / _KIB)


def _per_event(soaked: Soaked, of: Callable[[Reading], float]) -> list[Point]:
    """Give how much more an event made it."""
    return [
        (other.at_s, (of(other) - of(one)) / (soaked.plan.per_s * (other.at_s - one.at_s)))
        for one, other in _steps(soaked)
    ]


def _by_minute(soaked: Soaked, percent: float) -> list[Point]:
    """Give a percentile of the latency for each minute, or each twentieth of a short run."""
    span = min(_S_PER_MINUTE, soaked.plan.seconds / 20)
    spans: dict[int, list[float]] = {}
    for due_s, ms in soaked.latency_ms:
        spans.setdefault(int(due_s / span), []).append(ms)
    return [((n + 0.5) * span, percentile(spans[n], percent)) for n in sorted(spans)]
