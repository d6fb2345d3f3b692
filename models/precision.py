"""Which parts of an ONNX network are narrower than float32, whatever its manifest says.

The gate is asked for quantized weights only, so the word `onnx-fp32` in a manifest is not taken on
trust: a network with an operator that rounds, a product of integers, or weights of fewer than 32
bits is none. Branches, loops and constants inside nodes are looked at too. Weights that were
rounded and are stored as float32 again are a float32 network like any other: nothing is rounded
when it runs, and its report is about just those weights.

Source: ONNX operators (https://onnx.ai/onnx/operators/); ONNX Runtime, "Contrib Operators".
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

_Block = onnx.GraphProto | onnx.FunctionProto

_ROUNDING = re.compile(r"[Qq]uant|^Q[A-Z]|Integer(ToFloat)?$|NBits|Bnb4|FpQ4|BFP")
"""Operators that quantize, dequantize, or multiply what was quantized."""

_MOST_CONSTANTS = 1
"""A single narrow number is a flag or a size; a zero point beside it is found by its operator."""

_WIDE = frozenset(
    {
        TensorProto.UNDEFINED,
        TensorProto.FLOAT,
        TensorProto.DOUBLE,
        TensorProto.COMPLEX64,
        TensorProto.COMPLEX128,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.UINT32,
        TensorProto.UINT64,
        TensorProto.BOOL,
        TensorProto.STRING,
    }
)
"""Whatever is not here, types of later versions of ONNX included, has fewer than 32 bits."""


def narrow_parts(model: onnx.ModelProto) -> tuple[str, ...]:
    """What is narrower than float32, for people: `DequantizeLinear (4)`, `int8 weights (2)`.

    Returns:
        Each kind of operator or weights with how many there are; empty for a float32 network.
    """
    found: Counter[str] = Counter()
    for block in (*_blocks(model), *model.functions):
        found.update(node.op_type for node in block.node if _ROUNDING.search(node.op_type))
        found.update(f"{_name(each)} weights" for each in _tensors(block) if _is_narrow(each))
    return tuple(f"{kind} ({count})" for kind, count in sorted(found.items()))


def narrow_parts_of(file: Path) -> tuple[str, ...]:
    """The same of a file; empty where it can't be read as ONNX, which whoever loads it says."""
    try:
        return narrow_parts(onnx.load(file, load_external_data=False))
    except (DecodeError, RecursionError, OSError):
        return ()


def _blocks(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    waiting = [model.graph]
    while waiting:
        block = waiting.pop()
        yield block
        for attribute in _attributes(block):
            waiting += [attribute.g] if attribute.HasField("g") else []
            waiting += attribute.graphs


def _attributes(block: _Block) -> Iterator[onnx.AttributeProto]:
    return (attribute for node in block.node for attribute in node.attribute)


def _tensors(block: _Block) -> Iterator[onnx.TensorProto]:
    if isinstance(block, onnx.GraphProto):
        yield from block.initializer
        yield from (each.values for each in block.sparse_initializer)
    for attribute in _attributes(block):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        if attribute.HasField("sparse_tensor"):
            yield attribute.sparse_tensor.values
        yield from (each.values for each in attribute.sparse_tensors)


def _is_narrow(tensor: onnx.TensorProto) -> bool:
    count = 1
    for size in tensor.dims:
        count *= size
    return tensor.data_type not in _WIDE and count > _MOST_CONSTANTS


def _name(tensor: onnx.TensorProto) -> str:
    known: dict[int, str] = {number: name for name, number in TensorProto.DataType.items()}
    return known.get(tensor.data_type, f"type {tensor.data_type}").lower()
