"""How good a model is, with how much certainty, and whether its quantized form is still it.

* Every measure has a 95 % interval by bootstrap over patients (percentile method, seeded).
* The accuracy gate compares int8 to its fp32 twin under both int8 kernel settings of the runtime,
  because the machine that serves is not the one that trained.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; Hanley and
McNeil, Radiology 143 (1982) for AUROC as a rank statistic; Brier, Monthly Weather Review 78 (1950).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.runtime import open_session
from models.tensors import FloatArray

Truth = npt.NDArray[np.bool_]
Score = npt.NDArray[np.float64]
Measure = Callable[[Truth, Score], float]

_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """A measure and its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def auroc(truth: Truth, score: Score) -> float:
    """Chance that a patient with the condition scores above one without; ties count half."""
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    positives = int(truth.sum())
    negatives = len(truth) - positives
    above = ranks[truth].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def brier(truth: Truth, score: Score) -> float:
    """Mean squared distance of a probability to what was the case."""
    return float(np.mean((score - truth) ** 2))


def calibration_error(truth: Truth, score: Score, *, bins: int = 10) -> float:
    """Expected calibration error: |mean probability - observed share|, over equal-width bins."""
    place = np.minimum((score * bins).astype(int), bins - 1)
    gaps = (abs((score - truth)[place == each].sum()) for each in range(bins))
    return float(sum(gaps) / len(score))


def sensitivity(threshold: float) -> Measure:
    """Share of those with the condition that score at least `threshold`."""
    return lambda truth, score: float(np.mean(score[truth] >= threshold))


def specificity(threshold: float) -> Measure:
    """Share of those without the condition that score below `threshold`."""
    return lambda truth, score: float(np.mean(score[~truth] < threshold))


def bootstrap(
    measure: Measure, truth: Truth, score: Score, *, draws: int = 2000, seed: int = 0
) -> Estimate:
    """A measure with its interval, by drawing patients with replacement.

    Draws that lack one of the two classes are left out: no measure here is defined on them.

    Raises:
        ValueError: One of the classes is absent, so there is nothing to measure.
    """
    if truth.all() or not truth.any():
        raise ValueError("both classes are needed")
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        drawn = generator.integers(0, len(truth), len(truth))
        if 0 < truth[drawn].sum() < len(drawn):
            values.append(measure(truth[drawn], score[drawn]))
    low, high = np.percentile(values, _INTERVAL)
    return Estimate(measure(truth, score), float(low), float(high))


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
