"""ONNX graphs with QuantizeLinear/DequantizeLinear pairs (QDQ): made small, and counted.

A training framework exports weights in fp32 with a pair behind each. `pack` stores what the pair
makes of them: int8 weights, and int32 biases at the product of the scales of input and weights,
which is how the integer kernels add them. Source: ONNX operator specification, QuantizeLinear;
ONNX Runtime, "Quantize ONNX models", on the representation of QDQ.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

_LAYERS = {"Conv", "Gemm", "MatMul"}
_INTEGER_LAYERS = {"QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat"}
_COPIES = {"Cast", "Identity"}
_HAS_BIAS = 3


class _Graph:
    """An ONNX graph with its constants at hand."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        _inline_constants(self.graph)
        self.constants = {each.name: numpy_helper.to_array(each) for each in self.graph.initializer}
        self.producer = {name: node for node in self.graph.node for name in node.output}

    def add(self, name: str, values: npt.NDArray[Any]) -> str:
        """Keep a constant under a name."""
        self.constants[name] = values
        return name

    def write(self) -> None:
        """Put back the constants that are still used, and only those."""
        used = {name for node in self.graph.node for name in node.input}
        del self.graph.initializer[:]
        self.graph.initializer.extend(
            numpy_helper.from_array(values, name)
            for name, values in self.constants.items()
            if name in used
        )


def pack(model: bytes) -> bytes:
    """Store quantized weights and biases as integers.

    Args:
        model: An ONNX model whose weights are fp32 with a QDQ pair behind each.

    Returns:
        The same model, about a quarter of the size.
    """
    proto = onnx.load_from_string(model)
    graph = _Graph(proto)
    _fold_copies(graph)
    _fold_weights(graph)
    _fold_biases(graph)
    graph.write()
    _shorten_names(proto.graph)
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString(deterministic=True))


def integer_layers(model: bytes) -> int:
    """How many layers the runtime runs in integers after its own rewriting."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.log_severity_level = 3
    with TemporaryDirectory() as folder:
        target = Path(folder) / "rewritten.onnx"
        options.optimized_model_filepath = str(target)
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        rewritten = onnx.load(target)
    return sum(node.op_type in _INTEGER_LAYERS for node in rewritten.graph.node)


def _inline_constants(graph: onnx.GraphProto) -> None:
    """Constant nodes → initializers, so that there is one place to look."""
    for node in list(graph.node):
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            graph.initializer.append(
                numpy_helper.from_array(numpy_helper.to_array(node.attribute[0].t), node.output[0])
            )
            graph.node.remove(node)


def _shorten_names(graph: onnx.GraphProto) -> None:
    """A small network's file is a good part names, as long as its module paths."""
    kept = {each.name for each in (*graph.input, *graph.output)}
    names: dict[str, str] = {"": ""}
    for number, node in enumerate(graph.node):
        node.name, node.doc_string = f"{node.op_type}{number}", ""
        for side in (node.input, node.output):
            for place, name in enumerate(side):
                side[place] = name if name in kept else names.setdefault(name, f"t{len(names)}")
    for each in graph.initializer:
        each.name = names[each.name]
    del graph.value_info[:]


def _fold_copies(graph: _Graph) -> None:
    """A Cast or an Identity of a constant is a constant; zero points come so."""
    for node in list(graph.graph.node):
        if node.op_type in _COPIES and node.input[0] in graph.constants:
            values = graph.constants[node.input[0]]
            if node.op_type == "Cast":
                values = values.astype(helper.tensor_dtype_to_np_dtype(node.attribute[0].i))
            graph.add(node.output[0], values)
            graph.graph.node.remove(node)


def _fold_weights(graph: _Graph) -> None:
    for node in list(graph.graph.node):
        if node.op_type == "QuantizeLinear" and node.input[0] in graph.constants:
            values, scale, zero = (graph.constants[name] for name in node.input)
            axis = _axis(node)
            graph.add(node.output[0], quantize(values, scale, zero, axis=axis))
            graph.graph.node.remove(node)


def _fold_biases(graph: _Graph) -> None:
    for layer, values, weights in list(_quantized_layers(graph)):
        bias = layer.input[2]
        scale = graph.constants[values.input[1]] * graph.constants[weights.input[1]]
        stored = np.rint(graph.constants[bias] / scale).astype(np.int32)
        names = [
            graph.add(f"{layer.name}/bias_int32", stored),
            graph.add(f"{layer.name}/bias_scale", np.asarray(scale, dtype=np.float32)),
        ]
        pair = helper.make_node(
            "DequantizeLinear", names, [f"{layer.name}/bias"], f"{layer.name}/bias_pair", axis=0
        )
        graph.graph.node.insert(list(graph.graph.node).index(layer), pair)
        layer.input[2] = pair.output[0]


def _quantized_layers(
    graph: _Graph,
) -> Iterator[tuple[onnx.NodeProto, onnx.NodeProto, onnx.NodeProto]]:
    """Layers with an fp32 bias, and the two that say how their input and weights are quantized."""
    for node in graph.graph.node:
        has_bias = node.op_type in _LAYERS and len(node.input) == _HAS_BIAS
        if has_bias and node.input[2] in graph.constants:
            values, weights = (graph.producer.get(name) for name in node.input[:2])
            if _is_pair(values) and _is_pair(weights):
                yield node, values, weights


def _is_pair(node: onnx.NodeProto | None) -> TypeGuard[onnx.NodeProto]:
    return node is not None and node.op_type == "DequantizeLinear"


def quantize(
    values: npt.NDArray[Any], scale: npt.NDArray[Any], zero: npt.NDArray[Any], *, axis: int
) -> npt.NDArray[Any]:
    """What QuantizeLinear makes of constants.

    Args:
        values: float32, any shape.
        scale: One number, or one per index of `axis`.
        zero: Zero points likewise, int8 or uint8; their type is the result's.
        axis: Which axis the scales belong to.
    """
    shape = [1] * values.ndim
    if scale.ndim:
        shape[axis] = -1
    limits = np.iinfo(zero.dtype)
    levels = np.rint(values / scale.reshape(shape)) + zero.reshape(shape).astype(np.int32)
    return np.asarray(np.clip(levels, limits.min, limits.max), dtype=zero.dtype)


def _axis(node: onnx.NodeProto) -> int:
    return next((each.i for each in node.attribute if each.name == "axis"), 1)
