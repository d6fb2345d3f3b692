# ruff: noqa: INP001 - a folder of one model's files, not a package
"""Trains, measures, quantizes and writes liver-risk; anyone can rerun it.

    python models/reference/liver-risk/train.py --data ilpd.csv

The table is number 225 of the UCI Machine Learning Repository, the Indian Liver Patient Dataset
(CC BY 4.0). Everything is seeded and runs on one thread: the same data and the same libraries give
the same files. It fails, writing nothing, when the accuracy gate does not hold.

On this table a dense network alone is worse than an ensemble of trees, since what tells the sick
from the healthy are thresholds and their combinations. So the trees teach: extremely randomised
trees are fitted to the training patients, asked about many patients in between, and the network
learns their answers, with results hidden from it that the trees had seen. What is shipped is the
network alone; the trees hold patients' values and are thrown away.

Trees, widths and learning rates were chosen by cross-validation of the same patients, with other
splits than those that measure; the card says so.

Source: Geurts, Ernst and Wehenkel, Machine Learning 63 (2006), for the trees; Hinton, Vinyals and
Dean, arXiv 1503.02531 (2015), for learning from another model's answers.
"""

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from models.manifest import Input
from models.model_files import write
from models.tabular import Array, Flags, Network, Scaling, hide_shares, layers_of, logarithm
from models.tabular_model import NotGoodEnough, Recipe, make, without
from models.tabular_validation import RECORDED, Cohort

HERE = Path(__file__).parent
COLUMNS = {
    "age": "Age",
    "sex": "Gender",
    "bilirubin-total": "TB",
    "bilirubin-direct": "DB",
    "alp": "Alkphos",
    "alt": "Sgpt",
    "ast": "Sgot",
    "protein": "TP",
    "albumin": "ALB",
    "albumin-globulin": "A/G",
}
"""Input id → column of the table, whose units are the manifest's."""

WORDS = {"Male": 0.0, "Female": 1.0, "": np.nan}
LOGGED = np.isin(list(COLUMNS), ["bilirubin-total", "bilirubin-direct", "alp", "alt", "ast"])
SEX = list(COLUMNS).index("sex")
ADULT = 18
AGE_BANDS = {"18 to 39 years": (18, 40), "40 to 59 years": (40, 60), "60 years and over": (60, 200)}

TREES = 300
LEAF, TRIED = 3, 6
"""Fewest patients of a leaf, and how many inputs a split may choose from."""
HIDDEN = (256, 256)
COPIES = 60
LARGEST_STEP = 0.3
"""How far a made-up patient may lie from a real one on the way to another."""
SHARE_COMPLETE, LARGEST_SHARE_HIDDEN = 0.5, 0.7
STAGES = ((10, 2e-3), (5, 3e-4))
"""Epochs and learning rate, one stage after the other."""
PENALTY = 1e-3
SUREST = 0.98

SCENARIOS = {
    "without direct bilirubin": ("bilirubin-direct",),
    "without proteins": ("protein", "albumin", "albumin-globulin"),
    "age, sex, total bilirubin, ALT and ALP only": (
        "bilirubin-direct", "ast", "protein", "albumin", "albumin-globulin",
    ),
    "without sex": ("sex",),
}  # fmt: skip
HALF = "half of the values hidden at random"

# Made-up patients, in the order of COLUMNS; they are nobody's values. Men: others are refused.
PROFILES = {
    "well young man": (34, 0, 0.6, 0.15, 165, 22, 24, 7.2, 4.1, 1.3),
    "well man": (45, 0, 0.8, 0.2, 180, 28, 27, 7.0, 3.9, 1.25),
    "hepatitis": (29, 0, 6.4, 3.6, 310, 890, 760, 6.6, 3.3, 1.0),
    "obstruction": (57, 0, 11.5, 6.9, 690, 95, 110, 6.2, 2.8, 0.8),
    "cirrhosis": (52, 0, 3.1, 1.5, 240, 38, 81, 6.0, 2.2, 0.55),
    "borderline": (48, 0, 1.2, 0.4, 215, 48, 44, 6.7, 3.3, 0.95),
    "old": (90, 0, 0.9, 0.3, 230, 25, 33, 6.1, 2.7, 0.8),
    "limits": (120, 0, 100, 80, 5000, 20000, 20000, 14, 8, 5),
}
PATTERNS = {
    "complete": (),
    "no direct bilirubin": ("bilirubin-direct",),
    "no proteins": ("protein", "albumin", "albumin-globulin"),
}


def fit(values: Array, truth: Flags, seed: int) -> Network:
    """Fit a network to raw values (NaN where missing)."""
    generator = np.random.default_rng(seed)
    scaling = Scaling.of(values, LOGGED)
    teacher = ExtraTreesClassifier(
        TREES, min_samples_leaf=LEAF, max_features=TRIED, random_state=seed
    ).fit(logarithm(values, LOGGED), truth)
    between = _between(np.tile(values, (COPIES, 1)), generator)
    learned = np.clip(teacher.predict_proba(logarithm(between, LOGGED))[:, 1], 1 - SUREST, SUREST)
    student = MLPRegressor(
        hidden_layer_sizes=HIDDEN,
        alpha=PENALTY,
        batch_size=256,
        warm_start=True,
        n_iter_no_change=1000,
        random_state=seed,
    )
    signal = scaling.signal(_with_gaps(between, generator)).astype(np.float32)
    target = np.log(learned / (1 - learned)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the stages end where they should
        for epochs, rate in STAGES:
            student.set_params(max_iter=epochs, learning_rate_init=rate).fit(signal, target)
    return Network(scaling, layers_of(student.coefs_, student.intercepts_))


def _between(values: Array, generator: np.random.Generator) -> Array:
    """Made-up patients, each between a real one and a random other; the sex is one of the two's."""
    others = values[generator.permutation(len(values))]
    step = generator.uniform(0, LARGEST_STEP, (len(values), 1))
    logs, other_logs = logarithm(values, LOGGED), logarithm(others, LOGGED)
    mixed = (1 - step) * logs + step * other_logs
    mixed = np.where(LOGGED, np.exp(mixed), mixed)
    takes_other = generator.random(len(values)) < step[:, 0]
    mixed[:, SEX] = np.where(takes_other, others[:, SEX], values[:, SEX])
    return mixed


def _with_gaps(values: Array, generator: np.random.Generator) -> Array:
    """Half of the patients complete, the others with a random share of results hidden."""
    complete = generator.random((len(values), 1)) < SHARE_COMPLETE
    return np.where(complete, values, hide_shares(values, LARGEST_SHARE_HIDDEN, generator))


def read_table(path: Path) -> tuple[Array, Flags]:
    """Every row of the table: values in the order of the inputs, and who is a liver patient."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    values = [[_number(row[name]) for name in COLUMNS.values()] for row in rows]
    return np.array(values), np.array([row["Selector"] == "1" for row in rows])


def _number(text: str) -> float:
    return WORDS[text] if text in WORDS else float(text)


def read_cohort(values: Array, truth: Flags, inputs: Sequence[Input]) -> Cohort:
    """The adults, each once, without impossible values."""
    low, high = np.array([each.plausible for each in inputs]).T
    wrong = (values < low) | (values > high)
    whole = np.column_stack([np.where(np.isnan(values), -1.0, values), truth])
    kept = np.zeros(len(values), dtype=bool)
    kept[np.unique(whole, axis=0, return_index=True)[1]] = True
    adult = ~(values[:, 0] < ADULT)
    left_out = {
        "repeated rows left out": int((~kept).sum()),
        "patients under 18 left out": int((kept & ~adult).sum()),
        "impossible values treated as missing": int(wrong[kept & adult].sum()),
    }
    values = np.where(wrong, np.nan, values)[kept & adult]
    groups = {
        "sex": tuple({0.0: "men", 1.0: "women"}.get(sex, "") for sex in values[:, SEX]),
        "age": tuple(_age_band(age) for age in values[:, 0]),
    }
    return Cohort(values, truth[kept & adult], groups, left_out)


def _age_band(age: float) -> str:
    return next((name for name, (low, high) in AGE_BANDS.items() if low <= age < high), "")


def hide(cohort: Cohort) -> dict[str, Array]:
    """The cohort's values under each scenario of missing results; the same in every repeat."""
    ids = list(COLUMNS)
    scenarios = {RECORDED: cohort.values} | {
        name: without(cohort.values, [ids.index(each) for each in hidden])
        for name, hidden in SCENARIOS.items()
    }
    coin = np.random.default_rng(0).random(cohort.values.shape) < 0.5  # noqa: PLR2004
    return scenarios | {HALF: np.where(coin, np.nan, cohort.values)}


RECIPE = Recipe(
    folder=HERE,
    condition="liver disease",
    train=fit,
    profiles=PROFILES,
    patterns=PATTERNS,
    smallest_auroc=0.75,
    tolerance=0.03,
)


def main(
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The CSV file.")],
    out: Annotated[Path, typer.Option(file_okay=False, help="Where the files go.")] = HERE,
) -> None:
    """Train, measure, quantize, and write the model's files."""
    values, truth = read_table(data)
    cohort = read_cohort(values, truth, RECIPE.head().inputs)
    try:
        files, measured = make(RECIPE, cohort, hide(cohort), values.astype(np.float32))
    except NotGoodEnough as error:
        typer.echo(f"refused: {error}", err=True)
        raise typer.Exit(1) from error
    write(out, files)
    typer.echo(measured)


if __name__ == "__main__":
    typer.run(main)
