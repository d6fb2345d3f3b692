# ruff: noqa: INP001 - a folder of one model's files, not a package
"""What note-specialty has to beat: words and pieces of words by TF-IDF, and a straight line.

It is given every advantage: its setting is the best of 24 on the first repeat of the very folds on
which it is then scored.
"""

import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from corpus import CLASSES, REPEATS, Corpus
from rich.console import Console
from rich.progress import track
from sklearn.base import BaseEstimator
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

Floats = npt.NDArray[np.float64]
Setting = tuple[str, str | None, float]
"""Features, weights of the classes, inverse penalty."""

FEATURES = ("words", "words and pieces")
WEIGHTS = (None, "balanced")
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def tuned(
    corpus: Corpus, measure: Callable[[npt.NDArray[np.int64], Floats], float]
) -> tuple[Setting, Floats]:
    """Choose among 24 settings and answer every note in every repeat.

    Returns:
        The best setting, and its probabilities of notes it has not seen: (repeats, n, classes).
    """
    settings = list(itertools.product(FEATURES, WEIGHTS, PENALTIES))
    first = {
        setting: _unseen(corpus, setting, seed=0)
        for setting in track(settings, "baseline", console=Console(stderr=True))
    }
    best = max(first, key=lambda setting: measure(corpus.truth, first[setting]))
    others = (_unseen(corpus, best, seed=seed) for seed in range(1, REPEATS))
    return best, np.stack([first[best], *others])


def untrained(setting: Setting) -> BaseEstimator:
    """Give the baseline of a setting, not fitted yet."""
    features, weights, penalty = setting
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))
    pieces = TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 5), min_df=2)
    parts = [words] if features == "words" else [words, pieces]
    line = LogisticRegression(C=penalty, class_weight=weights, max_iter=3000)
    return make_pipeline(make_union(*parts), line)


def _unseen(corpus: Corpus, setting: Setting, *, seed: int) -> Floats:
    shares = np.zeros((len(corpus.texts), len(CLASSES)))
    for learnt, scored in corpus.folds(seed=seed):
        part = corpus.take(learnt)
        model = untrained(setting).fit(part.texts, part.truth)
        shares[scored] = model.predict_proba(corpus.take(scored).texts)
    return shares
