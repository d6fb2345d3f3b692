"""Trains a small model on made-up patients and exports it: the first step of the tutorial.

    python examples/diabetes-risk/train.py --out my-model

It writes what the next steps start from: `model.fp32.onnx`, `evaluation.npz` (calibration,
evaluation and test patients, with sex and age band), `golden.json`, and copies `manifest.toml`,
`card.md` and `LICENSE.txt`. The patients are drawn from a formula: a lesson and nothing else.
"""

import json
import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import onnx
import typer
from onnx import helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.impute import SimpleImputer
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).parent
COLUMNS = ("age", "bmi", "glucose", "systolic")
"""The inputs, in the order of the manifest."""

PATIENTS, TRAINED_ON, CALIBRATED_ON, TESTED_ON = 8000, 3000, 1000, 2000
MISSING = 0.15

Values = npt.NDArray[np.float32]


def made_up_patients(count: int) -> tuple[Values, npt.NDArray[np.int64], npt.NDArray[np.str_]]:
    """Values (n, 4) with NaN where one is missing, who has diabetes, and sex."""
    generator = np.random.default_rng(0)
    age = generator.uniform(18, 85, count)
    bmi = generator.normal(25, 4.5, count).clip(14, 50)
    glucose = generator.lognormal(4.6, 0.25, count).clip(55, 450)
    systolic = (100 + 0.4 * age + generator.normal(0, 14, count)).clip(85, 220)
    logit = 0.045 * (age - 50) + 0.13 * (bmi - 26) + 0.05 * (glucose - 115)
    ill = generator.random(count) < 1 / (1 + np.exp(-logit))
    values = np.stack([age, bmi, glucose, systolic], axis=1).astype(np.float32)
    hidden = generator.random(values.shape) < MISSING
    hidden[:, 0] = False
    values[hidden] = np.nan
    return values, ill.astype(np.int64), generator.choice(["female", "male"], count)


def fitted(values: Values, truth: npt.NDArray[np.int64]) -> Pipeline:
    """A small network behind the usual preparation; all of it becomes part of the graph."""
    network = MLPClassifier((256, 128), alpha=0.1, max_iter=60, early_stopping=True, random_state=0)
    return make_pipeline(SimpleImputer(), StandardScaler(), network).fit(values, truth)


def exported(model: Pipeline) -> onnx.ModelProto:
    """The model as ONNX: `features` (n, 4) float32 → `probability` (n, 1) of being ill.

    scikit-learn answers with a column for each class; the second one is the patient being ill.
    """
    inputs = [("features", FloatTensorType([None, len(COLUMNS)]))]
    onnx_model = to_onnx(model, initial_types=inputs, options={"zipmap": False}, target_opset=17)
    graph = onnx_model.graph
    graph.initializer.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "ill"))
    graph.node.append(helper.make_node("Gather", ["probabilities", "ill"], ["probability"], axis=1))
    del graph.output[:]
    graph.output.append(
        helper.make_tensor_value_info("probability", onnx.TensorProto.FLOAT, ["n", 1])
    )
    onnx.checker.check_model(onnx_model)
    return onnx_model


def golden(model: Pipeline) -> dict[str, list[dict[str, object]]]:
    """A few made-up patients and the answers that every machine has to give."""
    people = {
        "young and slim": (24, 21, 88, 112),
        "middle-aged": (51, 27, 118, 131),
        "high glucose": (63, 31, 240, 150),
        "only age and glucose": (70, None, 150, None),
        "nothing but age": (40, None, None, None),
    }
    cases: list[dict[str, object]] = []
    for name, row in people.items():
        values = np.array([[np.nan if each is None else each for each in row]], dtype=np.float32)
        answer = float(model.predict_proba(values)[0, 1])
        inputs = dict(zip(COLUMNS, row, strict=True))
        cases.append({"id": name, "note": "made up", "inputs": inputs, "expected": [answer]})
    return {"cases": cases}


def main(
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the model's files.")],
) -> None:
    """Train, export, and write what the next step needs."""
    values, truth, sex = made_up_patients(PATIENTS)
    rest = slice(TRAINED_ON, None)
    model = fitted(values[:TRAINED_ON], truth[:TRAINED_ON])
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.fp32.onnx").write_bytes(exported(model).SerializeToString())
    (out / "golden.json").write_text(json.dumps(golden(model), indent=1) + "\n", "utf-8")
    kept = PATIENTS - TRAINED_ON
    # Quantizing calibrates on the first part and chooses by the second; the last judges the choice.
    chosen_by = kept - CALIBRATED_ON - TESTED_ON
    split = np.repeat(["calibration", "evaluation", "test"], [CALIBRATED_ON, chosen_by, TESTED_ON])
    age_band = np.where(values[rest, 0] < 50, "under 50", "50 and over")  # noqa: PLR2004
    np.savez(
        out / "evaluation.npz",
        features=values[rest],
        truth=truth[rest],
        split=split,
        group_sex=sex[rest],
        group_age=age_band,
    )
    for name in ("manifest.toml", "card.md", "LICENSE.txt"):
        shutil.copy(HERE / name, out / name)
    held_out = slice(PATIENTS - TESTED_ON, None)
    score = roc_auc_score(truth[held_out], model.predict_proba(values[held_out])[:, 1])
    typer.echo(f"AUROC on {TESTED_ON} patients of the test split: {score:.3f}")
    typer.echo(f"Written to {out}: {', '.join(sorted(each.name for each in out.iterdir()))}")


if __name__ == "__main__":
    typer.run(main)
