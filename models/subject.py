"""What is to be quantized, on which cases, and by which gate: read and checked before any work.

Either a model folder, whose manifest may be unfinished (`models.draft`), or an fp32 file and a
metric; in both cases with an evaluation set (`models.dataset`, `models.case_data`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from models.answers import answers_here
from models.case_data import read_cases
from models.dataset import DatasetUnusable
from models.draft import Draft, NotNamed
from models.gate import Cases
from models.manifest import Gate, GateMetric
from models.registry import ModelUnusable
from models.runtime import open_session
from models.statistics import Score
from models.task import Task
from models.tensors import Tensors

_EVEN = 0.5


@dataclass(frozen=True)
class Named:
    """What a data scientist named on the command line.

    Attributes:
        folder: A model folder.
        model: The fp32 file, where it is not the folder's.
        data: The evaluation set; `evaluation.npz` of the folder when absent.
        calibration: A file of its own for calibration.
        gate: Keys of `[gate]` that differ from the manifest's.
        output: Name of the graph's output, where it has several and no manifest says which.
    """

    folder: Path | None
    model: Path | None
    data: Path | None
    calibration: Path | None
    gate: Mapping[str, Any]
    output: str | None

    @cached_property
    def draft(self) -> Draft | None:
        """The folder's manifest.

        Raises:
            NotNamed: There is none.
            ManifestError: It is no TOML.
        """
        return Draft(self.folder) if self.folder else None

    def fp32_path(self) -> Path:
        """Where the fp32 network is.

        Raises:
            NotNamed: It was not said, or the folder has none.
        """
        if self.model:
            return self.model
        if self.draft is None:
            raise NotNamed("No model is named: give a model folder, or --model FILE.onnx.")
        return self.draft.fp32_path()

    def data_path(self) -> Path:
        """Where the evaluation set is.

        Raises:
            NotNamed: It was not said, and the folder has none.
        """
        path = self.data or (self.draft.data_path() if self.draft else None)
        if path is None:
            raise NotNamed(
                "No evaluation set is named: give --data FILE.npz with an array for each input of "
                "the network and one called truth; docs/quantize.md shows how to write it."
            )
        return path


@dataclass(frozen=True)
class Subject:
    """A network with everything that is needed to quantize and to judge it.

    Attributes:
        name: The model's, or its file's.
        fp32: The ONNX file.
        output: Name of the graph's output that is judged.
        gate: When a quantized form is accepted.
        task: What the answers mean.
        calibration: Batches that set the ranges of the activations.
        inputs: The cases that decide, by the names of the graph's inputs.
        cases: Their truth, their groups, and what the fp32 network answers to them.
        data_sha256: Digest of the file that they are from.
    """

    name: str
    fp32: bytes
    output: str
    gate: Gate
    task: Task
    calibration: tuple[Tensors, ...]
    inputs: Tensors
    cases: Cases
    data_sha256: str

    def metric(self, scores: Score) -> float:
        """The gate's metric of some answers to the cases.

        Raises:
            ValueError: It is not defined on these cases.
        """
        found = self.task.measure(self.gate.metric, self.cases.truth, scores)
        return float(found(np.ones((1, len(scores))))[0])

    def sample(self, most: int) -> "Subject":
        """The same with fewer cases, always the same ones; itself where they are too few."""
        places = np.sort(np.random.default_rng(0).permutation(len(self.cases.truth))[:most])
        few = replace(
            self,
            inputs={name: array[places] for name, array in self.inputs.items()},
            cases=self.cases.of(places),
        )
        try:
            few.metric(few.cases.fp32)
        except ValueError:
            return self
        return few


def read_subject(named: Named) -> Subject:
    """Read and check everything that was named.

    Raises:
        NotNamed: Something that is needed was not named.
        ManifestError: A key of the manifest is wrong.
        ModelUnusable: The fp32 file can't be read or run.
        DatasetUnusable: The cases don't fit the network, or the truth doesn't fit its answers.
    """
    path, data = named.fp32_path(), named.data_path()
    fp32, session = _opened(path)
    draft = named.draft
    output = named.output or (draft.output_name if draft else None) or _only_output(path, session)
    gate = _gate(named)
    calibration, decides = read_cases(data, named.calibration, session)
    expected = _answered(path, session, decides.inputs, output)
    task = (draft.task(gate) if draft else None) or _guessed(gate.metric, expected, decides.truth)
    if max(task.columns) >= expected.shape[1]:
        raise ModelUnusable(f"{path}: {output} has {expected.shape[1]} columns, [[outputs]] more")
    _check_truth(data, gate, task, (decides.truth, expected))
    return Subject(
        name=draft.name if draft else path.stem,
        fp32=fp32,
        output=output,
        gate=gate,
        task=task,
        calibration=calibration,
        inputs=decides.inputs,
        cases=Cases(decides.truth, expected, decides.groups, decides.patients),
        data_sha256=decides.sha256,
    )


def _gate(named: Named) -> Gate:
    if named.draft:
        return named.draft.gate(named.gate)
    if "metric" not in named.gate:
        raise NotNamed("No metric is named: give --metric.")
    return Gate(**named.gate)


def _opened(path: Path) -> tuple[bytes, Any]:
    try:
        fp32 = path.read_bytes()
        session = open_session(fp32, exact_int8=True)
    except OSError as error:
        raise ModelUnusable(f"{path} can't be read: {error.strerror}") from error
    except ModelUnusable as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise ModelUnusable(f"{path} is no ONNX model that can be run: {reason}") from error
    _insist_on_batches(path, session)
    return fp32, session


def _insist_on_batches(path: Path, session: Any) -> None:  # noqa: ANN401 - the runtime has no types
    fixed = {each.name: each.shape[0] for each in session.get_inputs() if each.shape}
    for name, size in fixed.items():
        if isinstance(size, int):
            raise ModelUnusable(
                f"{path}: the first axis of {name} is fixed to {size}. Export the network with a "
                f"free one, as in torch.onnx.export(…, dynamic_axes={{'{name}': {{0: 'n'}}}})"
            )


def _only_output(path: Path, session: Any) -> str:  # noqa: ANN401 - the runtime has no types
    outputs = session.get_outputs()
    numbers = [each.name for each in outputs if each.type == "tensor(float)"]
    if len(numbers) != 1:
        names = ", ".join(each.name for each in outputs)
        raise NotNamed(f"{path}: which output is the answer? Name it with --output: {names}.")
    return str(numbers[0])


def _answered(path: Path, session: Any, inputs: Tensors, output: str) -> Score:  # noqa: ANN401
    try:
        return answers_here(session, inputs, output=output)
    except ModelUnusable as error:
        raise ModelUnusable(f"{path}: {error}") from error


def _guessed(metric: GateMetric, scores: Score, truth: Score) -> Task:
    """What the answers mean where no manifest says so."""
    columns = tuple(range(scores.shape[1]))
    if metric in {"mae", "rmse"}:
        return Task("value", columns, tuple(() for _ in columns), ())
    if len(columns) > 1 and truth.size == len(truth):
        return Task("class", columns, (), ())
    return Task("probability", columns, tuple((_EVEN,) for _ in columns), (_EVEN,) * len(columns))


def _check_truth(data: Path, gate: Gate, task: Task, known: tuple[Score, Score]) -> None:
    try:
        task.check(*known)
        task.measure(gate.metric, *known)
    except ValueError as error:
        raise DatasetUnusable(f"{data}: {error}") from error
