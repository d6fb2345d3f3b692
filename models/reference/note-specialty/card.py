# ruff: noqa: INP001 - a folder of one model's files, not a package
"""What was measured of note-specialty, and the measured parts of its card and manifest, as text."""

from dataclasses import dataclass

import numpy as np
from baseline import Setting
from corpus import Corpus
from forms import LENGTHS, Form
from measures import NAMES, Comparison, Difference, by_class, confusions, macro_f1, told_groups
from validation import Validation

from models.checksums import sha256
from models.gate import Comparison as GateComparison
from models.gate import Verdict
from models.manifest import Weights
from models.measure import Measurement
from models.model_files import weights_table
from models.statistics import Score

FEWEST_OF_GROUP = 30


@dataclass(frozen=True)
class Tried:
    """One int8 form, and how it does.

    Attributes:
        form: Which.
        content: The network that would ship.
        meaning: (n, 384) embeddings of the notes.
        shares: (repeats, n, classes) probabilities of unseen notes.
        costs: Tokens of a note → what serving takes.
        verdict: Of the gate.
        is_exact: Whether its sums are the same on every kind of kernel.
    """

    form: Form
    content: bytes
    meaning: Score
    shares: Score
    costs: dict[int, Measurement]
    verdict: Verdict
    is_exact: bool

    @property
    def pooled(self) -> Score:
        """The probabilities of all repeats, one below the other."""
        return self.shares.reshape(-1, self.shares.shape[-1])

    @property
    def first(self) -> Measurement:
        """What serving short notes takes."""
        return self.costs[LENGTHS[0]]

    @property
    def overall(self) -> GateComparison:
        """What the gate found on all notes."""
        return self.verdict.comparisons[0]


@dataclass(frozen=True)
class Shipped:
    """The network that ships, and its twin.

    Attributes:
        int8: The network.
        fp32: The twin, which is not in the repository.
        golden: Answers of the twin to the golden cases.
        golden_gap: Largest difference of the network to them, whatever the kernels.
        kinds: Answers to notes whose label is a kind of document.
        fp32_costs: What serving the twin takes.
    """

    int8: bytes
    fp32: bytes
    golden: Score
    golden_gap: float
    kinds: Score
    fp32_costs: dict[int, Measurement]


@dataclass(frozen=True)
class Findings:
    """What was measured.

    Attributes:
        everyone: All notes, once per repeat.
        validation: The heads and their answers.
        chosen: The form that ships.
        tried: Every form.
        setting: Of the baseline.
        to_baseline: int8, then the baseline, on unseen notes.
        to_fp32: fp32, then int8, on unseen notes.
        looked_back: int8, then the baseline, learnt from 70 of 100 and tried on the others.
    """

    everyone: Corpus
    validation: Validation
    chosen: Tried
    tried: list[Tried]
    setting: Setting
    to_baseline: Comparison
    to_fp32: Comparison
    looked_back: Comparison


def manifest_part(found: Findings, weights: Weights) -> str:
    """Give the measured part of the manifest."""
    count = len(found.validation.notes.tensors)
    cohort = f"{count} notes of mtsamples.com, {len(NAMES)} classes"
    measured = {
        "macro-f1": found.to_baseline.macro_f1.first,
        "accuracy": found.to_baseline.accuracy.first,
        "macro-f1-fp32": found.to_fp32.macro_f1.first,
        "macro-f1-baseline": found.to_baseline.macro_f1.second,
        "accuracy-baseline": found.to_baseline.accuracy.second,
    }
    tables = [
        f'\n[[metrics]]\nname = "{name}"\nvalue = {each.value:.4f}\n'
        f'ci95 = [{each.low:.4f}, {each.high:.4f}]\ncohort = "{cohort}"\n'
        'method = "five repeats of fivefold cross-validation; bootstrap over groups of notes"\n'
        for name, each in measured.items()
    ]
    return weights_table(weights) + "".join(tables)


def card_part(found: Findings, shipped: Shipped) -> str:
    """Give the measured part of the card."""
    parts = (
        _quality(found),
        _chosen(found, shipped),
        _classes(found),
        _groups(found),
        _forms(found, shipped),
    )
    return "\n" + "\n".join(parts) + "\n"


def _quality(found: Findings) -> str:
    count = len(found.validation.notes.tensors)
    held_out = len(found.validation.notes.corpus.halves()[1])
    return (
        f"### On notes the head had not seen\n\n{count} notes, each in five repeats of fivefold "
        f"cross-validation:\n\n{_pair(found.to_baseline)}\n"
        f"Learnt from the development notes alone, on the {held_out} others:\n\n"
        f"{_pair(found.looked_back)}"
    )


def _pair(pair: Comparison) -> str:
    rows = "".join(
        f"| {name} | {each.first} | {each.second} | {_signed(each, 1, 3)} |\n"
        for name, each in (("macro-F1", pair.macro_f1), ("accuracy", pair.accuracy))
    )
    return (
        "| measure | int8 network | TF-IDF and logistic regression | difference |\n"
        f"|---|---|---|---|\n{rows}"
    )


def _signed(each: Difference, unit: float, digits: int) -> str:
    """Tell a difference and its 95 % interval, in a unit such as points."""
    value, low, high = (f"{part * unit:+.{digits}f}" for part in (each.value, each.low, each.high))
    return f"{value} ({low} to {high})"


def _chosen(found: Findings, shipped: Shipped) -> str:
    features, weights, penalty = found.setting
    least = found.validation.confidence
    shares = found.chosen.pooled
    sure = shares.max(1) >= least
    right = (shares.argmax(1) == found.everyone.truth)[sure].mean()
    return (
        "### Chosen\n\n"
        f"Baseline, the best of 24 settings on the first repeat: {features}, class weights "
        f"{weights or 'none'}, C = {penalty:g}.\n"
        f"Temperature {found.validation.temperature:.2f}. A specialty is named from {least:.2f} "
        f"on: {sure.mean():.0%} of the notes are named, {right:.0%} of those rightly.\n"
        f"Of {len(shipped.kinds)} notes whose label is a kind of document, "
        f"{(shipped.kinds.max(1) >= least).mean():.0%} are named.\n"
    )


def _classes(found: Findings) -> str:
    truth, shares = found.everyone.truth, found.chosen.pooled
    repeats = len(found.validation.shares)
    rows = "".join(
        f"| {name} | {real // repeats} | {precision:.2f} | {recall:.2f} | {f1:.2f} |\n"
        for name, real, precision, recall, f1 in by_class(truth, shares)
    )
    errors = "".join(
        f"- {count / repeats:.1f} x {real} named {said}\n"
        for real, said, count in confusions(truth, shares)
    )
    return (
        "### By class\n\n| class | notes | precision | recall | F1 |\n"
        f"|---|---|---|---|---|\n{rows}\nThe commonest errors, per repeat:\n\n{errors}"
    )


def _groups(found: Findings) -> str:
    rows = []
    truth, shares = found.everyone.truth, found.chosen.pooled
    said = shares.argmax(1)
    for kind, values in told_groups(found.everyone.texts).items():
        for value in sorted(set(values)):
            members = np.array([each == value for each in values])
            notes = int(members.sum()) // len(found.validation.shares)
            right = (said == truth)[members].mean()
            f1 = macro_f1(truth[members], shares[members])
            few = " (too few to tell)" if notes < FEWEST_OF_GROUP else ""
            name = f"{kind}: {value or 'not told'}{few}"
            rows.append(f"| {name} | {notes} | {right:.2f} | {f1:.2f} |\n")
    return (
        "### By what the words tell of the patient\n\n"
        "| group | notes | accuracy | macro-F1 of the classes there |\n|---|---|---|---|\n"
        + "".join(rows)
    )


def _forms(found: Findings, shipped: Shipped) -> str:
    rows = _row("fp32", shipped.fp32, shipped.fp32_costs, "| | | |")
    for each in found.tried:
        whole = each.overall
        judged = "yes" if each.verdict.is_accepted and each.is_exact else "no"
        loss = f"{whole.loss * 100:+.2f} (at most {whole.loss_bound * 100:+.2f})"
        rows += _row(
            each.form.name, each.content, each.costs, f"| {loss} | {whole.flips:.1%} | {judged} |"
        )
    pair = found.to_fp32
    return (
        "### Forms that were tried\n\nMilliseconds for a run of 1 and of 16 notes of 32 and of 128 "
        "tokens, one thread; loss of macro-F1 against fp32 in points, with the bound of its "
        "one-sided 95 % interval; decisions changed; whether the gate accepts it.\n\n"
        "| form | MB | 1 x 32 | 16 x 32 | 1 x 128 | 16 x 128 | load ms | memory MB | loss "
        f"| changed | accepted |\n|---|---|---|---|---|---|---|---|---|---|---|\n{rows}\n"
        f"Shipped: {found.chosen.form.name}, {len(shipped.int8) / len(shipped.fp32):.1%} of fp32. "
        "None of its products can saturate, so all kernel settings give the same sums. Its loss "
        f"in points: macro-F1 {_signed(pair.macro_f1, 100, 2)}, accuracy "
        f"{_signed(pair.accuracy, 100, 2)}. Largest difference to a golden answer: "
        f"{shipped.golden_gap:.4f}.\nThe fp32 twin (SHA-256 `{sha256(shipped.fp32)}`) is not in "
        "the repository; `--build FOLDER` writes it.\n"
    )


def _row(name: str, content: bytes, costs: dict[int, Measurement], rest: str) -> str:
    first = costs[LENGTHS[0]]
    times = " | ".join(
        f"{costs[length].p50_ms[size]:.1f}" for length in LENGTHS for size in (1, 16)
    )
    cost = f"{len(content) / 1e6:.1f} | {times} | {first.load_ms:.0f} | {first.model_mb:.0f}"
    return f"| {name} | {cost} {rest}\n"
