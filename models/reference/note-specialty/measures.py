# ruff: noqa: INP001 - a folder of one model's files, not a package
"""What is measured of note-specialty on notes it has not seen, and how it is told in words.

Macro-F1 weighs every specialty alike, however rare; accuracy weighs every note alike. Intervals are
by bootstrap over groups of like notes, and a difference is measured on the same draws.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from corpus import CLASSES, Corpus
from scipy.optimize import minimize_scalar

from models.statistics import (
    Estimate,
    Labels,
    Score,
    WeightedMeasure,
    compare,
    macro_f1_of,
    mean_of,
)

NAMES = tuple(CLASSES)
_SEX = {
    "female": r"female|woman|women|lady|girl|she|her|gravida|pregnan\w+",
    "male": r"male|man|men|gentleman|boy|he|his|him",
}
_AGE = re.compile(r"\b(\d{1,3})[- ](year|month|week|day)s?[- ]old\b", re.IGNORECASE)
_AGE_BANDS = {"under 18 years": 18, "18 to 59 years": 60, "60 years and over": 130}


@dataclass(frozen=True)
class Difference:
    """Two answers to the same notes, by one measure.

    Attributes:
        first: Measure of the first answer.
        second: Measure of the second.
        value: How much the second is below the first.
        low: Of the 95 % interval of that.
        high: Likewise.
    """

    first: Estimate
    second: Estimate
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Two answers to the same notes, by both measures."""

    macro_f1: Difference
    accuracy: Difference


def macro_f1(truth: Labels, shares: Score) -> float:
    """Macro-F1 of the likeliest class."""
    return float(macro_f1_of(truth, shares.argmax(1))(np.ones((1, len(truth))))[0])


def compared(corpus: Corpus, first: Score, second: Score) -> Comparison:
    """Compare two answers, each of shape (n, classes)."""
    groups = np.unique(corpus.groups, return_inverse=True)[1]
    said = [answer.argmax(1) for answer in (first, second)]
    f1 = [macro_f1_of(corpus.truth, each) for each in said]
    right = [mean_of((corpus.truth == each).astype(np.float64)) for each in said]
    return Comparison(_difference(f1, groups), _difference(right, groups))


def _difference(pair: list[WeightedMeasure], groups: Labels) -> Difference:
    first, second = pair
    high = compare(first, second, groups, confidence=0.975)
    low = compare(second, first, groups, confidence=0.975)
    return Difference(high.before, high.after, high.loss, -low.bound, high.bound)


def temperature_of(logits: Score, truth: Labels) -> float:
    """Find what logits of unseen notes must be divided by to be as sure as they are right."""

    def surprise(temperature: float) -> float:
        shares = softmax(logits / temperature)
        return float(-np.log(shares[np.arange(len(truth)), truth] + 1e-12).mean())

    return float(minimize_scalar(surprise, bounds=(0.2, 10.0), method="bounded").x)


def softmax(logits: Score) -> Score:
    """Logits to probabilities, along the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def confidence_for(truth: Labels, shares: Score, *, right: float) -> float:
    """Find the least confidence from which on named specialties are right often enough.

    Args:
        truth: Class of each note.
        shares: Probabilities, of notes unseen in training.
        right: Share of named specialties that must be right.
    """
    sure, hits = shares.max(1), shares.argmax(1) == truth
    steps = np.arange(0.20, 0.96, 0.05)
    named = [(step, hits[sure >= step]) for step in steps]
    enough = [step for step, right_ones in named if right_ones.size and right_ones.mean() >= right]
    return round(float(min(enough, default=steps[-1])), 2)


def by_class(truth: Labels, shares: Score) -> list[tuple[str, int, float, float, float]]:
    """Give name, notes, precision, recall and F1 of each class."""
    said = shares.argmax(1)
    rows = []
    for place, name in enumerate(NAMES):
        both = int(((truth == place) & (said == place)).sum())
        real, told = int((truth == place).sum()), int((said == place).sum())
        rows.append((name, real, both / max(told, 1), both / max(real, 1),
                     2 * both / max(real + told, 1)))  # fmt: skip
    return rows


def confusions(truth: Labels, shares: Score, *, most: int = 8) -> list[tuple[str, str, int]]:
    """Give the commonest errors: true class, named class, how often."""
    said = shares.argmax(1)
    wrong = np.flatnonzero(said != truth)
    pairs, counts = np.unique(np.stack([truth[wrong], said[wrong]]), axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return [(NAMES[pairs[0, at]], NAMES[pairs[1, at]], int(counts[at])) for at in order]


def told_groups(texts: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """Read sex and age band off the words of each text; empty where it does not say."""
    pairs = [(_sex(text), _band(text)) for text in texts]
    return {"sex": tuple(sex for sex, _ in pairs), "age": tuple(band for _, band in pairs)}


def _sex(text: str) -> str:
    found = [
        sex for sex, words in _SEX.items() if re.search(rf"\b(?:{words})\b", text, re.IGNORECASE)
    ]
    return found[0] if len(found) == 1 else ""


def _band(text: str) -> str:
    said = _AGE.search(text)
    if not said:
        return ""
    age = int(said.group(1)) if said.group(2).lower() == "year" else 0
    return next((band for band, end in _AGE_BANDS.items() if age < end), "")
