"""Explains an answer by hiding parts of what it was made from: what to run, and how to read it.

1. A plan (`occlusion_numbers`, `occlusion_image`, `occlusion_text`) says which variants of a case
   are to be run: each part hidden alone, then all together; never more than the manifest's
   `explanation.max_evaluations`.
2. `measure` runs them in as few batches as the model's `limits.max_batch` allows. The case itself
   goes along in every batch: a network quantized dynamically answers a case a little differently
   beside others, so what is compared has to have run together.
3. `read` says what the differences mean.

Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (occlusion).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log

import numpy as np

from models.explained import (
    LEAST_FACTOR,
    Drawing,
    Effect,
    Explained,
    Part,
    log_odds_change,
    two_digits,
)
from models.manifest import Answer, Manifest, Output
from models.tensors import FloatArray, Tensors, stack

Predict = Callable[[Tensors], FloatArray]

#: Share of the range of an answer below which nothing is drawn in full colour.
_LEAST_SHARE = 0.01


@dataclass(frozen=True)
class Scale:
    """How strong the colours of a picture are.

    Attributes:
        nothing: The largest effect that is none.
        full: The smallest that may be drawn in full colour.
        shown: Writes the size of an effect, in ASCII: the letters of a picture know no others.
    """

    nothing: float
    full: float
    shown: Callable[[float], str]


Draw = Callable[[FloatArray, Scale], Drawing | None]
"""Draws what each part did, float32 of shape (parts,); nothing where no effect is one."""

_ODDS = Scale(
    log(LEAST_FACTOR), log(1.5), lambda change: f"odds changed {two_digits(exp(change))}-fold"
)


class Unexplainable(ValueError):
    """An answer can't be explained; the message is half a sentence for people, without values."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Variants of a case to be run.

    Attributes:
        kind: What is hidden.
        names: What people call each part.
        hidden: The case with each part hidden, in that order, and at last with all hidden.
        kept: What could not be hidden.
        draw: Makes a picture of it.
    """

    kind: Part
    names: tuple[str, ...]
    hidden: tuple[Tensors, ...]
    kept: tuple[str, ...] = ()
    draw: Draw | None = None


@dataclass(frozen=True, eq=False)
class Measured:
    """What the network gave.

    Attributes:
        answer: Of the case itself, float32 of shape (columns,).
        changes: The answer minus that of each variant, float32 of shape (variants, columns).
    """

    answer: FloatArray
    changes: FloatArray


def check_budget(manifest: Manifest, parts: int) -> None:
    """Insist that there is something to hide, and not too much of it.

    Raises:
        Unexplainable: There is nothing, or more than may be run.
    """
    if not parts:
        raise Unexplainable("nothing that the model was given can be hidden")
    if parts >= manifest.explanation.max_evaluations:
        raise Unexplainable("the model was given more than its manifest allows to be hidden")


def measure(
    predict: Predict,
    case: Tensors,
    plan: Plan,
    *,
    max_batch: int,
    is_late: Callable[[], bool],
) -> Measured:
    """Run a case and its variants.

    Args:
        predict: Asks the network.
        case: One patient's tensors.
        plan: Its variants.
        max_batch: Most cases of one run.
        is_late: Says between two runs whether they have taken too long.

    Raises:
        Unexplainable: The runs took too long.
    """
    beside = int(max_batch > 1)
    size = max_batch - beside
    answer = None if beside else predict(stack([case]))[0]
    changes: list[FloatArray] = []
    for start in range(0, len(plan.hidden), size):
        if is_late():
            raise Unexplainable("it took longer than the model may take")
        rows = predict(stack([case][:beside] + list(plan.hidden[start : start + size])))
        own = rows[0] if answer is None or beside else answer
        answer = own if answer is None else answer
        changes.append(own - rows[beside:])
    return Measured(np.asarray(answer), np.concatenate(changes))


def read(manifest: Manifest, plan: Plan, measured: Measured) -> Explained:
    """Read what moved the answer.

    Args:
        manifest: Of the model.
        plan: What was run.
        measured: What it gave.

    Raises:
        ValueError: It is no answer (`Manifest.read`).
        Unexplainable: The network has no answer where something is hidden.
    """
    answers = manifest.read(measured.answer.tolist())
    chief = max(answers, key=lambda each: each.value) if manifest.panel else answers[0]
    changes = measured.changes[:, _column(chief)]
    if not np.isfinite(changes).all():
        raise Unexplainable("the model has no answer when a part of what it was given is hidden")
    *single, total = changes.tolist()
    is_share = chief.output.kind in {"probability", "class"}
    odds = [log_odds_change(chief.value, each) if is_share else 0.0 for each in single]
    drawn, scale = (odds, _ODDS) if is_share else (single, _scale_of(chief.output))
    return Explained(
        parts=plan.kind,
        output=chief.output,
        value=chief.value,
        subject=_subject(manifest, chief),
        effects=tuple(Effect(*each) for each in zip(plan.names, single, odds, strict=True)),
        total=total,
        most=manifest.explanation.max_phrases,
        kept=plan.kept,
        drawing=plan.draw(np.array(drawn, np.float32), scale) if plan.draw else None,
    )


def _scale_of(output: Output) -> Scale:
    low, high = output.range or (0.0, 1.0)
    full = _LEAST_SHARE * (high - low)
    return Scale(full / 2, full, lambda change: f"{two_digits(change)} {output.unit}")


def _column(answer: Answer) -> int:
    """Give the column that is explained: of a class, that of the likeliest."""
    return answer.output.column + (int(np.argmax(answer.shares)) if answer.shares else 0)


def _subject(manifest: Manifest, answer: Answer) -> str:
    if answer.shares:
        words = answer.output.classes[int(np.argmax(answer.shares))].words
        return words if answer.chosen else f"{words}: most likely, not said"
    output = answer.output
    return (output.label or output.code.display or output.name) if manifest.panel else ""
