# ruff: noqa: INP001 - a folder of one model's files, not a package
"""How the network of note-specialty is fitted: a head first, then the upper layers with it.

1. A logistic regression on the embeddings of the pretrained encoder becomes the head, so that
   fine-tuning starts from sensible answers and does not spoil the encoder with random ones.
2. Head and upper layers are trained together, slowly. Word vectors and lower layers stay: a word
   that no training note has keeps its place among those that some have.

More than half of the notes are of one class. Weights in the loss lose their effect once every
training note is learnt; raising the logits by the logarithm of the class's share does not.

Source: Kumar et al., Fine-Tuning can Distort Pretrained Features (2022), for the two steps; Menon
et al., Long-tail learning via logit adjustment (2021), for the raised logits.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from network import KEPT, MAX_TOKENS, Encoder, Router, pretrained
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer
from torch import Tensor, nn

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Watch = Callable[[int, Router], None]

SCORED_AT_ONCE = 32
CHUNK = 8
"""Batches whose notes are sorted by length, so that little is padded."""


@dataclass(frozen=True)
class Recipe:
    """What may be chosen; chosen by cross-validation within the development notes.

    Attributes:
        epochs: How often each note is seen.
        rate: Highest learning rate of the encoder's upper layers.
        head_rate: Highest learning rate of the head.
        balance: How far a class's logit is raised by the logarithm of its share while learning, so
            that the logit itself does not carry it; 1 makes the answer that of equal shares.
        batch: Notes of one step.
        regularity: Inverse penalty of the logistic regression that becomes the head.
        stop_after: The epoch after which it is best; all of them when absent.
    """

    epochs: int = 4
    rate: float = 5e-5
    head_rate: float = 2e-4
    balance: float = 1.0
    batch: int = 16
    regularity: float = 1.0
    stop_after: int | None = None


class Notes:
    """Notes as token ids, with what the kept layers make of them computed once."""

    def __init__(self, folder: Path, texts: list[str]) -> None:
        """Tokenize the texts and run the kept layers.

        Args:
            folder: Where `tokenizer.json` and `model.safetensors` of the encoder are.
            texts: One per note.
        """
        self.weights = folder / "model.safetensors"
        self.ids = tokenize(plain_tokenizer(folder / "tokenizer.json"), texts)
        self.lengths = np.array([len(ids) for ids in self.ids])
        encoder = pretrained(self.weights).eval()
        self.started: list[Tensor] = [torch.empty(0)] * len(texts)
        self.embeddings = np.zeros((len(texts), encoder.norm.weight.numel()))
        with torch.no_grad():
            for rows in self.batches(np.arange(len(texts))):
                ids = pad(self.ids, rows)
                vectors = encoder.start(ids, (ids > 0).long())
                self.embeddings[rows] = encoder.finish(vectors, (ids > 0).long()).numpy()
                for row, each in zip(rows, vectors, strict=True):
                    self.started[row] = each[: self.lengths[row]].clone()

    def batches(self, rows: Ints) -> Iterator[Ints]:
        """Split rows into batches of notes of similar length."""
        rows = rows[np.argsort(self.lengths[rows], kind="stable")]
        for start in range(0, len(rows), SCORED_AT_ONCE):
            yield rows[start : start + SCORED_AT_ONCE]

    def vectors(self, rows: Ints) -> tuple[Tensor, Tensor]:
        """Give the kept layers' vectors, padded, and the mask."""
        vectors = nn.utils.rnn.pad_sequence([self.started[row] for row in rows], batch_first=True)
        lengths = torch.from_numpy(self.lengths[rows])
        return vectors, (torch.arange(vectors.shape[1]) < lengths[:, None]).long()

    def logits(self, router: Router, rows: Ints) -> Floats:
        """Answer notes: (number of rows, number of classes)."""
        place = {row: number for number, row in enumerate(rows.tolist())}
        answers = np.zeros((len(rows), router.head.out_features))
        router.eval()
        with torch.no_grad():
            for batch in self.batches(rows):
                found = router.head(router.encoder.finish(*self.vectors(batch)))
                answers[[place[row] for row in batch.tolist()]] = found.numpy()
        return answers


def plain_tokenizer(path: Path) -> Tokenizer:
    """Read the tokenizer without the padding that its file asks for; longer notes are cut."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


def tokenize(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Give the token ids of each text."""
    return [each.ids for each in tokenizer.encode_batch(texts)]


def pad(ids: list[list[int]], rows: Ints) -> Tensor:
    """Make a batch of token ids, 0 where a note has ended."""
    return nn.utils.rnn.pad_sequence([torch.tensor(ids[row]) for row in rows], batch_first=True)


def fit(
    notes: Notes, truth: Ints, rows: Ints, recipe: Recipe, *, seed: int, watch: Watch | None = None
) -> Router:
    """Fit a network.

    Args:
        notes: All notes.
        truth: Class of each.
        rows: Which of them to learn from.
        recipe: How.
        seed: Of dropout and of the order of the notes.
        watch: Called with the number of epochs done and the network, first with 0.
    """
    torch.manual_seed(seed)
    router = _with_head(notes, truth, rows, recipe)
    layers = [each for layer in router.encoder.layers[KEPT:] for each in layer.parameters()]
    groups = [
        {"params": layers, "lr": recipe.rate},
        {"params": list(router.head.parameters()), "lr": recipe.head_rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    steps = recipe.epochs * -(-len(rows) // recipe.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _slope(step, steps))
    raised = recipe.balance * _log_shares(truth[rows])
    generator = np.random.default_rng(seed)
    if watch:
        watch(0, router)
    for epoch in range(1, (recipe.stop_after or recipe.epochs) + 1):
        router.train()
        for batch in _shuffled(notes, rows, recipe.batch, generator):
            optimizer.zero_grad()
            answer = router.head(router.drop(router.encoder.finish(*notes.vectors(batch))))
            loss = nn.functional.cross_entropy(answer + raised, torch.from_numpy(truth[batch]))
            loss.backward()
            nn.utils.clip_grad_norm_(layers, 1.0)
            optimizer.step()
            schedule.step()
        if watch:
            watch(epoch, router)
    return router.eval()


def _with_head(notes: Notes, truth: Ints, rows: Ints, recipe: Recipe) -> Router:
    start = LogisticRegression(C=recipe.regularity, class_weight="balanced", max_iter=3000)
    start.fit(notes.embeddings[rows], truth[rows])
    encoder: Encoder = pretrained(notes.weights)
    router = Router(encoder, len(start.classes_))
    with torch.no_grad():
        router.head.weight.copy_(torch.from_numpy(start.coef_))
        router.head.bias.copy_(torch.from_numpy(start.intercept_))
    return router


def _slope(step: int, steps: int) -> float:
    """Rise over the first tenth, then fall to nothing."""
    return min((step + 1) / (0.1 * steps), (steps - step) / (0.9 * steps))


def _log_shares(truth: Ints) -> Tensor:
    counts = np.bincount(truth)
    return torch.tensor(np.log(counts / counts.sum()), dtype=torch.float32)


def _shuffled(
    notes: Notes, rows: Ints, size: int, generator: np.random.Generator
) -> Iterator[Ints]:
    """Give the rows in random batches, each of notes of similar length."""
    order = generator.permutation(rows)
    batches: list[Ints] = []
    for start in range(0, len(order), size * CHUNK):
        chunk = order[start : start + size * CHUNK]
        chunk = chunk[np.argsort(notes.lengths[chunk], kind="stable")]
        batches += [chunk[first : first + size] for first in range(0, len(chunk), size)]
    for place in generator.permutation(len(batches)):
        yield batches[place]
