"""Every candidate for a quantized network, judged and measured; and which of them to keep.

* A candidate passes if the gate (`models.gate`) accepts it on every kernel class it may meet, those
  of other machines emulated (`models.evaluate`).
* It is measured on this machine under both settings of the kernels, in processes of its own.
* Of those that pass, the fastest at batch 1 on this machine is kept; of those within 5 % of it, the
  smallest; of those within 5 % of its size, the one that loses least. The fp32 network is a
  candidate like any other: it may be the answer.
* A family of recipes (dynamic, static, weights) of which none passes is mended: its least bad
  recipe is scanned for sensitive nodes, and as few as needed are left alone.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import isfinite
from typing import Protocol

import numpy as np

from models.answers import answers_here
from models.candidates import RECIPES, Recipe, family_of, recipes
from models.evaluate import Setting, answers
from models.gate import EVERYONE, Comparison, Verdict, judge
from models.manifest import WeightsFormat
from models.measure import Measurement, MeasuringFailed, measure
from models.quantize import NotQuantizable
from models.registry import ModelUnusable
from models.runtime import needs_exact_int8, open_session
from models.sensitivity import Damage, Mended, mend, scan
from models.statistics import Score
from models.subject import Subject
from models.task import LESS_IS_BETTER
from models.tensors import Tensors

FP32, QAT = "fp32", "qat"
KERNELS: Mapping[str, bool] = {"default kernels": False, "exact kernels": True}
"""What can be measured here: name → `session.x64quantprecision`."""

_TIE = 1.05
_SAMPLE = 16
_SMALLEST_BUDGET = 2
_FEW = 3
_SCAN_CASES = 256
_SCAN_STEPS = 10
"""Losses that differ by less than a tenth of what is allowed count as equal in a scan."""


@dataclass(frozen=True)
class Candidate:
    """A network that may be shipped.

    Attributes:
        name: For example `static-minmax`, or `static-minmax-mended`.
        format: What is in the file.
        how: How it was made, in words.
        model: The file.
        left_alone: Nodes that were left alone.
    """

    name: str
    format: WeightsFormat
    how: str
    model: bytes
    left_alone: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trial:
    """What became of a candidate.

    Attributes:
        name: The candidate's.
        how: How it was made, in words.
        candidate: It; None where it could not even be made.
        verdict: What the gate says.
        measured: Setting of the kernels here → what serving it takes.
        failure: Why there is no candidate, or nothing known of it.
    """

    name: str
    how: str
    candidate: Candidate | None = None
    verdict: Verdict | None = None
    measured: Mapping[str, Measurement] | None = None
    failure: str = ""

    @property
    def passes(self) -> bool:
        """Whether it may be shipped."""
        return bool(self.verdict and self.verdict.is_accepted and self.measured)

    @property
    def is_known(self) -> bool:
        """Whether it was both compared with fp32 and measured."""
        return bool(self.measured and self.verdict and self.verdict.comparisons)

    @property
    def loss_bound(self) -> float:
        """Upper bound of the loss on the worst kernels; infinite where it is not known."""
        return self.worst.loss_bound if self.worst else float("inf")

    @property
    def worst(self) -> Comparison | None:
        """All cases on the kernels that it suffers most from."""
        found = self.verdict.comparisons if self.verdict else ()
        everyone = (each for each in found if each.group == EVERYONE)
        return max(everyone, key=lambda each: each.loss_bound, default=None)

    @property
    def served(self) -> Comparison | None:
        """All cases on the kernels of this machine, as it would be served."""
        needed: Setting = "avx2-exact" if needs_exact_int8() else "vnni"
        return self.verdict.overall(needed) if self.verdict and self.worst else None


class Progress(Protocol):
    """Shows how far the work is."""

    def begin(self, what: str) -> None:
        """A piece of work begins; the one before it is done."""

    def advance(self, done: int, of: int) -> None:
        """So much of it is done."""


def try_all(
    subject: Subject,
    names: Sequence[str],
    progress: Progress,
    *,
    trained: bytes | None = None,
    budget: int = 64,
) -> tuple[Trial, ...]:
    """Make, judge and measure candidates.

    Args:
        subject: The network, its cases and its gate.
        names: Of the recipes to try.
        progress: Is told of each step.
        trained: A network from quantization-aware training, to be tried beside them.
        budget: Networks that a scan for sensitive nodes may try, for each family; 0 for no scan.

    Returns:
        The fp32 network's trial, then the others'.

    Raises:
        NotQuantizable: The network can't be prepared.
    """
    bench = _Bench(subject, progress)
    trials = [bench.tried(Candidate(FP32, "onnx-fp32", "as it was given", subject.fp32))]
    if trained is not None:
        how = "quantization-aware training"
        trials.append(bench.tried(Candidate(QAT, "onnx-int8-qdq", how, trained)))
    made = recipes(subject.fp32, subject.calibration, names)
    for _, members in groupby(made, key=lambda each: family_of(each.name)):
        family = [(recipe, bench.made(recipe)) for recipe in members]
        trials += [trial for _, trial in family]
        trials += bench.mended(family, budget)
    return tuple(trials)


def choose(trials: Sequence[Trial]) -> Trial | None:
    """The trial to keep: the fastest here that passes; None where none does."""
    passing = [each for each in trials if each.passes]
    if not passing:
        return None
    quick = _nearly_least(passing, latency_ms)
    small = _nearly_least(quick, size_bytes)
    return min(small, key=lambda each: each.loss_bound)


def _nearly_least(trials: Sequence[Trial], figure: Callable[[Trial], float]) -> list[Trial]:
    limit = _TIE * min(map(figure, trials))
    return [each for each in trials if figure(each) <= limit]


def latency_ms(trial: Trial) -> float:
    """Median time of a run of one case (or of the smallest batch), as this machine would run it."""
    return next(iter(here(trial).p50_ms.values()))


def size_bytes(trial: Trial) -> int:
    """Size of the file."""
    return here(trial).size_bytes


def here(trial: Trial) -> Measurement:
    """What serving it takes under the setting of the kernels that this machine needs.

    Raises:
        KeyError: It was not measured.
    """
    return (trial.measured or {})[kernels_here()]


def kernels_here() -> str:
    """The setting of the kernels that this machine needs."""
    needed = needs_exact_int8()
    return next(name for name, exact in KERNELS.items() if exact == needed)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= _FEW else f"{len(names)} nodes"


class _Bench:
    """What is the same for every candidate."""

    def __init__(self, subject: Subject, progress: Progress) -> None:
        self._subject = subject
        self._progress = progress
        self._sample = {name: array[:_SAMPLE] for name, array in subject.inputs.items()}
        self._few = subject.sample(_SCAN_CASES)

    def made(self, recipe: Recipe) -> Trial:
        """Follow a recipe and try what comes of it."""
        self._progress.begin(f"{recipe.name}: quantize")
        kind, how = RECIPES[recipe.name]
        try:
            model = recipe.quantize(())
        except NotQuantizable as error:
            return Trial(recipe.name, how, failure=str(error))
        return self.tried(Candidate(recipe.name, kind, how, model))

    def tried(self, candidate: Candidate) -> Trial:
        """Judge and measure a candidate."""
        self._progress.begin(f"{candidate.name}: judge and measure")
        trial = Trial(candidate.name, candidate.how, candidate)
        try:
            return replace(
                trial,
                verdict=self._verdict(candidate.model),
                measured=dict(self._measured(candidate)),
            )
        except (ModelUnusable, MeasuringFailed, ValueError) as error:
            return replace(trial, failure=str(error))

    def mended(self, family: Sequence[tuple[Recipe, Trial]], budget: int) -> Iterator[Trial]:
        """Leave nodes of the least bad recipe alone, where no recipe of the family passes."""
        refused = [(recipe, trial) for recipe, trial in family if isfinite(trial.loss_bound)]
        if budget < _SMALLEST_BUDGET or not refused or any(trial.passes for _, trial in family):
            return
        recipe, trial = min(refused, key=lambda each: each[1].loss_bound)
        name = f"{recipe.name}-mended"
        try:
            found = self._mended(recipe, budget)
        except (NotQuantizable, ModelUnusable) as error:
            yield Trial(name, trial.how, failure=str(error))
            return
        if found is None:
            yield Trial(name, trial.how, failure="leaving nodes alone did not mend it")
            return
        how = f"{trial.how}; but for {_few(found.left_alone)}"
        kind = RECIPES[recipe.name][0]
        yield self.tried(Candidate(name, kind, how, found.model, found.left_alone))

    def _mended(self, recipe: Recipe, budget: int) -> Mended | None:
        self._progress.begin(f"{recipe.name}: scan for sensitive nodes")
        ranked = scan(
            recipe.quantize,
            recipe.nodes,
            self._damage,
            most=budget,
            progress=self._progress.advance,
        )
        self._progress.begin(f"{recipe.name}: leave nodes alone")
        return mend(
            recipe.quantize,
            ranked,
            lambda model: self._verdict(model).is_accepted,
            progress=self._progress.advance,
        )

    def _verdict(self, model: bytes) -> Verdict:
        subject = self._subject
        self._here(model, self._sample)  # says in words what does not fit
        found = answers(model, subject.inputs, subject.output).scores
        scores: dict[str, Score] = {name: each.astype(np.float64) for name, each in found.items()}
        return judge(subject.gate, subject.task, subject.cases, scores)

    def _measured(self, candidate: Candidate) -> Iterator[tuple[str, Measurement]]:
        """One setting at a time; fp32 kernels have none."""
        found = None
        for setting, exact in KERNELS.items():
            if found is None or candidate.format != "onnx-fp32":
                found = measure(candidate.model, self._sample, exact_int8=exact)
            yield setting, found

    def _damage(self, model: bytes) -> Damage:
        """How far a network is from fp32: loss of the metric in steps, then of the answers."""
        few = self._few
        scores = self._here(model, few.inputs)
        sign = -1 if few.gate.metric in LESS_IS_BETTER else 1
        loss = sign * (few.metric(few.cases.fp32) - few.metric(scores))
        steps = round(_SCAN_STEPS * max(loss, 0) / few.gate.max_loss)
        return steps, float(np.sqrt(np.mean((scores - few.cases.fp32) ** 2)))

    def _here(self, model: bytes, inputs: Tensors) -> Score:
        session = open_session(model, exact_int8=needs_exact_int8())
        return answers_here(session, inputs, output=self._subject.output)
