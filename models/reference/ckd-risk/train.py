# ruff: noqa: INP001 - a folder of one model's files, not a package
"""Trains, measures, quantizes and writes ckd-risk; anyone can rerun it.

    python models/reference/ckd-risk/train.py --data chronic_kidney_disease_full.arff

The table is number 336 of the UCI Machine Learning Repository (CC BY 4.0). Everything is seeded
and runs on one thread: the same data and the same libraries give the same files. What it writes:
`model.onnx`, `model.fp32.onnx`, `golden.json`, and the measured parts of `manifest.toml` and
`card.md`. It fails, writing nothing, when the accuracy gate does not hold.
"""

import itertools
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from network import LAST_LAYER, Array, Flags, Network, fit, platt, swap_gaps, to_onnx
from rich.console import Console
from rich.progress import track
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # no stubs

from models import arff
from models.checksums import sha256
from models.evaluate import (
    Estimate,
    Measure,
    auroc,
    bootstrap,
    brier,
    calibration_error,
    quantization_gap,
    sensitivity,
    specificity,
)
from models.manifest import Input
from models.quantize import static_int8

HERE = Path(__file__).parent
COLUMNS = {
    "age": ("age", 1.0),
    "diastolic": ("bp", 1.0),
    "creatinine": ("sc", 1.0),
    "urea": ("bu", 1.0),
    "sodium": ("sod", 1.0),
    "potassium": ("pot", 1.0),
    "haemoglobin": ("hemo", 1.0),
    "haematocrit": ("pcv", 1.0),
    "leukocytes": ("wbcc", 1e-3),
    "erythrocytes": ("rbcc", 1.0),
    "glucose": ("bgr", 1.0),
}
"""Input id → column of the table, and the factor to the manifest's unit."""

LOGGED = {"creatinine", "urea", "potassium", "leukocytes", "glucose"}
FOLDS, REPEATS = 5, 5
SMALLEST_AUROC = 0.98
TOLERANCE = 0.03
MARK = "# Written by train.py\n"
CARD_MARKS = ("<!-- measured by train.py -->\n", "<!-- end -->\n")
AGE_BANDS = {"18 to 39 years": (18, 40), "40 to 59 years": (40, 60), "60 years and over": (60, 200)}
SCENARIOS = {
    "as recorded": (),
    "without creatinine": ("creatinine",),
    "without creatinine and urea": ("creatinine", "urea"),
    "age, creatinine, urea and haemoglobin only": (
        "diastolic", "sodium", "potassium", "haematocrit", "leukocytes", "erythrocytes", "glucose",
    ),
}  # fmt: skip
HALF, EQUAL = "half of the values hidden at random", "gaps of the two groups made alike"

# Made-up patients, in the order of COLUMNS; they are nobody's values.
PROFILES = {
    "healthy": (41, 74, 0.8, 27, 140, 4.3, 14.6, 44, 7.2, 5.1, 101),
    "early": (58, 82, 1.4, 46, 138, 4.6, 12.4, 38, 8.1, 4.5, 128),
    "advanced": (63, 90, 4.8, 118, 134, 5.4, 9.3, 28, 9.4, 3.4, 152),
    "end-stage": (49, 100, 11.2, 196, 131, 6.2, 7.1, 22, 8.8, 2.7, 118),
    "diabetic": (66, 86, 1.7, 58, 136, 4.9, 11.1, 34, 10.2, 4.0, 286),
    "young": (22, 68, 0.6, 19, 142, 4.0, 15.8, 48, 6.1, 5.6, 88),
    "limits": (120, 200, 40, 500, 190, 10, 25, 75, 100, 10, 1000),
}
PATTERNS = {
    "complete": (),
    "no creatinine": ("creatinine",),
    "no blood count": ("haemoglobin", "haematocrit", "leukocytes", "erythrocytes"),
    "kidney markers only": (
        "diastolic", "haemoglobin", "haematocrit", "leukocytes", "erythrocytes", "glucose",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Cohort:
    """Patients the model is meant for.

    Attributes:
        values: (n, k) in the manifest's units, NaN where missing or implausible.
        truth: Who has chronic kidney disease.
        excluded: How many rows are of patients outside the intended use.
        implausible: How many values were taken for errors.
    """

    values: Array
    truth: Flags
    excluded: int
    implausible: int


@dataclass(frozen=True)
class Validation:
    """What cross-validation gave: per scenario, probabilities of patients unseen in training.

    Attributes:
        scores: Scenario → mean over the repeats, one per patient.
        repeats: AUROC of each repeat, values as recorded.
        calibration: Platt's slope and intercept, from all logits of unseen patients.
    """

    scores: dict[str, Array]
    repeats: list[float]
    calibration: tuple[float, float]


def read_cohort(table: arff.Table, inputs: list[Input]) -> Cohort:
    """The table in the manifest's units, without children and without impossible values."""
    columns = [
        [np.nan if text is None else float(text) * factor for text in table.column(name)]
        for name, factor in (COLUMNS[each.id] for each in inputs)
    ]
    values = np.array(columns).T
    low, high = np.array([each.plausible for each in inputs]).T
    wrong = (values < low) | (values > high)
    values[wrong] = np.nan
    truth = np.array([text == "ckd" for text in table.column("class")])
    adult = ~(values[:, [each.id for each in inputs].index("age")] < 18)  # noqa: PLR2004
    return Cohort(values[adult], truth[adult], int((~adult).sum()), int(wrong.sum()))


def cross_validate(cohort: Cohort, ids: list[str]) -> Validation:
    """Five times fivefold: every patient is scored five times by networks that never saw them."""
    logged = np.array([each in LOGGED for each in ids])
    logits: dict[str, list[Array]] = {}
    scores: dict[str, list[Array]] = {}
    scenarios = hide(cohort, ids, seed=0)  # the same gaps in every repeat: no averaging over them
    for repeat in track(range(REPEATS), "cross-validation", console=Console(stderr=True)):
        splits = StratifiedKFold(FOLDS, shuffle=True, random_state=repeat)
        fold_of = np.zeros(len(cohort.truth), dtype=int)
        outcome = {name: np.zeros(len(cohort.truth)) for name in scenarios}
        for fold, (train, test) in enumerate(splits.split(cohort.values, cohort.truth)):
            seed = 100 * repeat + fold
            network = fit(cohort.values[train], cohort.truth[train], logged, seed=seed)
            fold_of[test] = fold
            for name, values in scenarios.items():
                outcome[name][test] = network.logit(values[test])
        slopes = cross_calibrate(outcome["as recorded"], cohort.truth, fold_of)
        for name, found in outcome.items():
            logits.setdefault(name, []).append(found)
            scores.setdefault(name, []).append(sigmoid(slopes[0] * found + slopes[1]))
    recorded = np.concatenate(logits["as recorded"])
    return Validation(
        {name: np.mean(found, axis=0) for name, found in scores.items()},
        [auroc(cohort.truth, found) for found in scores["as recorded"]],
        platt(recorded, np.tile(cohort.truth, REPEATS)),
    )


def hide(cohort: Cohort, ids: list[str], *, seed: int) -> dict[str, Array]:
    """The cohort's values under each scenario of missing results."""
    generator = np.random.default_rng(seed)
    scenarios = {
        name: without(cohort.values, [ids.index(each) for each in hidden])
        for name, hidden in SCENARIOS.items()
    }
    coin = generator.random(cohort.values.shape) < 0.5  # noqa: PLR2004
    scenarios[HALF] = np.where(coin, np.nan, cohort.values)
    scenarios[EQUAL] = swap_gaps(cohort.values, cohort.truth, generator)
    return scenarios


def without(values: Array, columns: list[int]) -> Array:
    """The values with some columns missing."""
    hidden = values.copy()
    hidden[:, columns] = np.nan
    return hidden


def cross_calibrate(logits: Array, truth: Flags, fold_of: Array) -> Array:
    """Slope and intercept for each patient, fitted on the other folds only."""
    slopes = np.zeros((2, len(truth)))
    for fold in range(FOLDS):
        slopes[:, fold_of == fold] = np.array(
            platt(logits[fold_of != fold], truth[fold_of != fold])
        )[:, None]
    return slopes


def sigmoid(logits: Array) -> Array:
    """Logit → probability."""
    return np.asarray(1 / (1 + np.exp(-logits)))


def golden(network: Network, ids: list[str]) -> str:
    """Made-up patients under several patterns of missing results, and the fp32 answer to each."""
    cases = []
    for (name, profile), (pattern, hidden) in itertools.product(PROFILES.items(), PATTERNS.items()):
        values = {
            each: None if each in hidden else value
            for each, value in zip(ids, profile, strict=True)
        }
        row = np.array([[np.nan if value is None else value for value in values.values()]])
        expected = float(sigmoid(network.logit(row.astype(np.float32).astype(float)))[0])
        cases.append(
            {
                "id": f"{name}, {pattern}",
                "note": "made-up values; the answer of the fp32 network",
                "inputs": values,
                "expected": [round(expected, 7)],
            }
        )
    return json.dumps({"cases": cases}, indent=1) + "\n"


def measures(cohort: Cohort, validation: Validation) -> dict[str, tuple[Estimate, str]]:
    """Every measure of the manifest, with its interval and on whom it was taken."""
    truth, everyone = cohort.truth, f"{len(cohort.truth)} adults, cross-validated"
    recorded = validation.scores["as recorded"]
    wanted: dict[str, tuple[Measure, Array]] = {
        "auroc": (auroc, recorded),
        "brier": (brier, recorded),
        "calibration-error": (calibration_error, recorded),
        "sensitivity-at-0-5": (sensitivity(0.5), recorded),
        "specificity-at-0-5": (specificity(0.5), recorded),
    }
    found = {
        name: (bootstrap(measure, truth, score), everyone)
        for name, (measure, score) in wanted.items()
    }
    for number, (name, score) in enumerate(validation.scores.items()):
        if number:
            found[f"auroc-scenario-{number}"] = (
                bootstrap(auroc, truth, score),
                f"{everyone}, {name}",
            )
    for number, (name, (low, high)) in enumerate(AGE_BANDS.items(), 1):
        inside = (cohort.values[:, 0] >= low) & (cohort.values[:, 0] < high)
        share = f"{inside.sum()} adults, {int(truth[inside].sum())} with CKD, aged {name}"
        found[f"auroc-age-{number}"] = (bootstrap(auroc, truth[inside], recorded[inside]), share)
    return found


def manifest_tail(files: dict[str, bytes], found: dict[str, tuple[Estimate, str]]) -> str:
    """The measured part of the manifest."""
    tables = [
        f"""
[weights]
file = "model.onnx"
sha256 = "{sha256(files["model.onnx"])}"
format = "onnx-int8-qdq"
tolerance = {TOLERANCE}
input_name = "features"
output_name = "probability"
reference = {{ file = "model.fp32.onnx", sha256 = "{sha256(files["model.fp32.onnx"])}" }}
"""
    ]
    tables += [
        f"""
[[metrics]]
name = "{name}"
value = {estimate.value:.4f}
ci95 = [{estimate.low:.4f}, {estimate.high:.4f}]
cohort = "{cohort}"
method = "5 x 5-fold cross-validation, mean of 5 scores per patient, bootstrap over patients"
"""
        for name, (estimate, cohort) in found.items()
    ]
    return "".join(tables)


def card_part(
    cohort: Cohort,
    validation: Validation,
    found: dict[str, tuple[Estimate, str]],
    gaps: dict[bool, float],
) -> str:
    """The measured part of the model card."""
    rows = "".join(f"| {name} | {each} | {who} |\n" for name, (each, who) in found.items())
    low, high = min(validation.repeats), max(validation.repeats)
    return f"""
| measure | value (95 % interval) | on whom |
|---|---|---|
{rows}
AUROC of the five repeats, as recorded: {low:.4f} to {high:.4f}.
Platt slope {validation.calibration[0]:.3f}, intercept {validation.calibration[1]:.3f}.
Cohort: {len(cohort.truth)} adults, {int(cohort.truth.sum())} with CKD; {cohort.excluded} patients
under 18 left out; {cohort.implausible} impossible values treated as missing.

int8 against fp32, largest difference of a probability over the whole table of 400:
{gaps[False]:.5f} with the default kernels, {gaps[True]:.5f} with `session.x64quantprecision=1`
(tolerance {TOLERANCE}).

"""


def main(
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The ARFF file.")],
    out: Annotated[Path, typer.Option(file_okay=False, help="Where the files go.")] = HERE,
) -> None:
    """Train, measure, quantize, and write the model's files."""
    head = (HERE / "manifest.toml").read_text(encoding="utf-8").partition(MARK)[0]
    inputs = [Input.model_validate(each) for each in tomllib.loads(head)["inputs"]]
    ids = [each.id for each in inputs]
    table = arff.read(data)
    cohort = read_cohort(table, inputs)
    with threadpool_limits(1):
        validation = cross_validate(cohort, ids)
        logged = np.array([each in LOGGED for each in ids])
        network = fit(cohort.values, cohort.truth, logged, seed=0)
    network = network.calibrated(*validation.calibration)
    fp32 = to_onnx(network).SerializeToString(deterministic=True)
    everyone = raw_table(table, ids)
    batches = [cohort.values.astype(np.float32)]
    files = {
        "model.fp32.onnx": fp32,
        "model.onnx": static_int8(fp32, batches, keep_fp32=[LAST_LAYER]),
    }
    gaps = quantization_gap(files["model.onnx"], files["model.fp32.onnx"], everyone)
    found = measures(cohort, validation)
    if max(gaps.values()) > TOLERANCE or found["auroc"][0].value < SMALLEST_AUROC:
        typer.echo(f"refused: AUROC {found['auroc'][0]}, int8 gap {gaps}", err=True)
        raise typer.Exit(1)
    card = (HERE / "card.md").read_text(encoding="utf-8")
    before, _, rest = card.partition(CARD_MARKS[0])
    after = rest.partition(CARD_MARKS[1])[2]
    measured = card_part(cohort, validation, found, gaps)
    files["golden.json"] = golden(network, ids).encode()
    files["manifest.toml"] = (head + MARK + manifest_tail(files, found)).encode()
    files["card.md"] = (before + CARD_MARKS[0] + measured + CARD_MARKS[1] + after).encode()
    for name, content in files.items():
        (out / name).write_bytes(content)
    typer.echo(measured)


def raw_table(
    table: arff.Table, ids: list[str]
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """All rows of the table as they are, errors and children included."""
    columns = [
        [np.nan if text is None else float(text) * factor for text in table.column(name)]
        for name, factor in (COLUMNS[each] for each in ids)
    ]
    return np.array(columns, dtype=np.float32).T


if __name__ == "__main__":
    typer.run(main)
