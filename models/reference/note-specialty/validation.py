# ruff: noqa: INP001 - a folder of one model's files, not a package
"""Repeated cross-validation of note-specialty: every note is answered by heads that never saw it.

The encoder is the same in every fold, so each of its forms embeds the notes once.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from corpus import CLASSES, REPEATS, Corpus
from fitting import fit, logits
from measures import Comparison, compared, confidence_for, softmax, temperature_of
from network import Head
from scipy import sparse
from sklearn.base import BaseEstimator

from models.tensors import Tensors

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RIGHT_WHEN_NAMED = 0.85


@dataclass(frozen=True)
class Notes:
    """Notes as the network is given them, and what the fp32 encoder makes of them.

    Attributes:
        corpus: Texts, classes and groups.
        tensors: Token ids, one note each.
        meaning: (n, 384) embeddings.
        counts: (n, words) tokens.
    """

    corpus: Corpus
    tensors: list[Tensors]
    meaning: Floats
    counts: sparse.csr_matrix

    def fitted(self, learnt: Ints) -> Head:
        """Fit a head to some of the notes."""
        return fit(self.meaning[learnt], self.counts[learnt], self.corpus.truth[learnt])


@dataclass(frozen=True)
class Validation:
    """Heads of all folds, and what they answered.

    Attributes:
        notes: All notes.
        heads: Of each repeat, a head and the rows it has not seen, for each fold.
        shares: Calibrated probabilities with the fp32 encoder, (repeats, n, classes).
        temperature: That calibrates them.
        confidence: From which on a specialty is named.
        final: The head that ships: learnt from all notes, calibrated.
    """

    notes: Notes
    heads: list[list[tuple[Head, Ints]]]
    shares: Floats
    temperature: float
    confidence: float
    final: Head

    @property
    def pooled(self) -> Floats:
        """The probabilities of all repeats, one below the other."""
        return np.asarray(self.shares.reshape(-1, self.shares.shape[-1]))

    def answers(self, meaning: Floats) -> Floats:
        """What the same heads answer on other embeddings, (repeats, n, classes)."""
        found: Floats = softmax(_unseen(self.heads, self.notes, meaning) / self.temperature)
        return found


def validated(notes: Notes) -> Validation:
    """Fit the heads of all folds and repeats, calibrate, and fit the head that ships."""
    heads = [
        [(notes.fitted(learnt), scored) for learnt, scored in notes.corpus.folds(seed=seed)]
        for seed in range(REPEATS)
    ]
    unseen = _unseen(heads, notes, notes.meaning)
    truth = np.tile(notes.corpus.truth, REPEATS)
    temperature = temperature_of(unseen.reshape(len(truth), -1), truth)
    shares = softmax(unseen / temperature)
    return Validation(
        notes=notes,
        heads=heads,
        shares=shares,
        temperature=temperature,
        confidence=confidence_for(truth, shares.reshape(len(truth), -1), right=RIGHT_WHEN_NAMED),
        final=replace(notes.fitted(np.arange(len(notes.tensors))), temperature=temperature),
    )


def looked_back(notes: Notes, int8: Floats, baseline: BaseEstimator) -> Comparison:
    """Learn from the development notes alone and answer the held-out ones, as at the first try."""
    development, held_out = notes.corpus.halves()
    head = notes.fitted(development)
    found = softmax(logits(head, int8[held_out], notes.counts[held_out]))
    part = notes.corpus.take(development)
    told = baseline.fit(part.texts, part.truth).predict_proba(notes.corpus.take(held_out).texts)
    return compared(notes.corpus.take(held_out), found, told)


def _unseen(heads: list[list[tuple[Head, Ints]]], notes: Notes, meaning: Floats) -> Floats:
    found = np.zeros((len(heads), len(notes.tensors), len(CLASSES)))
    for repeat, folds in enumerate(heads):
        for head, scored in folds:
            found[repeat, scored] = logits(head, meaning[scored], notes.counts[scored])
    return found
