# ruff: noqa: INP001 - a folder of one model's files, not a package
"""Builds news2: the published score table as an ONNX graph, with nothing trained.

    python models/reference/news2/build.py

The table below is the only source; graph and golden cases are made from it. A sign is a step
function: points up to its first edge, other points from each edge on. The chart has whole numbers
(temperature: tenths), so an edge lies half way between the last value of one cell and the first of
the next: 35.04 counts as 35.0 and 35.05 as 35.1, as a nurse would round it.

What the graph is not told is NaN, and NaN goes through: a sign that is not known, oxygen of which
nothing at all is known, a scale that is neither 1 nor 2 make the score NaN, which is no answer.

Source: Royal College of Physicians, National Early Warning Score (NEWS) 2, London, 2017.
"""

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import onnx
import typer
from onnx import TensorProto, helper, numpy_helper

from models.manifest import Weights
from models.model_files import golden_json, licence_text, read_head, weights_table, write
from models.registry import sha256
from models.runtime import open_session

HERE = Path(__file__).parent
MARK = "# Written by build.py\n"
TOLERANCE = 1e-6

Cells = tuple[tuple[float, int], ...]
"""First value of each cell and its points, ascending; the first cell begins with nothing."""

LOW = float("-inf")
RESPIRATION: Cells = ((LOW, 3), (9, 1), (12, 0), (21, 2), (25, 3))
SATURATION_1: Cells = ((LOW, 3), (92, 2), (94, 1), (96, 0))
SATURATION_2_AIR: Cells = ((LOW, 3), (84, 2), (86, 1), (88, 0))
SATURATION_2_OXYGEN: Cells = (*SATURATION_2_AIR, (93, 1), (95, 2), (97, 3))
SYSTOLIC: Cells = ((LOW, 3), (91, 2), (101, 1), (111, 0), (220, 3))
PULSE: Cells = ((LOW, 3), (41, 1), (51, 0), (91, 1), (111, 2), (131, 3))
TEMPERATURE: Cells = ((LOW, 3), (35.1, 1), (36.1, 0), (38.1, 1), (39.1, 2))
RISK: Cells = ((LOW, 0), (5, 2), (7, 3))
"""Clinical risk by the total: low, medium, high; a single 3 makes low-medium of low."""

TENTHS = 0.1
ROOM_AIR = 21.0
"""Per cent of oxygen in what is breathed without any supplement."""
OXYGEN_POINTS, RED, LOW_MEDIUM = 2, 3, 1

INPUTS = (
    "age", "respiration", "saturation", "saturation-scale", "air-or-oxygen", "oxygen-flow",
    "oxygen-concentration", "systolic", "pulse", "consciousness", "temperature",
)  # fmt: skip
SIGNS = (
    "respiration", "saturation", "oxygen", "systolic", "pulse", "consciousness", "temperature",
)  # fmt: skip
OXYGEN = ("air-or-oxygen", "oxygen-flow", "oxygen-concentration")
WELL = {
    "age": 50, "respiration": 16, "saturation": 97, "saturation-scale": 1, "air-or-oxygen": 0,
    "oxygen-flow": None, "oxygen-concentration": None, "systolic": 125, "pulse": 72,
    "consciousness": 0, "temperature": 36.8,
}  # fmt: skip
"""Nobody's values; all of them score 0."""

Case = Mapping[str, float | None]


class Graph:
    """Nodes and constants of a graph under construction; values go by their names."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def add(self, operator: str, *inputs: str, name: str = "", **settings: int) -> str:
        """Add a node; give the name of what comes out of it."""
        result = name or f"{operator.lower()}_{len(self.nodes)}"
        node = helper.make_node(operator, inputs, [result])
        node.attribute.extend(helper.make_attribute(key, value) for key, value in settings.items())
        self.nodes.append(node)
        return result

    def number(self, value: float) -> str:
        """Give the name of a constant."""
        return self.array(np.array([[value]], dtype=np.float32), f"number_{value}")

    def array(self, values: npt.NDArray[np.generic], name: str) -> str:
        """Give the name of a constant array."""
        self.constants[name] = numpy_helper.from_array(values, name)
        return name

    def known(self, value: str, result: str) -> str:
        """Give a result where the value is known, NaN where it is not."""
        return self.add("Where", self.add("IsNaN", value), self.number(np.nan), result)

    def steps(self, value: str, cells: Cells, *, resolution: float = 1.0) -> str:
        """Give the points of a value: what stands in its cell."""
        firsts, points = np.array(cells).T
        edges = (firsts[1:] - resolution / 2)[None, :].astype(np.float32)
        changes = np.diff(points)[:, None].astype(np.float32)
        label = f"{value}_{len(self.nodes)}"
        reached = self.add("GreaterOrEqual", value, self.array(edges, f"edges_{label}"))
        passed = self.add("Cast", reached, to=TensorProto.FLOAT)
        change = self.add("MatMul", passed, self.array(changes, f"changes_{label}"))
        return self.known(value, self.add("Add", change, self.number(points[0])))

    def one_of(self, value: str, results: Mapping[float, str]) -> str:
        """Give the result that belongs to the value; NaN when it has none."""
        found = self.number(np.nan)
        for key, result in results.items():
            found = self.add("Where", self.add("Equal", value, self.number(key)), result, found)
        return found


def build() -> onnx.ModelProto:
    """Give the graph: `vital_signs` (n, 11), NaN where not known → `scores` (n, 11)."""
    graph = Graph()
    column = {name: _column(graph, place) for place, name in enumerate(INPUTS)}
    points = _points(graph, column)
    parts = graph.add("Concat", *(points[name] for name in SIGNS), axis=1)
    axis = graph.array(np.array([1], dtype=np.int64), "axis")
    total = graph.add("ReduceSum", parts, axis, keepdims=1)
    is_red = graph.add("GreaterOrEqual", parts, graph.number(RED))
    reds = graph.add("ReduceSum", graph.add("Cast", is_red, to=TensorProto.FLOAT), axis, keepdims=1)
    scale = column["saturation-scale"]
    told = (total, _risk(graph, total, reds), graph.known(total, reds), scale, parts)
    graph.add("Concat", *told, axis=1, name="scores")
    return _model(graph, len(INPUTS), len(SIGNS) + len(told) - 1)


def _column(graph: Graph, place: int) -> str:
    places = graph.array(np.array([place], dtype=np.int64), f"place_{place}")
    return graph.add("Gather", "vital_signs", places, axis=1)


def _points(graph: Graph, column: Mapping[str, str]) -> dict[str, str]:
    on_oxygen = _on_oxygen(graph, column)
    saturation = column["saturation"]
    scale_2 = graph.add(
        "Where",
        on_oxygen,
        graph.steps(saturation, SATURATION_2_OXYGEN),
        graph.steps(saturation, SATURATION_2_AIR),
    )
    scales = {1.0: graph.steps(saturation, SATURATION_1), 2.0: scale_2}
    supplement = graph.add("Where", on_oxygen, graph.number(OXYGEN_POINTS), graph.number(0))
    consciousness = {0.0: graph.number(0), float(RED): graph.number(RED)}
    return {
        "respiration": graph.steps(column["respiration"], RESPIRATION),
        "saturation": graph.one_of(column["saturation-scale"], scales),
        "oxygen": graph.add("Where", _untold(graph, column), graph.number(np.nan), supplement),
        "systolic": graph.steps(column["systolic"], SYSTOLIC),
        "pulse": graph.steps(column["pulse"], PULSE),
        "consciousness": graph.one_of(column["consciousness"], consciousness),
        "temperature": graph.steps(column["temperature"], TEMPERATURE, resolution=TENTHS),
    }


def _on_oxygen(graph: Graph, column: Mapping[str, str]) -> str:
    """On oxygen when anything says so: both scales give oxygen at least the points of air."""
    coded = graph.add("GreaterOrEqual", column["air-or-oxygen"], graph.number(0.5))
    flowing = graph.add("Greater", column["oxygen-flow"], graph.number(0))
    more_than_air = graph.number(ROOM_AIR + 0.5)
    enriched = graph.add("GreaterOrEqual", column["oxygen-concentration"], more_than_air)
    return graph.add("Or", graph.add("Or", coded, flowing), enriched)


def _untold(graph: Graph, column: Mapping[str, str]) -> str:
    """Nothing at all is known of oxygen, which must not count as air."""
    coded, flow, concentration = (graph.add("IsNaN", column[name]) for name in OXYGEN)
    return graph.add("And", graph.add("And", coded, flow), concentration)


def _risk(graph: Graph, total: str, reds: str) -> str:
    by_total = graph.steps(total, RISK)
    is_low = graph.add("Equal", by_total, graph.number(0))
    has_red = graph.add("Greater", reds, graph.number(0))
    raised = graph.add("And", is_low, has_red)
    return graph.add("Where", raised, graph.number(LOW_MEDIUM), by_total)


def _model(graph: Graph, width: int, answers: int) -> onnx.ModelProto:
    made = helper.make_graph(
        graph.nodes,
        "news2",
        [helper.make_tensor_value_info("vital_signs", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", answers])],
        list(graph.constants.values()),
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=8, producer_name="nadi")
    onnx.checker.check_model(model, full_check=True)
    return model


def expected(case: Case) -> list[int]:
    """Read the answer off the table, without the graph; for values the chart has."""
    value = {name: float(number) for name, number in case.items() if number is not None}
    on_oxygen = (
        value.get("air-or-oxygen") == 1
        or value.get("oxygen-flow", 0) > 0
        or value.get("oxygen-concentration", ROOM_AIR) > ROOM_AIR
    )
    scale_2 = SATURATION_2_OXYGEN if on_oxygen else SATURATION_2_AIR
    saturation = {1: SATURATION_1, 2: scale_2}[int(value["saturation-scale"])]
    points = [
        _look_up(value["respiration"], RESPIRATION),
        _look_up(value["saturation"], saturation),
        OXYGEN_POINTS if on_oxygen else 0,
        _look_up(value["systolic"], SYSTOLIC),
        _look_up(value["pulse"], PULSE),
        int(value["consciousness"]),
        _look_up(value["temperature"], TEMPERATURE),
    ]
    total, reds = sum(points), points.count(RED)
    risk = _look_up(total, RISK) or min(reds, LOW_MEDIUM)
    return [total, risk, reds, int(value["saturation-scale"]), *points]


def _look_up(value: float, cells: Cells) -> int:
    return [points for first, points in cells if value >= first][-1]


def golden_cases() -> list[dict[str, Any]]:
    """Give both ends of every cell, every way to tell of oxygen, and patients of every risk."""
    return [
        {
            "id": ", ".join(f"{name} {value}" for name, value in changed.items()),
            "note": "made-up values; the answer of the published table",
            "inputs": {**WELL, **changed},
            "expected": expected({**WELL, **changed}),
        }
        for changed in (*_cells(), *_oxygen(), *_patients())
    ]


def _cells() -> Iterable[Case]:
    tables: dict[str, Cells] = {
        "respiration": RESPIRATION, "systolic": SYSTOLIC, "pulse": PULSE,
        "temperature": TEMPERATURE,
    }  # fmt: skip
    for name, cells in tables.items():
        for end in _ends(cells, TENTHS if name == "temperature" else 1):
            yield {name: end}
    for scale, cells in ((1, SATURATION_1), (2, SATURATION_2_OXYGEN)):
        for end, gas in itertools.product(_ends(cells, 1), (0, 1)):
            yield {"saturation": end, "saturation-scale": scale, "air-or-oxygen": gas}
    yield {"consciousness": RED}


def _ends(cells: Cells, resolution: float) -> list[float]:
    firsts = [first for first, _ in cells[1:]]
    return [round(end, 1) for first in firsts for end in (first - resolution, first)]


def _oxygen() -> Iterable[Case]:
    told = ({"air-or-oxygen": 1}, {"oxygen-flow": 0}, {"oxygen-flow": 0.5},
            {"oxygen-concentration": 21}, {"oxygen-concentration": 24},
            {"air-or-oxygen": 0, "oxygen-flow": 2},
            {"oxygen-flow": 0, "oxygen-concentration": 28})  # fmt: skip
    for each in told:
        yield {"air-or-oxygen": None, **each}


def _patients() -> Iterable[Case]:
    yield {"respiration": 21, "pulse": 95, "temperature": 38.5}
    yield {"respiration": 22, "pulse": 112, "temperature": 38.4}
    yield {"respiration": 24, "saturation": 93, "pulse": 118, "temperature": 38.9}
    yield {
        "respiration": 25, "saturation": 91, "air-or-oxygen": 1, "systolic": 90, "pulse": 131,
        "consciousness": RED, "temperature": 35.0,
    }  # fmt: skip


def _answers(weights: bytes, cases: list[dict[str, Any]]) -> npt.NDArray[np.float32]:
    rows = np.array([list(case["inputs"].values()) for case in cases], dtype=np.float32)
    session = open_session(weights, exact_int8=False)
    (answers,) = session.run(["scores"], {"vital_signs": rows})
    return np.asarray(answers, dtype=np.float32)


def main(
    out: Annotated[Path, typer.Option(file_okay=False, help="Where the files go.")] = HERE,
) -> None:
    """Build the graph, check it against the table, and write the model's files."""
    model, cases = build().SerializeToString(deterministic=True), golden_cases()
    if not np.array_equal(_answers(model, cases), np.array([case["expected"] for case in cases])):
        typer.echo("refused: the graph does not answer as the table says", err=True)
        raise typer.Exit(1)
    weights = Weights(
        file="model.onnx",
        sha256=sha256(model),
        format="onnx-fp32",
        tolerance=TOLERANCE,
        input_name="vital_signs",
        output_name="scores",
    )
    head = read_head(HERE, MARK)
    manifest = (head.text + weights_table(weights)).encode()
    files = {"model.onnx": model, "golden.json": golden_json(cases), "manifest.toml": manifest}
    words = {"card.md": (HERE / "card.md").read_bytes(), **licence_text(HERE, head)}
    write(out, files | words)
    typer.echo(f"{len(cases)} golden cases, {len(model)} bytes, sha256 {weights.sha256}")


if __name__ == "__main__":
    typer.run(main)
