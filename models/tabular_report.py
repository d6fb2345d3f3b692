"""What a tabular model's training found, as the measured parts of its manifest and of its card.

Every figure is of the int8 model on patients that no network had seen, unless it says otherwise;
intervals are by bootstrap over patients. A group with fewer than ten of the rarer side is named and
not measured.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.gate import FEWEST_OF_SIDE, Verdict
from models.statistics import (
    Estimate,
    Measure,
    auroc,
    bootstrap,
    brier,
    calibration_error,
    sensitivity,
    specificity,
)
from models.tabular import Array, Flags
from models.tabular_validation import FP32, RECORDED, Cohort, Validation

METHOD = "5 x 5-fold cross-validation, mean of 5 scores per patient, bootstrap over patients"


@dataclass(frozen=True)
class Measured:
    """A measure of a model.

    Attributes:
        name: As the manifest has it.
        estimate: Value and interval.
        cohort: On whom, in words.
    """

    name: str
    estimate: Estimate
    cohort: str


@dataclass(frozen=True)
class Findings:
    """Everything that is reported of one training.

    Attributes:
        cohort: Who it was made with.
        validation: What was answered of those no network had seen.
        verdict: What the gate said of int8 against fp32.
        condition: What the sick have, in a word or two.
        turns: The two probabilities where the bands meet: what is below is low, above is high.
    """

    cohort: Cohort
    validation: Validation
    verdict: Verdict
    condition: str
    turns: tuple[float, float]

    @property
    def whom(self) -> str:
        """The cohort in words."""
        return f"{len(self.cohort.truth)} adults, cross-validated"

    def measures(self) -> list[Measured]:
        """The manifest's metrics: of everyone, with results missing, and of each group."""
        return [*self._overall(), *self._scenarios(), *self._groups()]

    def _overall(self) -> Iterator[Measured]:
        low, high = self.turns
        wanted: dict[str, Measure] = {
            "auroc": auroc,
            "brier": brier,
            "calibration-error": calibration_error,
            f"sensitivity-at-{_slug(str(low))}": sensitivity(low),
            f"specificity-at-{_slug(str(low))}": specificity(low),
            f"sensitivity-at-{_slug(str(high))}": sensitivity(high),
            f"specificity-at-{_slug(str(high))}": specificity(high),
        }
        truth, score = self.cohort.truth, self.validation.mean()
        for name, measure in wanted.items():
            yield Measured(name, bootstrap(measure, truth, score), self.whom)
        original = self.validation.mean(form=FP32)
        yield Measured("auroc-fp32", bootstrap(auroc, truth, original), f"{self.whom}, fp32 twin")

    def _scenarios(self) -> Iterator[Measured]:
        names = [name for name in self.validation.scores[FP32] if name != RECORDED]
        for number, name in enumerate(names, 1):
            estimate = bootstrap(auroc, self.cohort.truth, self.validation.mean(name))
            yield Measured(f"auroc-scenario-{number}", estimate, f"{self.whom}, {name}")

    def _groups(self) -> Iterator[Measured]:
        for kind, group, members in _judged(self.cohort):
            truth, score = self.cohort.truth[members], self.validation.mean()[members]
            whom = f"{self._size(members)}, {kind} {group}"
            label = f"{kind}-{_slug(group)}"
            yield Measured(f"auroc-{label}", bootstrap(auroc, truth, score), whom)
            error = bootstrap(calibration_error, truth, score)
            yield Measured(f"calibration-error-{label}", error, whom)

    def _size(self, members: Flags) -> str:
        sick = int(self.cohort.truth[members].sum())
        return f"{int(members.sum())} adults, {sick} with {self.condition}"

    def card(self) -> str:
        """The measured part of the card, without sizes."""
        parts = (
            _measure_table(self.measures()),
            self._sums(),
            self._group_table(),
            self._reliability(),
            _gate_table(self.verdict),
        )
        return "\n".join(parts)

    def _sums(self) -> str:
        truth, slope = self.cohort.truth, self.validation.calibration
        each = self.validation.aurocs(truth)
        left_out = "; ".join(f"{count} {why}" for why, count in self.cohort.left_out.items())
        return (
            f"One network alone, without averaging: AUROC {min(each):.4f} to {max(each):.4f} in\n"
            f"the five repeats, mean {np.mean(each):.4f}.\n"
            f"Platt slope {slope[0]:.3f}, intercept {slope[1]:.3f}.\n"
            f"Cohort: {self._size(np.ones(len(truth), dtype=bool))}; {left_out}.\n"
        )

    def _group_table(self) -> str:
        low, high = self.turns
        head = (
            f"| group | adults, of them with {self.condition} | AUROC | calibration error | "
            f"sensitivity at {low} | specificity at {low} | sensitivity at {high} | "
            f"specificity at {high} |\n|---|---|---|---|---|---|---|---|\n"
        )
        measures = (
            auroc, calibration_error, sensitivity(low), specificity(low), sensitivity(high),
            specificity(high),
        )  # fmt: skip
        rows = "".join(
            self._group_row(f"{kind}: {group}", members, measures)
            for kind, group, members in _judged(self.cohort)
        )
        small = [
            f"{kind} {group} ({self._size(members)})"
            for kind, group, members in _everyone(self.cohort)
            if not _is_large(self.cohort.truth[members])
        ]
        unjudged = f"\nToo small to be measured: {', '.join(small)}.\n" if small else ""
        return head + rows + unjudged

    def _group_row(self, label: str, members: Flags, measures: tuple[Measure, ...]) -> str:
        truth, score = self.cohort.truth[members], self.validation.mean()[members]
        cells = " | ".join(str(bootstrap(each, truth, score)) for each in measures)
        return f"| {label} | {len(truth)}, {int(truth.sum())} | {cells} |\n"

    def _reliability(self) -> str:
        truth, score = self.cohort.truth, self.validation.mean()
        rows = []
        for low in np.arange(10) / 10:
            inside = (score >= low) & ((score < low + 0.1) | (low == 0.9))  # noqa: PLR2004
            if inside.any():
                rows.append(
                    f"| {low:.1f} to {low + 0.1:.1f} | {int(inside.sum())} | "
                    f"{score[inside].mean():.3f} | {truth[inside].mean():.3f} |\n"
                )
        head = "| predicted | adults | mean prediction | observed share |\n|---|---|---|---|\n"
        return head + "".join(rows)


def metric_tables(measured: list[Measured]) -> str:
    """The `[[metrics]]` tables of a manifest."""
    return "".join(
        f"""
[[metrics]]
name = "{each.name}"
value = {each.estimate.value:.4f}
ci95 = [{each.estimate.low:.4f}, {each.estimate.high:.4f}]
cohort = "{each.cohort}"
method = "{METHOD}"
"""
        for each in measured
    )


def bands_by_rule(truth: Flags, score: Array, *, least: float = 0.9) -> tuple[float, float]:
    """The probabilities that leave out few of the sick below, and few of the healthy above.

    Args:
        truth: Who has the condition.
        score: Probabilities of patients unseen in training.
        least: Sensitivity at the lower of them, and specificity at the higher.

    Returns:
        The highest hundredth with this sensitivity, and the lowest with this specificity.
    """
    hundredths = np.arange(1, 100) / 100
    low = max(each for each in hundredths if sensitivity(each)(truth, score) >= least)
    high = min(each for each in hundredths if specificity(each)(truth, score) >= least)
    return float(low), float(high)


def _measure_table(measured: list[Measured]) -> str:
    rows = "".join(f"| {each.name} | {each.estimate} | {each.cohort} |\n" for each in measured)
    return f"\n| measure | value (95 % interval) | on whom |\n|---|---|---|\n{rows}"


def _gate_table(verdict: Verdict) -> str:
    settings: dict[str, list[str]] = {}
    for each in verdict.comparisons:
        row = (
            f"{each.group} | {each.fp32.value:.4f} | {each.int8.value:.4f} | {each.loss:.4f} | "
            f"{each.loss_bound:.4f} | {each.allowed} | {each.flips:.2%} |\n"
        )
        settings.setdefault(row, []).append(each.setting)
    rows = "".join(f"| {', '.join(names)} | {row}" for row, names in settings.items())
    small = "".join(f"Not judged: {each.group}, {each.reason}.\n" for each in verdict.unjudged)
    return (
        "The gate, on the pooled answers of all folds and repeats to unseen patients:\n\n"
        "| kernels | group | fp32 AUROC | int8 AUROC | loss | bound | allowed | other band |\n"
        f"|---|---|---|---|---|---|---|---|\n{rows}{small}"
    )


def _everyone(cohort: Cohort) -> Iterator[tuple[str, str, Flags]]:
    for kind, values in cohort.groups.items():
        for group in sorted(set(values) - {""}):
            yield kind, group, cohort.members(kind, group)


def _judged(cohort: Cohort) -> Iterator[tuple[str, str, Flags]]:
    for kind, group, members in _everyone(cohort):
        if _is_large(cohort.truth[members]):
            yield kind, group, members


def _is_large(truth: Flags) -> bool:
    sick = int(truth.sum())
    return min(sick, len(truth) - sick) >= FEWEST_OF_SIDE


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
