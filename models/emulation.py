"""Runs a quantized ONNX model as a machine of another kernel class would.

The network is taken as ONNX Runtime optimises it for a CPU, and is cut at the integer products that
may differ between kernels. Those are computed here (`models.saturation`); everything between them
is run by ONNX Runtime itself, so that each of its own operators does what it does in service.

Two settings of a machine without VNNI are told apart:

* `saturating`: the default; every product of unsigned activations and signed weights saturates;
* `exact`: `session.x64quantprecision=1` makes signed weights unsigned, which is exact. The runtime
  does so for constant weights and known versions of operators only; what it leaves signed is seen
  in the network as it optimises it with this setting.

Source: ONNX operators QLinearMatMul, QLinearConv, MatMulInteger; ONNX Runtime, "Contrib Operators"
for the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from models.integer_operators import OPERATORS, WEIGHTS, Operator, is_depthwise, matrix_of
from models.kernels import is_x86
from models.onnx_engine import EXACT_INT8_KEY
from models.registry import ModelUnusable
from models.saturation import can_saturate
from models.tensors import FloatArray, Tensors

Array = npt.NDArray[Any]
Kernels = Literal["saturating", "exact", "ideal"]

_UNKNOWN = {"QAttention": (1,), "DynamicQuantizeLSTM": (1, 2)}
"""Operators with int8 products that are not computed here → places of their weights."""


class EmulationImpossible(ValueError):
    """A network has an integer operator that can't be computed here; the message names it."""


@dataclass
class _Stage:
    """Nodes that ONNX Runtime runs at once, and the products that follow.

    Attributes:
        nodes: What ONNX Runtime runs.
        products: What is computed here, afterwards.
        session: The nodes as a model of their own, and its outputs; made when first run.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    products: list[onnx.NodeProto] = field(default_factory=list)
    session: tuple[ort.InferenceSession, list[str]] | None = None


class Emulation:
    """One network on the kernels of another machine; not for the serving path."""

    def __init__(self, weights: bytes, kernels: Kernels) -> None:
        """Optimise the network and cut it.

        Args:
            weights: An ONNX model.
            kernels: What becomes of a pair of products that leaves 16 bits.

        Raises:
            EmulationImpossible: A product that may saturate is in an operator not known here, or
                this is no x86.
            ModelUnusable: The runtime can't load it with this setting.
        """
        self._saturates = kernels != "ideal"
        self._model = _optimised(weights, exact_int8=kernels == "exact")
        graph = self._model.graph
        self._constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self._types = {each.name: each.type.tensor_type.elem_type for each in graph.value_info}
        cut = [self._is_cut(node) for node in graph.node]
        self.is_needed = any(cut)
        if self.is_needed and not is_x86():
            raise EmulationImpossible(
                "products may saturate on x86 without VNNI, which can't be emulated on another "
                "kind of machine: judge the model on an x86"
            )
        self._stages = _stages(graph.node, cut)

    def run(self, inputs: Tensors, output: str) -> FloatArray:
        """Ask the network; n cases give float32 of shape (n, m)."""
        known: dict[str, Array] = {"": np.empty(0), **self._constants, **inputs}
        wanted = {name for node in self._model.graph.node for name in _inputs(node)} | {output}
        for stage in self._stages:
            if stage.nodes:
                known.update(self._run_nodes(stage, known, wanted))
            for node in stage.products:
                compute = OPERATORS[node.op_type]
                values = [known[name] for name in node.input]
                known[node.output[0]] = compute(Operator(node, self._saturates), values)
        return np.asarray(known[output], dtype=np.float32)

    def _is_cut(self, node: onnx.NodeProto) -> bool:
        """Whether a node's products may saturate on those kernels.

        Raises:
            EmulationImpossible: They may, and can't be computed here.
        """
        if any(each.op_type in {*OPERATORS, *_UNKNOWN} for each in _inner(node)):
            raise EmulationImpossible(
                "an int8 product in a branch or a loop can't be computed here"
            )
        if node.op_type in _UNKNOWN:
            known = [self._constants.get(node.input[at]) for at in _UNKNOWN[node.op_type]]
            if any(each is None or can_saturate(_flat(each)) for each in known):
                raise EmulationImpossible(f"{node.op_type} may saturate and can't be computed here")
        if node.op_type not in OPERATORS:
            return False
        name = node.input[WEIGHTS[node.op_type]]
        if name not in self._constants:
            return self._types.get(name) != onnx.TensorProto.UINT8
        weights = self._constants[name]
        return not is_depthwise(node, weights) and can_saturate(matrix_of(node, weights))

    def _run_nodes(
        self, stage: _Stage, known: Mapping[str, Array], wanted: set[str]
    ) -> dict[str, Array]:
        if stage.session is None:
            stage.session = self._session(stage.nodes, known, wanted)
        session, outputs = stage.session
        given = {each.name: known[each.name] for each in session.get_inputs()}
        return dict(zip(outputs, session.run(outputs, given), strict=True))

    def _session(
        self, nodes: Sequence[onnx.NodeProto], known: Mapping[str, Array], wanted: set[str]
    ) -> tuple[ort.InferenceSession, list[str]]:
        """The nodes as a model of their own; types of its inputs are those of the values."""
        made = {name for node in nodes for name in node.output if name}
        asked = {name for node in nodes for name in _inputs(node)} - made - {""}
        given = [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(known[name].dtype), [None] * known[name].ndim
            )
            for name in sorted(asked - self._constants.keys())
        ]
        outputs = sorted(made & wanted)
        graph = helper.make_graph(
            list(nodes),
            "stage",
            given,
            [onnx.ValueInfoProto(name=name) for name in outputs],
            [each for each in self._model.graph.initializer if each.name in asked],
        )
        model = helper.make_model(graph, opset_imports=self._model.opset_import)
        model.ir_version = self._model.ir_version
        return _open(model.SerializeToString(), _plain_options()), outputs


def _stages(nodes: Sequence[onnx.NodeProto], cut: Sequence[bool]) -> list[_Stage]:
    """Sort nodes into stages: each needs nothing but what the stages before it made."""
    stages = [_Stage()]
    made_in: dict[str, int] = {}
    for node, is_cut in zip(nodes, cut, strict=True):
        place = max((made_in.get(name, 0) for name in _inputs(node)), default=0)
        (stages[place].products if is_cut else stages[place].nodes).append(node)
        made_in.update(dict.fromkeys(node.output, place + is_cut))
        if place + is_cut == len(stages):
            stages.append(_Stage())
    return stages


def _inputs(node: onnx.NodeProto) -> Iterator[str]:
    """Every name that a node reads, those of the graphs inside it included."""
    yield from node.input
    for inner in _inner(node):
        yield from inner.input


def _inner(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """The nodes of the graphs inside a node: branches and loops."""
    for each in node.attribute:
        graphs = [each.g] if each.type == onnx.AttributeProto.GRAPH else each.graphs
        for inner in (inner for graph in graphs for inner in graph.node):
            yield inner
            yield from _inner(inner)


def _flat(weights: Array) -> Array:
    """Weights of an unknown order: any two may be neighbours, so the largest are put together."""
    largest = np.sort(weights.ravel())
    return np.stack([largest[[0, -1]], largest[[1, -2]]])


def _optimised(weights: bytes, *, exact_int8: bool) -> onnx.ModelProto:
    """The network as ONNX Runtime makes it ready for a CPU, before layouts are changed."""
    with TemporaryDirectory() as folder:
        options = _plain_options()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.add_session_config_entry(EXACT_INT8_KEY, str(int(exact_int8)))
        try:
            _open(weights, options)
        except Exception as error:  # the runtime's own error types are not public
            setting = f" with {EXACT_INT8_KEY}=1, as Nadi sets on x86 without VNNI"
            raise ModelUnusable(
                f"the inference runtime can't load these weights{setting if exact_int8 else ''}"
            ) from error
        return onnx.load(options.optimized_model_filepath)


def _plain_options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _open(model: bytes, options: ort.SessionOptions) -> ort.InferenceSession:
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
