# ruff: noqa: INP001 - a folder of one model's files, not a package
"""How the head of note-specialty is fitted, and what it answers: two straight lines added up.

Embedding and tokens are each brought to length 1, as TF-IDF does with words; the embedding counts
twice as much. One logistic regression on both is the head. More than half of the notes are of one
class, so every class weighs alike.

Weight and penalty were chosen among some forty settings by three repeats of fivefold
cross-validation on the development notes alone (`corpus.halves`), before any other note was scored.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from network import EMBEDDING, MAX_TOKENS, WIDTH, WORDS, Head
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer

from models.onnx_engine import open_session
from models.tensors import Tensors

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MEANING_WEIGHT = 2.0
PENALTY = 3.0
"""Inverse penalty of the logistic regression."""
_LEAST = 1e-6


def plain_tokenizer(path: Path) -> Tokenizer:
    """Read the tokenizer without the padding that its file asks for; longer notes are cut."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


def tensors(tokenizer: Tokenizer, texts: list[str]) -> list[Tensors]:
    """Make the network's inputs, one note each."""
    rows = (np.array([each.ids]) for each in tokenizer.encode_batch(texts))
    return [{"input_ids": ids, "attention_mask": np.ones_like(ids)} for ids in rows]


def counts_of(notes: list[Tensors]) -> sparse.csr_matrix:
    """Count the tokens of each note, (n, words), without those that begin and end it."""
    tokens = [note["input_ids"][0][1:-1] for note in notes]
    rows = np.repeat(np.arange(len(notes)), [len(each) for each in tokens])
    columns = np.concatenate(tokens)
    ones = np.ones(len(columns))
    return sparse.csr_matrix((ones, (rows, columns)), shape=(len(notes), WORDS))


def embeddings(encoder: bytes, notes: list[Tensors]) -> Floats:
    """Embed notes one by one, as the gateway does when it is not busy: (n, 384)."""
    session = open_session(encoder, exact_int8=False)
    return np.concatenate([session.run([EMBEDDING], dict(note))[0] for note in notes]).astype(float)


def fit(meaning: Floats, counts: sparse.csr_matrix, truth: Ints) -> Head:
    """Fit a head.

    Args:
        meaning: (n, 384) embeddings of the notes to learn from.
        counts: (n, words) their tokens.
        truth: (n,) their classes.
    """
    rarity = _rarity(counts)
    known = np.flatnonzero(rarity)
    signal = sparse.hstack([MEANING_WEIGHT * _unit(meaning), _bag(counts, rarity)[:, known]])
    line = LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=3000)
    line.fit(signal.tocsr(), truth)
    tokens = np.zeros((WORDS, len(line.classes_)))
    tokens[known] = line.coef_[:, WIDTH:].T
    return Head(MEANING_WEIGHT * line.coef_[:, :WIDTH].T, rarity, tokens, line.intercept_)


def logits(head: Head, meaning: Floats, counts: sparse.csr_matrix) -> Floats:
    """Answer notes, (n, classes), before the temperature."""
    of_tokens = _bag(counts, head.rarity) @ head.tokens
    return np.asarray(_unit(meaning) @ head.meaning + of_tokens + head.bias)


def _rarity(counts: sparse.csr_matrix) -> Floats:
    """Logarithm of how few notes have a token, and 1; 0 where none has."""
    notes = np.asarray((counts > 0).sum(axis=0)).ravel()
    return np.where(notes > 0, np.log((1 + counts.shape[0]) / (1 + notes)) + 1, 0.0)


def _bag(counts: sparse.csr_matrix, rarity: Floats) -> sparse.csr_matrix:
    weighed = counts.multiply(rarity).tocsr()
    lengths = np.sqrt(weighed.multiply(weighed).sum(axis=1))
    return weighed.multiply(1 / np.maximum(np.asarray(lengths), _LEAST)).tocsr()


def _unit(meaning: Floats) -> Floats:
    return np.asarray(meaning / np.linalg.norm(meaning, axis=1, keepdims=True))
