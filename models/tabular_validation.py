"""Repeated cross-validation of a tabular model: in fp32 and quantized, with results missing.

* Every patient is scored in each repeat by a network that never saw her; whatever a trainer chooses
  it chooses on the training part alone.
* The calibration of a fold is fitted on the other folds.
* Each fold's network is quantized as the shipped one is, calibrated on its training part, and asked
  under every setting of the int8 kernels: what is measured is the int8 model, not its twin.

Needs the extra `quantize`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.progress import track
from sklearn.model_selection import StratifiedKFold

from models.evaluate import answers
from models.gate import Cases, Verdict, judge
from models.manifest import Gate, Output
from models.onnx_engine import open_session
from models.quantize import static_int8
from models.statistics import Labels, Score, auroc
from models.tabular import (
    INPUT_NAME,
    LAST_LAYER,
    OUTPUT_NAME,
    Array,
    Flags,
    Network,
    platt,
    to_onnx,
)
from models.task import Task
from models.tensors import FloatArray

FOLDS, REPEATS = 5, 5
RECORDED = "as recorded"
FP32, INT8 = "fp32", "vnni"
"""Names of the original's answers, and of the setting whose answers are reported as int8's."""

Trainer = Callable[[Array, Flags, int], Network]
"""Values, truth and a seed → a network that is not yet calibrated."""


@dataclass(frozen=True)
class Cohort:
    """Patients a model is meant for.

    Attributes:
        values: (n, k) in the manifest's units, NaN where missing or implausible.
        truth: Who has the condition.
        groups: What they are told apart by (`sex`) → the group of each; "" where not known.
        left_out: Why rows were left out, or values → how many.
    """

    values: Array
    truth: Flags
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)

    def members(self, kind: str, group: str) -> Flags:
        """Who belongs to a group."""
        return np.array([each == group for each in self.groups[kind]])


@dataclass(frozen=True)
class Validation:
    """What networks answered of patients they never saw.

    Attributes:
        scores: Form (`fp32`, or a setting of the int8 kernels) → scenario → probabilities, of shape
            (repeats, n).
        calibration: Platt's slope and intercept, from all logits of unseen patients.
    """

    scores: dict[str, dict[str, Array]]
    calibration: tuple[float, float]

    def mean(self, scenario: str = RECORDED, form: str = INT8) -> Array:
        """The mean of a patient's scores over the repeats, shape (n,)."""
        return np.asarray(self.scores[form][scenario].mean(axis=0))

    def aurocs(self, truth: Flags, form: str = INT8) -> list[float]:
        """The AUROC of each repeat alone, values as recorded."""
        return [auroc(truth, each) for each in self.scores[form][RECORDED]]


def cross_validate(
    cohort: Cohort, train: Trainer, scenarios: Mapping[str, Array], *, repeats: int = REPEATS
) -> Validation:
    """Train five times fivefold and ask about those left out.

    Args:
        cohort: The patients.
        train: Makes a network of a part of them.
        scenarios: Name → the cohort's values with other results missing; `as recorded` among them.
        repeats: How often everyone is scored.
    """
    logits = []
    found: list[dict[str, dict[str, Array]]] = []
    for repeat in track(range(repeats), "cross-validation", console=Console(stderr=True)):
        fold_of = _folds(cohort, repeat)
        networks = _networks(cohort, train, fold_of, 100 * repeat)
        unseen = np.zeros(len(cohort.truth))
        for fold, network in enumerate(networks):
            unseen[fold_of == fold] = network.logit(cohort.values[fold_of == fold])
        logits.append(unseen)
        calibrated = _calibrated(networks, unseen, cohort.truth, fold_of)
        found.append(_ask(cohort, calibrated, fold_of, scenarios))
    slope = platt(np.concatenate(logits), np.tile(cohort.truth, repeats))
    return Validation(_stacked(found), slope)


def quantized(fp32: bytes, values: Array) -> bytes:
    """The int8 form of a tabular network: all layers but the last, ranges from these patients."""
    batches = [values.astype(np.float32)]
    return static_int8(fp32, batches, keep_fp32=[LAST_LAYER], calibration="percentile")


def gate_verdict(
    gate: Gate, outputs: tuple[Output, ...], cohort: Cohort, validation: Validation
) -> Verdict:
    """What the gate says of the int8 answers to patients that no network had seen.

    Every patient counts once for each repeat, and is drawn with all of them.
    """
    repeats = len(validation.scores[FP32][RECORDED])
    groups = {kind: values * repeats for kind, values in cohort.groups.items()}
    patients: Labels = np.tile(np.arange(len(cohort.truth)), repeats)
    truth: Score = np.tile(cohort.truth, repeats).astype(np.float64)
    forms = {form: each[RECORDED].reshape(-1, 1) for form, each in validation.scores.items()}
    cases = Cases(truth, forms.pop(FP32), groups, patients)
    return judge(gate, Task.of(outputs, gate), cases, forms)


def _folds(cohort: Cohort, repeat: int) -> Labels:
    splits = StratifiedKFold(FOLDS, shuffle=True, random_state=repeat)
    fold_of = np.zeros(len(cohort.truth), dtype=np.int64)
    for fold, (_, test) in enumerate(splits.split(cohort.values, cohort.truth)):
        fold_of[test] = fold
    return fold_of


def _networks(cohort: Cohort, train: Trainer, fold_of: Labels, seed: int) -> list[Network]:
    parts = [fold_of != fold for fold in range(FOLDS)]
    return [
        train(cohort.values[part], cohort.truth[part], seed + fold)
        for fold, part in enumerate(parts)
    ]


def _calibrated(
    networks: list[Network], logits: Array, truth: Flags, fold_of: Labels
) -> list[Network]:
    """Each fold's network, with what the other folds' logits teach of its calibration."""
    return [
        network.calibrated(*platt(logits[fold_of != fold], truth[fold_of != fold]))
        for fold, network in enumerate(networks)
    ]


def _ask(
    cohort: Cohort, networks: list[Network], fold_of: Labels, scenarios: Mapping[str, Array]
) -> dict[str, dict[str, Array]]:
    """Form → scenario → probabilities of shape (n,)."""
    told: dict[str, dict[str, Array]] = {}
    for fold, network in enumerate(networks):
        test = fold_of == fold
        rows = np.vstack([values[test] for values in scenarios.values()]).astype(np.float32)
        for form, column in _forms(network, cohort.values[~test], rows).items():
            parts = np.split(column.astype(np.float64), len(scenarios))
            for scenario, part in zip(scenarios, parts, strict=True):
                everyone = told.setdefault(form, {}).setdefault(scenario, np.zeros(len(test)))
                everyone[test] = part
    return told


def _forms(network: Network, values: Array, rows: FloatArray) -> dict[str, FloatArray]:
    fp32 = to_onnx(network, "fold")
    (original,) = open_session(fp32, exact_int8=False).run([OUTPUT_NAME], {INPUT_NAME: rows})
    int8 = answers(quantized(fp32, values), {INPUT_NAME: rows}, OUTPUT_NAME).scores
    return {FP32: original[:, 0], **{setting: each[:, 0] for setting, each in int8.items()}}


def _stacked(found: list[dict[str, dict[str, Array]]]) -> dict[str, dict[str, Array]]:
    return {
        form: {name: np.stack([each[form][name] for each in found]) for name in scenarios}
        for form, scenarios in found[0].items()
    }
