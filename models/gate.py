"""The gate: whether a quantized model is still the model.

A quantized form is accepted only if, on every setting of the int8 kernels it may meet:

* the loss of its metric against fp32 stays within the manifest's tolerance *with confidence*: what
  counts is the upper bound of the paired loss, by bootstrap over patients;
* the same holds, with a tolerance of its own, in every subgroup that is large enough to be judged;
  a group that is not is named with its size, never passed over;
* no more decisions change than the manifest allows.

The calibration error of both is reported. Nothing here does any I/O. Why each rule is there, with
examples of refusals: docs/gate.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from models.manifest import Gate
from models.statistics import Estimate, Labels, Score, compare
from models.task import LESS_IS_BETTER, Task

Groups = Mapping[str, Sequence[str]]
"""What the cases are told apart by (`sex`) → the group of each case; "" where it is not known."""

EVERYONE = "all"
FEWEST_CASES = 50
FEWEST_OF_GROUP = 30
FEWEST_OF_SIDE = 10
"""A condition seen in fewer patients than this says nothing of an AUROC."""


@dataclass(frozen=True)
class Cases:
    """The cases that two forms of a model are compared on.

    Attributes:
        truth: What was the case: (n,) or (n, columns); classes are numbered from 0.
        fp32: The fp32 network's output tensor, (n, m).
        groups: The subgroups of the cases.
        patients: Number of the patient of each case, from 0.
    """

    truth: Score
    fp32: Score
    groups: Groups
    patients: Labels

    def of(self, members: Labels) -> "Cases":
        """Some of the cases, without their groups."""
        renumbered = np.unique(self.patients[members], return_inverse=True)[1]
        return Cases(self.truth[members], self.fp32[members], {}, renumbered)


@dataclass(frozen=True)
class Comparison:
    """Both forms on one group of cases, under one setting of the kernels.

    Attributes:
        setting: The kernels.
        group: `all`, or for example `sex: female`.
        cases: How many.
        fp32: The metric of the original.
        int8: The metric of the quantized form.
        loss: How much worse that is; negative where it is better.
        loss_bound: Upper bound of the loss at the gate's confidence.
        allowed: What the bound must not exceed.
        flips: Share of cases of which a decision changes.
        fp32_calibration_error: Of the original's probabilities; None where there are none.
        int8_calibration_error: Of the quantized form's.
    """

    setting: str
    group: str
    cases: int
    fp32: Estimate
    int8: Estimate
    loss: float
    loss_bound: float
    allowed: float
    flips: float
    fp32_calibration_error: float | None
    int8_calibration_error: float | None

    @property
    def is_within(self) -> bool:
        """Whether the loss stays within what is allowed, with confidence."""
        return self.loss_bound <= self.allowed


@dataclass(frozen=True)
class Unjudged:
    """A group that is too small to say anything of.

    Attributes:
        group: For example `sex: female`.
        cases: How many there are.
        reason: What is missing.
    """

    group: str
    cases: int
    reason: str


@dataclass(frozen=True)
class Verdict:
    """What the gate says.

    Attributes:
        reasons: Why it is refused; none when it is accepted.
        comparisons: Everything that was compared.
        unjudged: The groups that could not be.
    """

    reasons: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    unjudged: tuple[Unjudged, ...]

    @property
    def is_accepted(self) -> bool:
        """Whether there is nothing against it."""
        return not self.reasons

    def overall(self, setting: str) -> Comparison:
        """The comparison on all cases under one setting.

        Raises:
            KeyError: It was not compared under this setting.
        """
        for each in self.comparisons:
            if (each.setting, each.group) == (setting, EVERYONE):
                return each
        raise KeyError(setting)

    def as_json(self) -> dict[str, Any]:
        """The verdict for a report."""
        return {"accepted": self.is_accepted, **asdict(self)}


def judge(gate: Gate, task: Task, cases: Cases, int8: Mapping[str, Score]) -> Verdict:
    """Compare the answers of a quantized model with those of its original.

    Args:
        gate: What is tolerated.
        task: What the answers mean.
        cases: The cases and the fp32 network's answers.
        int8: Setting of the kernels → the quantized network's output tensor, (n, m).

    Raises:
        ValueError: The metric means nothing for these answers, or the truth doesn't fit them.
    """
    task.check(cases.truth, cases.fp32)
    if reason := _too_few(task, cases, FEWEST_CASES):
        return Verdict((f"The evaluation set is too small: {reason}.",), (), ())
    unjudged = tuple(_unjudged(task, cases))
    groups = {EVERYONE: np.arange(len(cases.truth)), **_members(cases.groups)}
    for each in unjudged:
        del groups[each.group]
    comparisons: list[Comparison] = []
    for setting, answers in int8.items():
        alike = next(
            (each for each in comparisons if np.array_equal(int8[each.setting], answers)), None
        )
        if alike:  # no need to draw thousands of samples for the same answers again
            known = [each for each in comparisons if each.setting == alike.setting]
            comparisons += [replace(each, setting=setting) for each in known]
        else:
            comparisons += [
                _compared(gate, task, cases.of(members), (setting, name, answers[members]))
                for name, members in groups.items()
            ]
    reasons = tuple(reason for each in comparisons for reason in _against(gate, each))
    return Verdict(reasons, tuple(comparisons), unjudged)


def _members(groups: Groups) -> dict[str, Labels]:
    """`sex: female` → the places of its cases."""
    told = {name: np.asarray(values, dtype=str) for name, values in groups.items()}
    return {
        f"{name}: {value}": np.flatnonzero(values == value)
        for name, values in told.items()
        for value in np.unique(values)
        if value
    }


def _unjudged(task: Task, cases: Cases) -> Iterator[Unjudged]:
    for name, members in _members(cases.groups).items():
        group = cases.of(members)
        if reason := _too_few(task, group, FEWEST_OF_GROUP):
            yield Unjudged(name, len(members), reason)


def _too_few(task: Task, cases: Cases, fewest: int) -> str:
    count = len(np.unique(cases.patients))
    if count < fewest:
        return f"{count} patients, at least {fewest} are needed"
    rarest = task.rarest(cases.truth)
    if rarest < FEWEST_OF_SIDE:
        return f"{rarest} cases of the rarer side, at least {FEWEST_OF_SIDE} are needed"
    return ""


def _compared(gate: Gate, task: Task, cases: Cases, asked: tuple[str, str, Score]) -> Comparison:
    setting, group, answers = asked
    if not np.isfinite(answers).all():
        raise ValueError(f"under {setting} the model gives answers that are no numbers")
    paired = compare(
        task.measure(gate.metric, cases.truth, cases.fp32),
        task.measure(gate.metric, cases.truth, answers),
        cases.patients,
        confidence=gate.confidence,
        more_is_better=gate.metric not in LESS_IS_BETTER,
    )
    changed = task.decisions(cases.fp32) != task.decisions(answers)
    return Comparison(
        setting=setting,
        group=group,
        cases=len(cases.truth),
        fp32=paired.before,
        int8=paired.after,
        loss=paired.loss,
        loss_bound=paired.bound,
        allowed=gate.max_loss if group == EVERYONE else gate.max_subgroup_loss,
        flips=float(changed.any(axis=1).mean()),
        fp32_calibration_error=task.calibration(cases.truth, cases.fp32),
        int8_calibration_error=task.calibration(cases.truth, answers),
    )


def _against(gate: Gate, each: Comparison) -> Iterator[str]:
    where = f"{each.setting}, {each.group}"
    if not each.is_within:
        yield (
            f"{where}: {gate.metric} may lose up to {each.loss_bound:.4f} "
            f"(measured {each.loss:z.4f}, {each.cases} cases); allowed is {each.allowed:g}."
        )
    if each.group == EVERYONE and each.flips > gate.max_flips:
        yield (
            f"{where}: {each.flips:.1%} of the decisions change; allowed is {gate.max_flips:.1%}."
        )
