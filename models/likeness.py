"""Tells what is no image of the model's kind at all: a plausibility check on its tensor.

Two numbers, neither of which changes with brightness or contrast: how the coarse image correlates
with the mean of the training images, and how much of its grey levels is in edges.
"""

import numpy as np
from PIL import Image

from models.manifest_inputs import Likeness
from models.tensors import FloatArray

_NOTHING = 1e-6


def is_alike(tensor: FloatArray, spec: Likeness) -> bool:
    """Say whether an image can be one of those that the model was made for.

    Args:
        tensor: The image as the model is given it, float32 of shape (channels, height, width).
        spec: The manifest's thresholds.
    """
    plane = np.asarray(tensor.mean(axis=0), dtype=np.float32)
    if plane.std() < _NOTHING:
        return False
    low, high = spec.edges
    return correlation(plane, spec) >= spec.min_correlation and low <= edges(plane) <= high


def correlation(plane: FloatArray, spec: Likeness) -> float:
    """Give Pearson's correlation of a plane, made as coarse, with the typical image."""
    typical = np.asarray(spec.typical, dtype=np.float32)
    rows, columns = typical.shape
    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    coarse = np.asarray(image.resize((columns, rows), Image.Resampling.BOX), dtype=np.float32)
    return float((_standard(coarse) * _standard(typical)).mean())


def edges(plane: FloatArray) -> float:
    """Give the mean absolute Laplacian (four neighbours) in standard deviations of the plane."""
    inner = plane[1:-1, 1:-1]
    around = plane[:-2, 1:-1] + plane[2:, 1:-1] + plane[1:-1, :-2] + plane[1:-1, 2:]
    return float(np.abs(4 * inner - around).mean() / max(float(plane.std()), _NOTHING))


def _standard(plane: FloatArray) -> FloatArray:
    spread = max(float(plane.std()), _NOTHING)
    return np.asarray((plane - plane.mean()) / spread, dtype=np.float32)
