"""What x86 kernels without VNNI make of an int8 product whose weights are signed.

Those kernels multiply unsigned activations with signed weights and add the products of two
neighbours along the summed axis into a *signed 16-bit* number, which saturates: 255 x 127 twice is
64,770 and becomes 32,767. With VNNI, or with weights of 7 bits (2 x 255 x 64 = 32,640), nothing is
lost. Here the same sums are made in NumPy: the exact product, less what saturation takes away; that
has to be worked out only for the few pairs of weights that can reach the limit at all.

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, VPMADDUBSW. That real AVX2
kernels agree to the last bit was shown once: docs/decisions/0015-kernel-classes.md.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[Any]
Sums = npt.NDArray[np.int64]

_LOW, _HIGH = np.iinfo(np.int16).min, np.iinfo(np.int16).max
_LARGEST_ACTIVATION = 255
_SUMS_AT_ONCE = 4_000_000


def can_saturate(weights: Integers) -> bool:
    """Whether any activations could make a pair of products of these weights saturate.

    Args:
        weights: (k, n); `k` is the summed axis.
    """
    if weights.dtype != np.int8:
        return False
    most = np.full(len(weights) + len(weights) % 2, _LARGEST_ACTIVATION)
    return bool(_reach_limit(most, _pairs(weights)).any())


def product(activations: Integers, weights: Integers, *, saturates: bool) -> Sums:
    """The product of two matrices as such a kernel computes it.

    Args:
        activations: (m, k), zero points not yet subtracted.
        weights: (k, n), likewise.
        saturates: Whether pairs saturate; only of uint8 with int8 they ever do.

    Returns:
        (m, n).
    """
    # float64 holds these sums exactly, and is multiplied by BLAS where integers are not.
    exact = (activations.astype(np.float64) @ weights.astype(np.float64)).astype(np.int64)
    if not saturates or activations.dtype != np.uint8 or weights.dtype != np.int8:
        return exact
    return exact - _lost(activations, weights)


def _lost(activations: Integers, weights: Integers) -> Sums:
    """What saturation takes away from each sum."""
    lost = np.zeros((len(activations), weights.shape[1]), dtype=np.int64)
    left = np.pad(activations, ((0, 0), (0, activations.shape[1] % 2))).astype(np.int32)
    pairs = _pairs(weights)
    columns, places = np.nonzero(_reach_limit(left.max(axis=0, initial=0), pairs).T)
    step = max(1, _SUMS_AT_ONCE // max(len(left), 1))
    for start in range(0, len(columns), step):
        column, place = columns[start : start + step], places[start : start + step]
        first, second = pairs[place, :, column].T
        sums = left[:, 2 * place] * first + left[:, 2 * place + 1] * second
        excess = sums - np.clip(sums, _LOW, _HIGH)
        changes = np.flatnonzero(np.diff(column, prepend=-1))
        lost[:, column[changes]] += np.add.reduceat(excess, changes, axis=1)
    return lost


def _pairs(weights: Integers) -> Integers:
    """(k, n) → (pairs, 2, n), filled up with 0 where k is odd."""
    filled = np.pad(weights, ((0, len(weights) % 2), (0, 0))).astype(np.int32)
    return filled.reshape(-1, 2, weights.shape[1])


def _reach_limit(largest: Integers, pairs: Integers) -> npt.NDArray[np.bool_]:
    """Which pairs, by column, leave 16 bits where each activation may be up to its `largest`."""
    weighted = pairs * largest.reshape(-1, 2, 1)
    above = np.maximum(weighted, 0).sum(axis=1) > _HIGH
    below = np.minimum(weighted, 0).sum(axis=1) < _LOW
    return np.asarray(above | below)
