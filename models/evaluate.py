"""Runs a quantized model and its fp32 twin under the kernel settings it may meet."""

import numpy as np

from models.runtime import open_session
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
from models.tensors import FloatArray

__all__ = [
    "Estimate",
    "Measure",
    "auroc",
    "bootstrap",
    "brier",
    "calibration_error",
    "quantization_gap",
    "sensitivity",
    "specificity",
]


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
