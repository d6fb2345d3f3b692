"""B4: each reference model in each format, its accuracy beside every speed.

Size, loading, memory and latency are measured here, each network in a process of its own, by turns
(fp32, shipped, fp32, shipped …) so that a machine that slows down slows both. The metrics are those
of the manifests: they need the data the models were trained on, and each `train.py` measures them
anew. A fp32 network that is too large for the repository is named with `--fp32 NAME=FILE` when
`reference-models` measures; what that found stands here too, with its day.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson
from rich.console import Console
from rich.progress import track

from benchmarks.figures import Rows
from benchmarks.machine import facts
from benchmarks.result import Chart, Result, Scale, Tell, markdown_table
from models.manifest import Manifest
from models.measure import Measurement, measure
from models.registry import InstalledModel, load_installed
from models.runtime import needs_exact_int8

_ROUNDS = 3
_MB = 1e6
_DOC = Path(__file__).resolve().parents[1] / "docs" / "reference-models.md"
#: What `reference-models` measured last: networks among them that the repository lacks.
_RECORD = _DOC.with_suffix(".json")
_HEAD = (
    *("model", "form", "kernels", "metric (95 %)", "size MB", "loads ms", "memory MB"),
    *("p50 of 1, ms", "p50 of 16, ms"),
)

_TRIED = "### Forms that were tried\n"
_RATIOS = {"times_fp32": "p50 of 1, ms", "smaller": "size MB", "lighter": "memory MB"}


@dataclass(frozen=True)
class Line:
    """One form of one model, measured.

    Attributes:
        form: `fp32`, or the shipped format.
        kernels: `default`, or `exact` with `session.x64quantprecision=1`.
        metric: As the manifest has it; empty where it has none.
        rounds: One measurement per round.
    """

    model: str
    form: str
    kernels: str
    metric: str
    rounds: Sequence[Measurement]

    def p50_ms(self, size: int) -> float:
        """The time of a run of so many cases, the median of the rounds."""
        return statistics.median(each.p50_ms[size] for each in self.rounds)

    @property
    def cells(self) -> tuple[str, ...]:
        """The line as text."""
        first = self.rounds[0]
        return (
            *(self.model, self.form, self.kernels, self.metric),
            f"{first.size_bytes / _MB:.3f}",
            _median(each.load_ms for each in self.rounds),
            _median(each.model_mb for each in self.rounds),
            *(_median(each.p50_ms[size] for each in self.rounds) for size in (1, 16)),
        )


def run(scale: Scale) -> Result:
    """Measure every reference model in each of its formats."""
    rounds = scale.pick(_ROUNDS, 1)
    found = {
        model.name: _lines(model, None, rounds, scale.tell) for model in load_installed().values()
    }
    lines = [line for each in found.values() for line in each]
    record = _Record.read()
    without = [name for name, each in found.items() if len({line.form for line in each}) == 1]
    return Result(
        number="B4",
        name="models",
        title="Each reference model in each format, against fp32",
        fairness="One thread, the same inputs, each network in a process of its own, by turns. The "
        "accuracy is that of the manifest, on patients the model was not trained on; all models "
        "are for demonstration only.",
        tables={
            "Formats": [_HEAD, *(line.cells for line in lines)],
            **_tried(load_installed().values()),
            **(
                {f"Measured on {record.day}, docs/reference-models.md": record.rows}
                if record
                else {}
            ),
        },
        values=(_recorded(record.rows) if record else {}) | _values(found),
        charts=[
            Chart(
                "One case",
                "p50, ms",
                bars={
                    f"{line.model.partition('@')[0]}, {line.form} {line.kernels}": line.p50_ms(1)
                    for line in lines
                },
                is_log=True,
            )
        ],
        skipped=[
            f"{name} in fp32 this time: the repository has only the format that is shipped."
            for name in without
        ],
    )


@dataclass(frozen=True)
class _Record:
    """What `reference-models` measured last.

    Attributes:
        day: When, ISO.
        rows: Its table.
    """

    day: str
    rows: Rows

    @classmethod
    def read(cls) -> "_Record | None":
        """Read it; None where there is none."""
        if not _RECORD.exists():
            return None
        told = orjson.loads(_RECORD.read_bytes())
        return cls(told["day"], [tuple(row) for row in told["rows"]])

    def write(self) -> None:
        """Keep it beside the page."""
        _RECORD.write_bytes(orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2) + b"\n")


def _tried(models: Iterable[InstalledModel]) -> dict[str, Rows]:
    """Give what each card says of formats that were tried and not shipped."""
    found = {}
    for model in models:
        card = (model.folder / model.manifest.card).read_text("utf-8")
        _, heading, told = card.partition(_TRIED)
        table = [line for line in told.partition("\n#")[0].splitlines() if line.startswith("|")]
        if heading and table:
            cells = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table]
            title = f"{model.name}: formats that were tried, by its `train.py` (its card)"
            found[title] = [cells[0], *cells[2:]]
    return found


def _recorded(rows: Rows) -> dict[str, float]:
    """Say of each recorded model with an fp32 network what `_values` says of those measured now."""
    place = {head: column for column, head in enumerate(rows[0])}
    values: dict[str, float] = {}
    for row in rows[1:]:
        name = row[0].partition("@")[0]
        twin = next((one for one in rows[1:] if one[:2] == (row[0], "fp32")), None)
        if twin is None or row[1] == "fp32":
            continue
        for key, head in _RATIOS.items():
            values[f"{name}_{key}"] = float(twin[place[head]]) / float(row[place[head]])
    return values


def write_page(twins: Mapping[str, Path], console: Console) -> Path:
    """Measure every reference model, print the table and write docs/reference-models.md.

    Args:
        twins: Name of a model → its fp32 network, where the repository has none.
        console: Where the table goes.

    Returns:
        The file it was written to.
    """
    lines = [
        line
        for model in track(list(load_installed().values()), "Models", console=console)
        for line in _lines(model, twins.get(model.name), _ROUNDS, lambda _: None)
    ]
    rows = [_HEAD, *(line.cells for line in lines)]
    about = [("what", "value"), *facts().items()]
    plain = (_PLAINLY, markdown_table([_AGAINST, *against(lines)]), _WHY_NOT)
    parts = (_INTRODUCTION, markdown_table(rows), *plain, "## Machine", markdown_table(about))
    text = "\n\n".join(parts)
    _DOC.write_text(text + "\n", "utf-8")
    _Record(datetime.now(UTC).date().isoformat(), rows).write()
    console.print(markdown_table(rows), soft_wrap=True)
    return _DOC


def against(lines: Sequence[Line]) -> list[tuple[str, ...]]:
    """Say of each shipped form on default kernels whether it is faster and how much smaller.

    Returns:
        A row of `_AGAINST` for each model that was measured in fp32 too.
    """
    fp32 = {line.model: line for line in lines if line.form == "fp32"}
    shipped = [
        line
        for line in lines
        if line.form != "fp32" and line.kernels == "default" and line.model in fp32
    ]
    return [
        (
            line.model,
            line.form,
            *(_pace(line.p50_ms(size) / fp32[line.model].p50_ms(size)) for size in (1, 16)),
            f"{line.rounds[0].size_bytes / fp32[line.model].rounds[0].size_bytes:.1%}",
        )
        for line in shipped
    ]


def _pace(times: float) -> str:
    return f"faster: {times:.2f} of fp32's time" if times < 1 else f"**slower: {times:.2f} times**"


def _values(found: Mapping[str, Sequence[Line]]) -> dict[str, float]:
    """Say how many times faster each quantized form is than fp32, and what exact kernels cost."""
    values: dict[str, float] = {}
    for name, lines in found.items():
        quantized = [line for line in lines if line.form != "fp32"]
        default = next((line for line in quantized if line.kernels == "default"), None)
        exact = next((line for line in quantized if line.kernels == "exact"), None)
        fp32 = next((line for line in lines if line.form == "fp32"), None)
        if default and exact:
            values[f"{name}_exact_costs"] = exact.p50_ms(1) / default.p50_ms(1)
        if fp32 and quantized:
            values[f"{name}_times_fp32"] = fp32.p50_ms(1) / quantized[-1].p50_ms(1)
            first, last = fp32.rounds[0], quantized[-1].rounds[0]
            values[f"{name}_smaller"] = first.size_bytes / last.size_bytes
            values[f"{name}_lighter"] = first.model_mb / last.model_mb
    return values


def _lines(model: InstalledModel, twin: Path | None, rounds: int, tell: Tell) -> list[Line]:
    tell(model.name)
    sample, _ = model.golden_cases()
    manifest = model.manifest
    fp32 = twin.read_bytes() if twin else model.reference_weights()
    forms: list[tuple[str, bool, str, bytes]] = []
    if fp32:
        forms.append(("fp32", needs_exact_int8(), _metric(manifest, "-fp32"), fp32))
    settings = (False, True) if "int8" in manifest.weights.format else (needs_exact_int8(),)
    shipped = (manifest.weights.format, _metric(manifest, ""), model.weights())
    forms += [(shipped[0], exact, *shipped[1:]) for exact in settings]
    taken = [
        [measure(weights, sample, exact_int8=exact) for _, exact, _, weights in forms]
        for _ in range(rounds)
    ]
    return [
        Line(model.reference, form, "exact" if exact else "default", metric, rounds)
        for (form, exact, metric, _), rounds in zip(forms, zip(*taken, strict=True), strict=True)
    ]


def _metric(manifest: Manifest, suffix: str) -> str:
    """The metric of the gate, of this form of the model."""
    if manifest.gate is None:
        return "exact" if not suffix else ""
    wanted = manifest.gate.metric + suffix
    found = next((each for each in manifest.metrics if each.name == wanted), None)
    if found is None:
        return ""
    interval = f" ({found.ci95[0]:.3f} to {found.ci95[1]:.3f})" if found.ci95 else ""
    return f"{manifest.gate.metric} {found.value:.3f}{interval}"


def _median(values: Iterable[float]) -> str:
    return f"{statistics.median(values):.3g}"


_INTRODUCTION = f"""\
# Reference models, measured

Written by `python -m benchmarks reference-models`; don't edit it by hand. One thread, medians of
{_ROUNDS} rounds in turn. Memory is what loading and running a network adds to a process. The
metrics were measured by each model's `train.py` on patients it was not trained on; its card says
how. All of them are for **demonstration only**."""

_AGAINST = ("model", "shipped", "one case", "16 cases", "size, of fp32's")
_PLAINLY = """\
## Where int8 is not faster, and what was shipped

Default kernels of the machine below, from the table above."""
_WHY_NOT = """\
**ckd-risk** and **liver-risk** are not faster in int8 for one case: a run of so small a network
is the calling of its operators, and int8 has more of them (6 and 12 that only round). int8 was
shipped all the same, since these two are the examples of the whole path from fp32 to a gated
package: it costs a few microseconds a case, and changes 0.10 % and 1.14 % of the decisions (their
cards). Where only the time counts, ship the fp32 twin, which lies beside each.

**ckd-risk is 68.6 % of fp32's size, not 30 %.** Of its 4,900 bytes some 2,000 are the names and
nodes of the graph, which don't shrink; fp32 has 7,140 bytes in all. The weights alone, which are
what int8 is about, went from 5,888 bytes to 1,664: **28.3 %** (`liver-risk` 25.3 %,
`chest-xray-pneumonia` 25.0 %; with scales, biases and constants 46 %, 28.2 % and 26.4 %).
Internal names of one or two letters, equal constants shared and zero points of 0 left out would
make it 3,502 bytes of 6,887 (50.8 %), with the same answers bit for bit: tried, and not shipped,
since each model would become another file for little over a thousand bytes. The aim of 30 %,
2,142 bytes, is less than its weights, scales, biases and constants take without any names (2,565).

Sizes in the cards are of the same files. Times in a card were taken by its `train.py` at another
time; where they differ, this table, of which all lines were measured in turn, counts."""
