# ruff: noqa: INP001 - a folder of one model's files, not a package
"""The int8 forms of note-specialty's encoder that were tried, and what each costs.

A transformer's activations have a few very large values. A form that gives a whole tensor one scale
(dynamic int8) loses the small ones; a form that gives each block its own (weights only) does not,
and is slower. The mixed ones use the second where the first hurts: in the wide layers. The head is
small and stays in fp32.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx

from models.measure import Measurement, measure
from models.quantize import dynamic_int8
from models.weight_only import weight_only

LENGTHS = (32, 128)
_WIDE = ("/narrow/", "/widen/")


@dataclass(frozen=True)
class Form:
    """One way to store the encoder.

    Attributes:
        name: What it is called in the card.
        format: What the manifest calls it.
        make: fp32 encoder → this form.
    """

    name: str
    format: str
    make: Callable[[bytes], bytes]


def cost(model: bytes) -> dict[int, Measurement]:
    """Measure serving of notes of two lengths: tokens of a note → what it takes."""
    generator = np.random.default_rng(0)
    found = {}
    for length in LENGTHS:
        ids = generator.integers(1000, 30000, (1, length))
        sample = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        found[length] = measure(model, sample, exact_int8=False)
    return found


def _dynamic(
    fp32: bytes, keep: tuple[str, ...] = (), *, tables: bool = True, seven_bit: bool = True
) -> bytes:
    operators = ("MatMul", "Gather") if tables else ("MatMul",)
    kept = _matrices(fp32, keep)
    return dynamic_int8(fp32, keep_fp32=kept, operators=operators, seven_bit=seven_bit)


def _matrices(fp32: bytes, parts: tuple[str, ...]) -> tuple[str, ...]:
    nodes = onnx.load_from_string(fp32).graph.node
    products = (each.name for each in nodes if each.op_type in {"MatMul", "Gemm"})
    return tuple(name for name in products if any(part in name for part in parts))


FORMS = (
    Form(
        "dynamic, 8-bit weights", "onnx-int8-dynamic", lambda fp32: _dynamic(fp32, seven_bit=False)
    ),
    Form("dynamic, 7-bit weights", "onnx-int8-dynamic", _dynamic),
    Form(
        "dynamic 7-bit, narrowing layers by block",
        "onnx-int8-dynamic",
        lambda fp32: weight_only(_dynamic(fp32, _WIDE[:1], tables=False)),
    ),
    Form(
        "dynamic 7-bit attention, the rest by block",
        "onnx-int8-dynamic",
        lambda fp32: weight_only(_dynamic(fp32, _WIDE, tables=False)),
    ),
    Form("weights only, blocks of 128", "onnx-int8-weights", weight_only),
    Form(
        "weights only, 7 bits, blocks of 64",
        "onnx-int8-weights",
        lambda fp32: weight_only(fp32, block=64, seven_bit=True),
    ),
)
