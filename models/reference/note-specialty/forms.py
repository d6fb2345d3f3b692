# ruff: noqa: INP001 - a folder of one model's files, not a package
"""The int8 forms of note-specialty that were tried, and what each costs.

A transformer's activations have a few very large values. A form that gives a whole tensor one scale
(dynamic int8) loses the small ones; a form that gives each block of 128 its own (weights only) does
not, and is slower. The mixed ones use the second where the first hurts: in the wide layers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from models.measure import Measurement, measure
from models.onnx_engine import open_session
from models.quantize import dynamic_int8
from models.statistics import Score
from models.tensors import Tensors
from models.weight_only import weight_only

LENGTHS = (32, 128)
_WIDE = ("/narrow/", "/widen/", "/head/")


@dataclass(frozen=True)
class Form:
    """One way to store the network.

    Attributes:
        name: What it is called in the card.
        format: What the manifest calls it.
        content: The ONNX model.
        costs: Tokens of a note → what serving takes.
    """

    name: str
    format: str
    content: bytes
    costs: dict[int, Measurement]

    def row(self, flips: str) -> str:
        """Give its line of the card's table."""
        first = self.costs[LENGTHS[0]]
        times = " | ".join(
            f"{self.costs[length].p50_ms[size]:.1f}" for length in LENGTHS for size in (1, 16)
        )
        megabytes = len(self.content) / 1e6
        return (
            f"| {self.name} | {megabytes:.1f} | {times} | {first.load_ms:.0f} "
            f"| {first.model_mb:.0f} | {flips} |\n"
        )


def forms(fp32: bytes) -> dict[str, tuple[str, Callable[[], bytes]]]:
    """Name → format and how it is made; the fp32 network first."""
    narrow, wide = _matrices(fp32, _WIDE[:1]), _matrices(fp32, _WIDE)
    return {
        "fp32": ("onnx-fp32", lambda: fp32),
        "dynamic, 8-bit weights": ("onnx-int8-dynamic", lambda: _dynamic(fp32, seven_bit=False)),
        "dynamic, 7-bit weights": ("onnx-int8-dynamic", lambda: _dynamic(fp32)),
        "dynamic 7-bit, narrowing layers by block": (
            "onnx-int8-dynamic",
            lambda: weight_only(_dynamic(fp32, narrow, tables=False)),
        ),
        "dynamic 7-bit attention, the rest by block": (
            "onnx-int8-dynamic",
            lambda: weight_only(_dynamic(fp32, wide, tables=False)),
        ),
        "weights only, blocks of 128": ("onnx-int8-weights", lambda: weight_only(fp32)),
        "weights only, 7 bits, blocks of 64": (
            "onnx-int8-weights",
            lambda: weight_only(fp32, block=64, seven_bit=True),
        ),
    }


def answers(model: bytes, batches: Sequence[Tensors], *, exact_int8: bool = False) -> Score:
    """Answer notes one by one, as the gateway does when it is not busy: (n, classes)."""
    session = open_session(model, exact_int8=exact_int8)
    return np.concatenate([session.run(None, dict(each))[0] for each in batches]).astype(float)


def cost(model: bytes) -> dict[int, Measurement]:
    """Measure serving of notes of two lengths."""
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
    return dynamic_int8(fp32, keep_fp32=keep, operators=operators, seven_bit=seven_bit)


def _matrices(fp32: bytes, parts: tuple[str, ...]) -> tuple[str, ...]:
    nodes = onnx.load_from_string(fp32).graph.node
    products = (each.name for each in nodes if each.op_type in {"MatMul", "Gemm"})
    return tuple(name for name in products if any(part in name for part in parts))
