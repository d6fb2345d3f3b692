"""How good a model is, and with how much certainty.

* A measure of a set of cases is a function of the cases' weights, so that all draws of a bootstrap
  are one calculation.
* Draws are of patients, not of cases: the cases of one patient stay together.
* A loss between two forms of a model is paired: both are measured on the same draw.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; Hanley and
McNeil, Radiology 143 (1982) for AUROC as a rank statistic; Brier, Monthly Weather Review 78 (1950);
Naeini, Cooper and Hauskrecht, AAAI 2015, for the calibration error.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Truth = npt.NDArray[np.bool_]
Score = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Measure = Callable[[Truth, Score], float]
Weights = npt.NDArray[np.float64]
WeightedMeasure = Callable[[Weights], Score]
"""Weights of shape (draws, cases) → one value per draw; NaN where a draw can't be measured."""

_INTERVAL = (2.5, 97.5)
_DRAWS_AT_ONCE = 250


@dataclass(frozen=True)
class Estimate:
    """A measure and its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Paired:
    """Two forms of a model, measured on the same patients.

    Attributes:
        before: The original's measure.
        after: The other form's measure.
        loss: How much worse the other form is; negative where it is better.
        bound: Upper bound of the loss's one-sided interval.
    """

    before: Estimate
    after: Estimate
    loss: float
    bound: float


def auroc(truth: Truth, score: Score) -> float:
    """Chance that a patient with the condition scores above one without; ties count half."""
    return float(auroc_of(truth, score)(np.ones((1, len(truth))))[0])


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
    """A measure with its interval, by drawing patients with replacement (percentile method).

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


# --- measures of weighted cases -------------------------------------------------------------


def auroc_of(truth: Truth, score: Score) -> WeightedMeasure:
    """AUROC; NaN for a draw that lacks one of the two classes."""
    order = np.argsort(score, kind="stable")
    sick = truth[order].astype(np.float64)
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf))

    def measure(weights: Weights) -> Score:
        drawn = weights[:, order]
        positive = np.add.reduceat(drawn * sick, starts, axis=1)
        negative = np.add.reduceat(drawn * (1 - sick), starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative / 2
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        return _ratio((positive * below).sum(axis=1), pairs)

    return measure


def mean_of(per_case: Score) -> WeightedMeasure:
    """The mean of a number that each case has: accuracy, mean absolute error."""
    return lambda weights: weights @ per_case / weights.sum(axis=1)


def root_mean_of(per_case: Score) -> WeightedMeasure:
    """The root of the mean: root mean squared error from squared errors."""
    mean = mean_of(per_case)
    return lambda weights: np.sqrt(mean(weights))


def macro_f1_of(truth: Labels, predicted: Labels) -> WeightedMeasure:
    """The mean F1 of the classes that occur; a class absent from a draw is left out of it."""
    classes = np.union1d(truth, predicted)
    real = (truth[:, None] == classes).astype(np.float64)
    said = (predicted[:, None] == classes).astype(np.float64)

    def measure(weights: Weights) -> Score:
        both = 2 * (weights @ (real * said))
        scores = _ratio(both, weights @ real + weights @ said)
        return np.asarray(np.nanmean(scores, axis=1))  # a draw is never empty: one class is there

    return measure


def average_of(measures: tuple[WeightedMeasure, ...]) -> WeightedMeasure:
    """The mean of several measures, such as one per label; of a draw, of those that it allows."""

    def measure(weights: Weights) -> Score:
        each = np.stack([one(weights) for one in measures])
        known = np.isfinite(each)
        return _ratio(np.where(known, each, 0).sum(axis=0), known.sum(axis=0).astype(np.float64))

    return measure


# --- intervals ------------------------------------------------------------------------------


def compare(
    before: WeightedMeasure,
    after: WeightedMeasure,
    patients: Labels,
    *,
    confidence: float = 0.95,
    more_is_better: bool = True,
    draws: int = 2000,
) -> Paired:
    """Measure two forms of a model on the same draws of patients.

    Args:
        before: Measure of the original's answers.
        after: Measure of the other form's answers to the same cases.
        patients: Number of the patient of each case, from 0, shape (cases,).
        confidence: Of the loss's one-sided interval.
        more_is_better: Whether a larger measure is the better one.
        draws: How many times the patients are drawn; always the same ones.

    Raises:
        ValueError: The measure is not defined on these cases, for example one class is absent.
    """
    everyone = np.ones((1, len(patients)))
    value, other = float(before(everyone)[0]), float(after(everyone)[0])
    if not np.isfinite([value, other]).all():
        raise ValueError("the measure is not defined on these cases: is a class absent?")
    pairs = [(before(each), after(each)) for each in _draws(patients, draws)]
    old, new = np.concatenate(pairs, axis=1)
    usable = np.isfinite(old) & np.isfinite(new)
    old, new = old[usable], new[usable]
    sign = 1.0 if more_is_better else -1.0
    return Paired(
        before=_estimate(value, old),
        after=_estimate(other, new),
        loss=sign * (value - other),
        bound=float(np.quantile(sign * (old - new), confidence)),
    )


def _draws(patients: Labels, draws: int, seed: int = 0) -> Iterator[Weights]:
    """How often each case is in each draw, a few hundred draws at a time."""
    generator = np.random.default_rng(seed)
    count = int(patients.max()) + 1
    for start in range(0, draws, _DRAWS_AT_ONCE):
        size = min(_DRAWS_AT_ONCE, draws - start)
        drawn = generator.integers(0, count, (size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        yield times[:, patients].astype(np.float64)


def _estimate(value: float, drawn: Score) -> Estimate:
    low, high = np.percentile(drawn, _INTERVAL)
    return Estimate(value, float(low), float(high))


def _ratio(part: Score, whole: Score) -> Score:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
