"""From a table of patients to the files of a tabular model, or to the reason why there are none.

Cross-validation measures, all patients train the network that ships, Platt's calibration from the
cross-validation goes into its last layer, and the int8 form must pass the gate. Nothing is written
unless everything holds.

Needs the extra `quantize`.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # no stubs

from models.checksums import sha256
from models.evaluate import quantization_gap
from models.gate import Verdict
from models.manifest import MANIFEST_FILE, ReferenceWeights, Weights, parse
from models.model_files import (
    Head,
    golden_json,
    licence_text,
    read_head,
    weights_table,
    with_measured,
)
from models.tabular import INPUT_NAME, OUTPUT_NAME, Array, Network, sigmoid, to_onnx
from models.tabular_report import Findings, metric_tables
from models.tabular_validation import Cohort, Trainer, cross_validate, gate_verdict, quantized
from models.tensors import FloatArray

MARK = "# Written by train.py\n"
_FINAL_SEED = 0


class NotGoodEnough(RuntimeError):
    """A trained model misses what it must reach; nothing was written."""


@dataclass(frozen=True)
class Recipe:
    """How one tabular model is made.

    Attributes:
        folder: Where its manifest and card are.
        condition: What the sick have, in a word or two.
        train: Makes a network.
        profiles: Made-up patients: name → values in the order of the inputs.
        patterns: Which results the golden cases lack: name → ids.
        smallest_auroc: What int8 must reach on unseen patients.
        tolerance: Largest accepted difference of an int8 probability to the fp32 one.
    """

    folder: Path
    condition: str
    train: Trainer
    profiles: Mapping[str, Sequence[float]]
    patterns: Mapping[str, Sequence[str]]
    smallest_auroc: float
    tolerance: float

    def head(self) -> Head:
        """What people wrote of the manifest."""
        return read_head(self.folder, MARK)


def make(
    recipe: Recipe, cohort: Cohort, scenarios: Mapping[str, Array], everyone: FloatArray
) -> tuple[dict[str, bytes], str]:
    """Train, validate, quantize and judge.

    Args:
        recipe: How the model is made.
        cohort: Whom it is made with.
        scenarios: Name → the cohort's values with other results missing; `as recorded` among them.
        everyone: The whole table as it is, for comparing int8 with fp32.

    Returns:
        The model's files by name, and the measured part of its card.

    Raises:
        NotGoodEnough: The int8 model misses its AUROC, the gate or the tolerance.
    """
    head = recipe.head()
    if head.gate is None:
        raise NotGoodEnough(f"{recipe.folder}: its manifest needs a [gate]")
    with threadpool_limits(1):
        validation = cross_validate(cohort, recipe.train, scenarios)
        network = recipe.train(cohort.values, cohort.truth, _FINAL_SEED)
    network = network.calibrated(*validation.calibration)
    verdict = gate_verdict(head.gate, head.outputs, cohort, validation)
    _, low, high = (band.at_least for band in head.outputs[0].bands)
    findings = Findings(cohort, validation, verdict, recipe.condition, (low, high))
    fp32 = to_onnx(network, recipe.folder.name)
    int8 = quantized(fp32, cohort.values)
    gap = max(quantization_gap(int8, fp32, everyone).values())
    _insist(recipe, findings, gap)
    measured = findings.card() + _sizes(int8, fp32, gap, recipe.tolerance)
    files = {"model.onnx": int8, "model.fp32.onnx": fp32}
    files["golden.json"] = golden_json(
        golden_cases(recipe, [each.id for each in head.inputs], network)
    )
    files["evaluation.json"] = _report(recipe, head, verdict, sha256(int8))
    tail = weights_table(_weights(files, recipe.tolerance)) + metric_tables(findings.measures())
    parse(head.text + tail, file=MANIFEST_FILE)
    card = (recipe.folder / "card.md").read_text(encoding="utf-8")
    files[MANIFEST_FILE] = (head.text + tail).encode()
    files["card.md"] = with_measured(card, measured).encode()
    files |= licence_text(recipe.folder, head)
    return files, measured


def without(values: Array, columns: Sequence[int]) -> Array:
    """The values with some columns missing."""
    hidden = values.copy()
    hidden[:, list(columns)] = np.nan
    return hidden


def golden_cases(recipe: Recipe, ids: Sequence[str], network: Network) -> list[dict[str, Any]]:
    """Made-up patients under several patterns of missing results, and the fp32 answer to each."""
    cases = []
    for (name, profile), (pattern, hidden) in itertools.product(
        recipe.profiles.items(), recipe.patterns.items()
    ):
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
    return cases


def _insist(recipe: Recipe, findings: Findings, gap: float) -> None:
    reached = findings.measures()[0].estimate
    problems = list(findings.verdict.reasons)
    if reached.value < recipe.smallest_auroc:
        problems.append(f"AUROC {reached}; {recipe.smallest_auroc} is needed")
    if gap > recipe.tolerance:
        problems.append(f"int8 differs by {gap:.4f}; {recipe.tolerance} is allowed")
    if problems:
        raise NotGoodEnough("\n".join(problems))


def _report(recipe: Recipe, head: Head, verdict: Verdict, weights: str) -> bytes:
    """The report of the gate as a package carries it, for weights of this SHA-256."""
    report = {
        "model": f"{recipe.folder.name}@{head.version}",
        "method": "int8 against fp32 on patients unseen in training, each in five repeats of "
        "fivefold cross-validation; loss paired, bootstrap over patients",
        "weights_sha256": weights,
        "gate": head.gate.model_dump(mode="json") if head.gate else {},
        **verdict.as_json(),
    }
    return (json.dumps(report, indent=1) + "\n").encode()


def _weights(files: Mapping[str, bytes], tolerance: float) -> Weights:
    return Weights(
        file="model.onnx",
        sha256=sha256(files["model.onnx"]),
        format="onnx-int8-qdq",
        tolerance=tolerance,
        input_name=INPUT_NAME,
        output_name=OUTPUT_NAME,
        reference=ReferenceWeights(file="model.fp32.onnx", sha256=sha256(files["model.fp32.onnx"])),
    )


def _sizes(int8: bytes, fp32: bytes, gap: float, tolerance: float) -> str:
    return (
        f"\nint8 {len(int8):,} bytes, fp32 {len(fp32):,} bytes: {len(int8) / len(fp32):.1%}.\n"
        "Largest difference of a probability over the whole table, under both kernel settings:\n"
        f"{gap:.4f} (tolerance {tolerance}).\n\n"
    )
