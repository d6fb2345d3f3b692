# ruff: noqa: INP001 - a folder of one model's files, not a package
"""Trains, measures, quantizes and writes ckd-risk; anyone can rerun it.

    python models/reference/ckd-risk/train.py --data chronic_kidney_disease_full.arff

The table is number 336 of the UCI Machine Learning Repository (CC BY 4.0). Everything is seeded
and runs on one thread: the same data and the same libraries give the same files. What it writes:
`model.onnx`, `model.fp32.onnx`, `golden.json`, `evaluation.json`, and the measured parts of
`manifest.toml` and `card.md`. It fails, writing nothing, when the accuracy gate does not hold.

Two things are done against what a small hospital table teaches wrongly:

* each training patient appears many times with random values hidden, so that no single result is
  needed;
* in this table the sick lack far more results than the healthy. Every copy of a patient is also
  given the gaps of a random patient of the other class, so that *which* results are missing says
  nothing of the class during training.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from models import arff
from models.manifest import Input
from models.model_files import write
from models.tabular import Array, Flags, Network, Scaling, hide_shares, layers_of, swap_gaps
from models.tabular_model import NotGoodEnough, Recipe, make, without
from models.tabular_validation import RECORDED, Cohort

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

LOGGED = np.isin(list(COLUMNS), ["creatinine", "urea", "potassium", "leukocytes", "glucose"])
HIDDEN = (64,)
COPIES = 60
EPOCHS = 10
PENALTY = 2.0
LARGEST_SHARE_HIDDEN = 0.7
ADULT = 18
AGE_BANDS = {"18 to 39 years": (18, 40), "40 to 59 years": (40, 60), "60 years and over": (60, 200)}
SCENARIOS = {
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


def fit(values: Array, truth: Flags, seed: int) -> Network:
    """Fit a network to raw values (NaN where missing)."""
    generator = np.random.default_rng(seed)
    scaling = Scaling.of(values, LOGGED)
    copies = [
        hide_shares(swap_gaps(values, truth, generator), LARGEST_SHARE_HIDDEN, generator)
        for _ in range(COPIES)
    ]
    classifier = MLPClassifier(
        HIDDEN,
        alpha=PENALTY,
        batch_size=256,
        learning_rate_init=2e-3,
        max_iter=EPOCHS,
        n_iter_no_change=EPOCHS,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # EPOCHS is the chosen end
        classifier.fit(scaling.signal(np.vstack(copies)), np.tile(truth, COPIES))
    return Network(scaling, layers_of(classifier.coefs_, classifier.intercepts_))


def read_cohort(table: arff.Table, inputs: Sequence[Input]) -> Cohort:
    """The table in the manifest's units, without children and without impossible values."""
    values = raw_table(table)
    low, high = np.array([each.plausible for each in inputs]).T
    wrong = (values < low) | (values > high)
    values[wrong] = np.nan
    truth = np.array([text == "ckd" for text in table.column("class")])
    adult = ~(values[:, 0] < ADULT)
    left_out = {
        "patients under 18 left out": int((~adult).sum()),
        "impossible values treated as missing": int(wrong.sum()),
    }
    ages = tuple(_age_band(age) for age in values[adult, 0])
    return Cohort(values[adult], truth[adult], {"age": ages}, left_out)


def raw_table(table: arff.Table) -> Array:
    """All rows of the table as they are, errors and children included."""
    columns = [
        [np.nan if text is None else float(text) * factor for text in table.column(name)]
        for name, factor in COLUMNS.values()
    ]
    return np.array(columns).T


def hide(cohort: Cohort) -> dict[str, Array]:
    """The cohort's values under each scenario of missing results; the same in every repeat."""
    generator = np.random.default_rng(0)
    scenarios = {RECORDED: cohort.values} | {
        name: without(cohort.values, [list(COLUMNS).index(each) for each in hidden])
        for name, hidden in SCENARIOS.items()
    }
    coin = generator.random(cohort.values.shape) < 0.5  # noqa: PLR2004
    scenarios[HALF] = np.where(coin, np.nan, cohort.values)
    scenarios[EQUAL] = swap_gaps(cohort.values, cohort.truth, generator)
    return scenarios


def _age_band(age: float) -> str:
    return next((name for name, (low, high) in AGE_BANDS.items() if low <= age < high), "")


RECIPE = Recipe(
    folder=HERE,
    condition="CKD",
    train=fit,
    profiles=PROFILES,
    patterns=PATTERNS,
    smallest_auroc=0.98,
    tolerance=0.03,
)


def main(
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The ARFF file.")],
    out: Annotated[Path, typer.Option(file_okay=False, help="Where the files go.")] = HERE,
) -> None:
    """Train, measure, quantize, and write the model's files."""
    table = arff.read(data)
    cohort = read_cohort(table, RECIPE.head().inputs)
    everyone = raw_table(table).astype(np.float32)
    try:
        files, measured = make(RECIPE, cohort, hide(cohort), everyone)
    except NotGoodEnough as error:
        typer.echo(f"refused: {error}", err=True)
        raise typer.Exit(1) from error
    write(out, files)
    typer.echo(measured)


if __name__ == "__main__":
    typer.run(main)
