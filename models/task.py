"""What the columns of an output tensor mean to the one who judges them.

A task says what is right (`measures`), what would be decided (`decisions`) and how honest the
probabilities are (`calibration`), for the kinds of answers a manifest knows:

* `probability`: a column each for one or several conditions that are there or not;
* `class`: a column per class, of which the largest counts;
* `value`: a column each for measured quantities and scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from models.manifest import Gate, GateMetric, Output
from models.statistics import (
    Labels,
    Score,
    WeightedMeasure,
    auroc_of,
    average_of,
    calibration_error,
    macro_f1_of,
    mean_of,
    root_mean_of,
)

Kind = Literal["probability", "class", "value"]

LESS_IS_BETTER: frozenset[GateMetric] = frozenset({"mae", "rmse"})
_EVEN = 0.5
_UNCERTAIN = -1


@dataclass(frozen=True)
class Task:
    """What a model's answers are, and where a decision turns.

    Attributes:
        kind: What the columns hold.
        columns: The columns that are judged.
        turns: For each column, where its decision changes, ascending; of a class, none.
        cuts: For each column, from which probability a condition counts as there, for accuracy and
            macro-F1.
        min_confidence: A class less likely than this is not named.
        is_whole: Whether values are whole numbers and are rounded before they are compared.
    """

    kind: Kind
    columns: tuple[int, ...] = (0,)
    turns: tuple[tuple[float, ...], ...] = ((_EVEN,),)
    cuts: tuple[float, ...] = (_EVEN,)
    min_confidence: float = 0.0
    is_whole: bool = False

    @classmethod
    def of(cls, outputs: Sequence[Output], gate: Gate) -> Self:
        """The task of a manifest: its first output, and all others of the same kind.

        Of several classifications only the first, the chief one, is judged.
        """
        chief = outputs[0]
        if chief.kind == "class":
            return cls("class", chief.columns, (), (), chief.min_confidence or 0.0)
        alike = [each for each in outputs if each.kind == chief.kind]
        turns = tuple(tuple(band.at_least for band in each.bands[1:]) for each in alike)
        return cls(
            "probability" if chief.kind == "probability" else "value",
            tuple(each.column for each in alike),
            turns,
            tuple(_cut(gate, each) for each in turns),
            is_whole=chief.kind == "score",
        )

    def check(self, truth: Score, scores: Score) -> None:
        """Insist on a truth that fits the answers.

        Raises:
            ValueError: It has another shape, an unknown class, or conditions that are not 0 or 1.
        """
        if len(truth) != len(scores):
            raise ValueError(f"{len(truth)} cases have a truth and {len(scores)} have an answer")
        width = truth.size // max(len(truth), 1)
        if width != (1 if self.kind == "class" else len(self.columns)):
            raise ValueError(f"truth has {width} columns, the model's answer {len(self.columns)}")
        known = range(len(self.columns)) if self.kind == "class" else (0, 1)
        if self.kind != "value" and not np.isin(truth, known).all():
            raise ValueError(f"truth must be whole numbers from 0 to {known[-1]}")

    def measure(self, metric: GateMetric, truth: Score, scores: Score) -> WeightedMeasure:
        """How right answers are.

        Args:
            metric: Which measure.
            truth: (n,) classes, or (n, columns) conditions (0 or 1) or values.
            scores: The output tensor, (n, m).

        Raises:
            ValueError: The metric means nothing for this kind of answer.
        """
        asked = self._asked(scores)
        match self.kind, metric:
            case "value", "mae":
                return mean_of(self._errors(truth, asked))
            case "value", "rmse":
                return root_mean_of(self._errors(truth, asked) ** 2)
            case "value", "accuracy":
                return mean_of((self._errors(truth, asked) < _EVEN).astype(np.float64))
            case "value", _:
                raise ValueError(f"{metric} means nothing for a value; use mae, rmse or accuracy")
            case _, "mae" | "rmse":
                raise ValueError(f"{metric} is for values; use auroc, accuracy or macro-f1")
        return self._chance(metric, self._conditions(truth), asked)

    def decisions(self, scores: Score) -> Labels:
        """What would be decided: band of each column or the class; (n, decisions)."""
        asked = self._asked(scores)
        if self.kind == "class":
            chosen = asked.argmax(axis=1)
            return np.where(asked.max(axis=1) < self.min_confidence, _UNCERTAIN, chosen)[:, None]
        if self.is_whole:
            asked = np.rint(asked)
        banded = [np.digitize(asked[:, at], turns) for at, turns in enumerate(self.turns)]
        return np.stack(banded, axis=1)

    def calibration(self, truth: Score, scores: Score) -> float | None:
        """Expected calibration error, mean over the columns; of the likeliest class; else None."""
        asked = self._asked(scores)
        if self.kind == "value":
            return None
        if self.kind == "class":
            right = asked.argmax(axis=1) == np.ravel(truth)
            return calibration_error(right, asked.max(axis=1))
        there = self._conditions(truth).astype(bool)
        each = (calibration_error(there[:, at], asked[:, at]) for at in range(asked.shape[1]))
        return float(np.mean(list(each)))

    def rarest(self, truth: Score) -> int:
        """How many cases the rarer side of a condition has; all cases, where there is none."""
        if self.kind != "probability":
            return len(truth)
        there = self._conditions(truth).sum(axis=0)
        return int(min(there.min(), (len(truth) - there).min()))

    def _asked(self, scores: Score) -> Score:
        asked = np.asarray(scores, dtype=np.float64)
        return asked.reshape(len(asked), -1)[:, list(self.columns)]

    def _errors(self, truth: Score, asked: Score) -> Score:
        said = np.rint(asked) if self.is_whole else asked
        return np.asarray(np.abs(said - truth.reshape(len(truth), -1)).mean(axis=1))

    def _conditions(self, truth: Score) -> Score:
        """(n, columns) of 0 and 1."""
        if self.kind == "class":
            return np.asarray(
                np.ravel(truth)[:, None] == np.arange(len(self.columns)), dtype=np.float64
            )
        return np.asarray(truth, dtype=np.float64).reshape(len(truth), -1)

    def _chance(self, metric: GateMetric, truth: Score, asked: Score) -> WeightedMeasure:
        columns = range(asked.shape[1])
        if metric == "auroc":
            there = [at for at in columns if 0 < truth[:, at].sum() < len(truth)]
            if not there:
                raise ValueError("auroc needs cases with the condition and cases without")
            return average_of(tuple(auroc_of(truth[:, at] > 0, asked[:, at]) for at in there))
        if self.kind == "class":
            pairs = [(truth.argmax(axis=1), asked.argmax(axis=1))]
        else:
            said = asked >= np.array(self.cuts)
            pairs = [
                (truth[:, at].astype(np.int64), said[:, at].astype(np.int64)) for at in columns
            ]
        if metric == "macro-f1":
            return average_of(tuple(macro_f1_of(real, said) for real, said in pairs))
        right = [(real == said).astype(np.float64) for real, said in pairs]
        return average_of(tuple(map(mean_of, right)))


def _cut(gate: Gate, turns: tuple[float, ...]) -> float:
    """The gate's threshold; without one, where the output's two bands meet."""
    if gate.threshold is not None:
        return gate.threshold
    return turns[0] if len(turns) == 1 else _EVEN
