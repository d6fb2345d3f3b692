# ruff: noqa: INP001 - a folder of one model's files, not a package
"""The measured parts of note-specialty's card and manifest, as text."""

from dataclasses import dataclass

import numpy as np
from baseline import Setting
from corpus import Corpus
from forms import Form
from measures import NAMES, Comparison, Difference, by_class, confusions, macro_f1, told_groups

from models.manifest import Weights
from models.model_files import weights_table
from models.statistics import Labels, Score

FEWEST_OF_GROUP = 30


@dataclass(frozen=True)
class Chosen:
    """What cross-validation within the development notes chose.

    Attributes:
        setting: Of the baseline.
        baseline_f1: The baseline's macro-F1 in cross-validation.
        by_epoch: The network's after each epoch, the head alone first.
        epochs: After how many it is best.
        shares: Its calibrated probabilities of notes unseen in training, (n, classes).
        temperature: That calibrates them.
        confidence: From which on a specialty is named.
    """

    setting: Setting
    baseline_f1: float
    by_epoch: tuple[float, ...]
    epochs: int
    shares: Score
    temperature: float
    confidence: float


@dataclass(frozen=True)
class Findings:
    """What was measured.

    Attributes:
        development: The notes that everything was chosen on.
        test: The notes that were looked at once.
        chosen: What was chosen.
        shares: The int8 network's answers to the test notes.
        kinds: Its answers to notes whose label is a kind of document.
        to_baseline: int8, then the baseline, on the test notes.
        to_fp32: Kernel setting → fp32, then int8, on the test notes.
        flips: Share of the test notes whose decision int8 changes.
        tried: Every form and the share of decisions it changes on unseen notes.
        golden_gap: Largest difference of an answer to a golden case.
        fp32_sha256: Of the twin, which is not in the repository.
    """

    development: Corpus
    test: Corpus
    chosen: Chosen
    shares: Score
    kinds: Score
    to_baseline: Comparison
    to_fp32: dict[str, Comparison]
    flips: float
    tried: list[tuple[Form, float]]
    golden_gap: float
    fp32_sha256: str


def manifest_part(found: Findings, weights: Weights) -> str:
    """Give the measured part of the manifest."""
    cohort = f"{len(found.test.texts)} held-out notes of mtsamples.com, {len(NAMES)} classes"
    measured = {
        "macro-f1": found.to_baseline.macro_f1.first,
        "accuracy": found.to_baseline.accuracy.first,
        "macro-f1-fp32": found.to_fp32["default"].macro_f1.first,
        "macro-f1-baseline": found.to_baseline.macro_f1.second,
        "accuracy-baseline": found.to_baseline.accuracy.second,
    }
    tables = [
        f'\n[[metrics]]\nname = "{name}"\nvalue = {each.value:.4f}\n'
        f'ci95 = [{each.low:.4f}, {each.high:.4f}]\ncohort = "{cohort}"\n'
        'method = "one look at a held-out test set; bootstrap over groups of like notes"\n'
        for name, each in measured.items()
    ]
    return weights_table(weights) + "".join(tables)


def card_part(found: Findings) -> str:
    """Give the measured part of the card."""
    parts = (_quality(found), _chosen(found), _classes(found), _groups(found), _forms(found))
    return "\n" + "\n".join(parts) + "\n"


def _quality(found: Findings) -> str:
    pair = found.to_baseline
    rows = "".join(
        f"| {name} | {each.first} | {each.second} | {_signed(each, 1, 3)} |\n"
        for name, each in (("macro-F1", pair.macro_f1), ("accuracy", pair.accuracy))
    )
    return (
        f"### On the {len(found.test.texts)} test notes\n\n"
        "| measure | int8 network | TF-IDF and logistic regression | difference |\n"
        f"|---|---|---|---|\n{rows}"
    )


def _signed(each: Difference, unit: float, digits: int) -> str:
    """Tell a difference and its 95 % interval, in a unit such as points."""
    value, low, high = (f"{part * unit:+.{digits}f}" for part in (each.value, each.low, each.high))
    return f"{value} ({low} to {high})"


def _chosen(found: Findings) -> str:
    chosen = found.chosen
    steps = ", ".join(f"{each:.3f}" for each in chosen.by_epoch)
    features, weights, penalty = chosen.setting
    return (
        "### Chosen by cross-validation on the development notes\n\n"
        f"Baseline: {features}, class weights {weights or 'none'}, C = {penalty:g}: macro-F1 "
        f"{chosen.baseline_f1:.3f}.\nNetwork: head alone, then after each epoch: {steps}; "
        f"{chosen.epochs} epochs.\nTemperature {chosen.temperature:.2f}. A specialty is named from "
        f"{chosen.confidence:.2f} on: {_named(chosen.shares, found.development.truth, chosen)}.\n"
        f"Of the test notes: {_named(found.shares, found.test.truth, chosen)}.\n"
        f"Of {len(found.kinds)} notes whose label is a kind of document, "
        f"{(found.kinds.max(1) >= chosen.confidence).mean():.0%} are named.\n"
    )


def _named(shares: Score, truth: Labels, chosen: Chosen) -> str:
    sure = shares.max(1) >= chosen.confidence
    right = (shares.argmax(1) == truth)[sure].mean()
    return f"{sure.mean():.0%} are named, {right:.0%} of those rightly"


def _classes(found: Findings) -> str:
    counts = found.development.counts()
    rows = "".join(
        f"| {name} | {learnt} | {real} | {precision:.2f} | {recall:.2f} | {f1:.2f} |\n"
        for learnt, (name, real, precision, recall, f1) in zip(
            counts, by_class(found.test.truth, found.shares), strict=True
        )
    )
    errors = "".join(
        f"- {count} x {truth} named {said}\n"
        for truth, said, count in confusions(found.test.truth, found.shares)
    )
    return (
        "### By class\n\n| class | learnt from | tested on | precision | recall | F1 |\n"
        f"|---|---|---|---|---|---|\n{rows}\nThe commonest errors:\n\n{errors}"
    )


def _groups(found: Findings) -> str:
    rows = []
    said = found.shares.argmax(1)
    for kind, values in told_groups(found.test.texts).items():
        for value in sorted(set(values)):
            members = np.array([each == value for each in values])
            right = (said == found.test.truth)[members].mean()
            f1 = macro_f1(found.test.truth[members], found.shares[members])
            few = " (too few to tell)" if members.sum() < FEWEST_OF_GROUP else ""
            name = f"{kind}: {value or 'not told'}{few}"
            rows.append(f"| {name} | {members.sum()} | {right:.2f} | {f1:.2f} |\n")
    return (
        "### By what the words tell of the patient\n\n"
        "| group | notes | accuracy | macro-F1 of the classes there |\n|---|---|---|---|\n"
        + "".join(rows)
    )


def _forms(found: Findings) -> str:
    rows = "".join(form.row(f"{flips:.1%}") for form, flips in found.tried)
    losses = "".join(
        f"| {name} | {_signed(each.macro_f1, 100, 2)} | {_signed(each.accuracy, 100, 2)} |\n"
        for name, each in found.to_fp32.items()
    )
    return (
        "### Forms that were tried\n\nMilliseconds for a run of 1 and of 16 notes of 32 and of 128 "
        "tokens, one thread; decisions changed on notes that are neither learnt nor tested.\n\n"
        "| form | MB | 1 x 32 | 16 x 32 | 1 x 128 | 16 x 128 | load ms | memory MB | changed |\n"
        f"|---|---|---|---|---|---|---|---|---|\n{rows}\n"
        "Loss of the shipped form against fp32 on the test notes, in points:\n\n"
        "| kernels | macro-F1 (95 % interval) | accuracy (95 % interval) |\n"
        f"|---|---|---|\n{losses}\n"
        f"Decisions changed on the test notes: {found.flips:.1%}. Largest difference to a golden "
        f"answer: {found.golden_gap:.4f}.\nThe fp32 twin (SHA-256 `{found.fp32_sha256}`) is not in "
        "the repository; `--build FOLDER` writes it.\n"
    )
