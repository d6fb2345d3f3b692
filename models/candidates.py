"""The ways to quantize a network that are tried, each as a recipe that can leave nodes alone.

Tables that are looked up (embeddings) are kept in blocks of 8 bits by every recipe for int8: no
product is taken of them, so it costs next to nothing, and in a text model they are half the file.

Where a node is left alone by `dynamic`, its weights are kept in blocks of 8 bits too, and what it
is given is rounded block by block: a few very large activations, as transformers have them, then
spoil their own block only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx

from models.calibration import Calibration
from models.manifest import WeightsFormat
from models.quantize import (
    CONVOLUTION_OPERATORS,
    DENSE_OPERATORS,
    StaticInt8,
    dynamic_int8,
    prepared,
)
from models.sensitivity import Quantize
from models.tensors import Tensors
from models.weight_only import Bits, compact_tables, weight_only

RECIPES: Mapping[str, tuple[WeightsFormat, str]] = {
    "dynamic": ("onnx-int8-dynamic", "7-bit weights; ranges found at each run"),
    "static-minmax": ("onnx-int8-qdq", "7-bit weights; ranges are the extremes of calibration"),
    "static-entropy": ("onnx-int8-qdq", "7-bit weights; ranges that tell the most of calibration"),
    "static-percentile": ("onnx-int8-qdq", "7-bit weights; ranges without the outermost 0.01 %"),
    "weights-int8": ("onnx-int8-weights", "8-bit weights in blocks; activations stay fp32"),
    "weights-int4": ("onnx-int4-weights", "4-bit weights in blocks; activations stay fp32"),
}
"""Name → what it writes, and how in words."""

_CALIBRATIONS: Mapping[str, Calibration] = {
    "static-minmax": "minmax",
    "static-entropy": "entropy",
    "static-percentile": "percentile",
}
_BITS: Mapping[str, Bits] = {"weights-int8": 8, "weights-int4": 4}
_LEAVABLE = {
    "dynamic": ("MatMul", "Gemm", "Attention", "LSTM"),
    "static": (*DENSE_OPERATORS, "Add", "Concat"),
    "weights": ("MatMul", "Gemm", "Gather"),
}


@dataclass(frozen=True)
class Recipe:
    """One way to quantize a network.

    Attributes:
        name: Short name, for example `static-minmax`.
        quantize: Quantizes the network but for some nodes.
        nodes: The nodes that can be left alone.
    """

    name: str
    quantize: Quantize
    nodes: tuple[str, ...]


def family_of(name: str) -> str:
    """The first word of a recipe's name: those of a family differ in a setting only."""
    return name.split("-", maxsplit=1)[0]


def recipes(fp32: bytes, batches: Sequence[Tensors], names: Sequence[str]) -> tuple[Recipe, ...]:
    """Make the recipes of these names for a network.

    Args:
        fp32: The ONNX model.
        batches: For calibration.
        names: Of `RECIPES`.

    Raises:
        NotQuantizable: The network can't be prepared.
    """
    ready = prepared(fp32)
    graph = onnx.load_from_string(ready).graph
    constants = {each.name for each in graph.initializer}

    def leavable(family: str) -> tuple[str, ...]:
        nodes = (node for node in graph.node if node.op_type in _LEAVABLE[family])
        # A product of two activations is in fp32 anyway.
        return tuple(
            node.name
            for node in nodes
            if node.op_type != "MatMul" or not constants.isdisjoint(node.input)
        )

    return tuple(
        Recipe(name, _quantizer(name, ready, batches), leavable(family_of(name))) for name in names
    )


def _quantizer(name: str, ready: bytes, batches: Sequence[Tensors]) -> Quantize:
    if name in _BITS:
        return lambda kept: weight_only(ready, bits=_BITS[name], keep_fp32=kept)
    if name in _CALIBRATIONS:
        static = StaticInt8(
            ready, batches, operators=CONVOLUTION_OPERATORS, calibration=_CALIBRATIONS[name]
        )
        return lambda kept: compact_tables(static(kept))
    return lambda kept: weight_only(dynamic_int8(ready, keep_fp32=kept))
