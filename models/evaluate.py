"""Runs a quantized model and its fp32 twin under every kernel setting it may meet, and judges it.

The settings of an int8 model in ONNX, all of which must be passed:

* `vnni`: products are added exactly, as with VNNI instructions or on Arm;
* `avx2-exact`: x86 without VNNI with `session.x64quantprecision=1`, as Nadi runs it there;
* `avx2`: the same machine with the runtime's default, as anyone else may run the file.

What this machine's own kernels don't show is emulated (`models.emulation`), or proved to be no
different from the weights alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnxruntime as ort

from models.emulation import Emulation
from models.runtime import needs_exact_int8, open_session
from models.statistics import (
    Estimate,
    Measure,
    auroc,
    bootstrap,
    brier,
    calibration_error,
    sensitivity,
    specificity,
)
from models.tensors import FloatArray, Tensors, parts_of

__all__ = [
    "Estimate",
    "Measure",
    "answers",
    "auroc",
    "bootstrap",
    "brier",
    "calibration_error",
    "quantization_gap",
    "sensitivity",
    "specificity",
]

Setting = Literal["vnni", "avx2-exact", "avx2"]
Method = Literal["run", "emulated", "proved"]

_AT_ONCE = 64


@dataclass(frozen=True)
class Answers:
    """What a model answers under each setting.

    Attributes:
        scores: Setting → output tensor, (n, m).
        methods: Setting → how that is known: `run` here, `emulated`, or `proved` to be as `vnni`.
    """

    scores: Mapping[Setting, FloatArray]
    methods: Mapping[Setting, Method]


def answers(weights: bytes, inputs: Tensors, output: str) -> Answers:
    """Ask an ONNX model under every setting of the int8 kernels.

    Args:
        weights: The model.
        inputs: The graph's inputs by name; axis 0 counts the cases.
        output: Name of the graph's output.

    Raises:
        ModelUnusable: The runtime can't load it.
        EmulationImpossible: It has an integer operator whose saturation can't be worked out.
    """
    others: dict[Setting, Emulation] = {
        "avx2-exact": Emulation(weights, "exact"),
        "avx2": Emulation(weights, "saturating"),
    }
    scores: dict[Setting, FloatArray] = {}
    methods: dict[Setting, Method] = {"vnni": "run", "avx2-exact": "proved", "avx2": "proved"}
    if needs_exact_int8() and others["avx2-exact"].is_needed:
        scores["vnni"] = _in_parts(Emulation(weights, "ideal"), inputs, output)
        methods["vnni"] = "emulated"
    else:
        session = open_session(weights, exact_int8=needs_exact_int8())
        scores["vnni"] = _in_parts(_Plain(session), inputs, output)
    for setting, emulation in others.items():
        if emulation.is_needed:
            methods[setting] = "emulated"
            scores[setting] = _in_parts(emulation, inputs, output)
        else:
            scores[setting] = scores["vnni"]
    return Answers(scores, methods)


@dataclass(frozen=True)
class _Plain:
    """A session that is asked as an emulation is."""

    session: ort.InferenceSession

    def run(self, inputs: Tensors, output: str) -> FloatArray:
        return np.asarray(self.session.run([output], dict(inputs))[0], dtype=np.float32)


def _in_parts(network: _Plain | Emulation, inputs: Tensors, output: str) -> FloatArray:
    return np.concatenate([network.run(part, output) for part in parts_of(inputs, _AT_ONCE)])


def quantization_gap(int8: bytes, fp32: bytes, batch: FloatArray) -> dict[bool, float]:
    """Largest difference between a quantized model and its twin on a batch.

    Args:
        int8: The quantized ONNX model.
        fp32: Its twin, with the same input and output.
        batch: Inputs.

    Returns:
        Whether kernels that can't saturate were chosen → largest absolute difference.
    """
    expected = _answer(fp32, batch, exact_int8=True)
    return {
        exact: float(np.abs(_answer(int8, batch, exact_int8=exact) - expected).max())
        for exact in (False, True)
    }


def _answer(weights: bytes, batch: FloatArray, *, exact_int8: bool) -> FloatArray:
    session = open_session(weights, exact_int8=exact_int8)
    (answer,) = session.run(None, {session.get_inputs()[0].name: batch})
    return np.asarray(answer, dtype=np.float32)
