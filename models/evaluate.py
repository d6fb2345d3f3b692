"""Runs a quantized model and its fp32 twin under every kernel setting it may meet, and judges it.

The settings of an int8 model in ONNX, all of which must be passed:

* `vnni`: products are added exactly, as with VNNI instructions or on Arm;
* `avx2-exact`: x86 without VNNI with `session.x64quantprecision=1`, as Nadi runs it there;
* `avx2`: the same machine with the runtime's default, as anyone else may run the file.

What this machine's own kernels don't show is emulated (`models.emulation`), or proved to be no
different from the weights alone. A TFLite model has one setting, `litert`: its kernels add exactly
everywhere. Beside the evaluation set, the golden cases are tried under every setting.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models.checksums import sha256_of
from models.dataset import Dataset
from models.emulation import Emulation
from models.engines import Engine, TensorSpec, ask, batches_of
from models.gate import Cases, Verdict, judge
from models.kernels import cpu_kernel_class, needs_exact_int8
from models.manifest import Gate
from models.onnx_engine import OnnxEngine, open_session
from models.precision import narrow_parts_of
from models.registry import InstalledModel
from models.runtime import open_engine_of
from models.statistics import Score
from models.task import Task
from models.tensors import FloatArray, Tensors, batch_size

Setting = Literal["vnni", "avx2-exact", "avx2", "litert"]
Method = Literal["run", "emulated", "proved"]

_REPORT_VERSION = 1


@dataclass(frozen=True)
class Answers:
    """What a model answers under each setting.

    Attributes:
        scores: Setting → output tensor, (n, m).
        methods: Setting → how that is known: `run` here, `emulated`, or `proved` to be as `vnni`.
    """

    scores: Mapping[Setting, FloatArray]
    methods: Mapping[Setting, Method]


def answers(weights: bytes, inputs: Tensors, output: str) -> Answers:
    """Ask an ONNX model under every setting of the int8 kernels.

    Args:
        weights: The model.
        inputs: The graph's inputs by name; axis 0 counts the cases.
        output: Name of the graph's output.

    Raises:
        ModelUnusable: The runtime can't load it.
        EmulationImpossible: It has an integer operator whose saturation can't be worked out.
    """
    network = _OnnxNetwork(weights, output)
    return Answers(network.ask(inputs), network.methods)


class _OnnxNetwork:
    """An ONNX model on every kind of kernels.

    Attributes:
        methods: Setting → how its answers are known.
        inputs: What it is given.
        version: Of the runtime.
    """

    def __init__(self, weights: bytes, output: str) -> None:
        self._output = output
        self._others: dict[Setting, Emulation] = {
            "avx2-exact": Emulation(weights, "exact"),
            "avx2": Emulation(weights, "saturating"),
        }
        self.methods: dict[Setting, Method] = {
            "vnni": "run",
            **{name: _method(each.is_needed) for name, each in self._others.items()},
        }
        self._engine = OnnxEngine(weights, output, exact_int8=needs_exact_int8())
        self._ideal: Emulation | None = None
        # This machine's exact kernels are exact only as far as its setting for them reaches.
        if needs_exact_int8() and self._others["avx2-exact"].is_needed:
            self._ideal, self.methods["vnni"] = Emulation(weights, "ideal"), "emulated"
        self.inputs, self.version = self._engine.inputs, self._engine.version

    def ask(self, inputs: Tensors) -> dict[Setting, FloatArray]:
        """What it answers under each setting."""
        exact = self._emulated(self._ideal, inputs) if self._ideal else ask(self._engine, inputs)
        return {
            "vnni": exact,
            **{
                name: self._emulated(each, inputs) if each.is_needed else exact
                for name, each in self._others.items()
            },
        }

    def _emulated(self, emulation: Emulation, inputs: Tensors) -> FloatArray:
        parts = batches_of(self.inputs, inputs)
        found = np.concatenate([emulation.run(part, self._output) for part in parts])
        return found[: batch_size(inputs)]


class _TfliteNetwork:
    """A TFLite model; its kernels add exactly on every machine."""

    methods: Mapping[Setting, Method] = {"litert": "run"}

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.inputs, self.version = engine.inputs, engine.version

    def ask(self, inputs: Tensors) -> dict[Setting, FloatArray]:
        """What it answers."""
        return {"litert": ask(self._engine, inputs)}


class EvaluationImpossible(ValueError):
    """A model can't be judged: the message says what is missing and where it belongs."""


@dataclass(frozen=True)
class Report:
    """What the gate says of a model, and on what grounds.

    Attributes:
        model: Name and version.
        weights_sha256: Digest of what was judged.
        twin_sha256: Digest of the fp32 network it was compared with.
        gate: What is tolerated.
        verdict: On the evaluation set.
        methods: Setting → how its answers are known.
        golden_gaps: Setting → largest difference to a golden answer.
        tolerance: What that must not exceed.
        data_sha256: Digest of the evaluation set.
        split: The part of it that was used; None where it has no parts.
        made_with: The runtimes and the kernels of this machine.
    """

    model: str
    weights_sha256: str
    twin_sha256: str
    gate: Gate
    verdict: Verdict
    methods: Mapping[Setting, Method]
    golden_gaps: Mapping[Setting, float]
    tolerance: float
    data_sha256: str
    split: str | None
    made_with: Mapping[str, str]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is refused; none when it is accepted."""
        golden = (
            f"{setting}: golden cases are answered up to {gap:.4f} away; "
            f"the manifest's tolerance is {self.tolerance:g}."
            for setting, gap in self.golden_gaps.items()
            if not gap <= self.tolerance  # a NaN is no answer either
        )
        return (*golden, *self.verdict.reasons)

    @property
    def is_accepted(self) -> bool:
        """Whether there is nothing against it."""
        return not self.reasons

    def as_json(self) -> dict[str, Any]:
        """The report as a package carries it."""
        told = {**asdict(self), "gate": self.gate.model_dump(mode="json")}
        verdict = told.pop("verdict")
        return {
            "report_version": _REPORT_VERSION,
            "accepted": self.is_accepted,
            "reasons": list(self.reasons),
            **told,
            "comparisons": verdict["comparisons"],
            "unjudged": verdict["unjudged"],
        }


def evaluate(model: InstalledModel, data: Dataset, *, twin: Path | None = None) -> Report:
    """Judge a model on an evaluation set and on its golden cases.

    Args:
        model: A model's folder; its manifest needs a `[gate]`.
        data: Cases whose truth is known, by the names of the graph's inputs.
        twin: The fp32 network, where the manifest names none. A model that is fp32 itself is its
            own.

    Raises:
        EvaluationImpossible: There is no gate or no twin, or the cases don't fit the network.
        EmulationImpossible: It has an integer operator whose saturation can't be worked out.
        ModelUnusable: A file is missing or altered, or can't be loaded.
    """
    manifest = model.manifest
    if manifest.gate is None:
        raise EvaluationImpossible(
            f"{model.reference}: its manifest has no [gate], which says what loss is allowed; "
            "a package needs none where the weights are not quantized"
        )
    twin_file = twin or _twin_of(model)
    if narrow := narrow_parts_of(twin_file):
        raise EvaluationImpossible(
            f"{twin_file} is to be the fp32 network, but it is quantized: {', '.join(narrow)}; "
            "name the network that was quantized"
        )
    original = open_engine_of(twin_file, manifest, exact_int8=needs_exact_int8())
    expected = ask(original, _fitting(original.inputs, data))
    network = _network(model)
    golden, known = model.golden_cases()
    found = network.ask(_fitting(network.inputs, data))
    cases = Cases(data.truth, _columns(expected), data.groups, data.patients)
    task = Task.of(manifest.outputs, manifest.gate)
    scores: dict[str, Score] = {name: _columns(each) for name, each in found.items()}
    try:
        verdict = judge(manifest.gate, task, cases, scores)
    except ValueError as error:
        raise EvaluationImpossible(f"{model.reference}: {error}") from error
    gaps = {name: float(np.abs(each - known).max()) for name, each in network.ask(golden).items()}
    return Report(
        model=model.reference,
        weights_sha256=manifest.weights.sha256,
        twin_sha256=sha256_of(twin_file),
        gate=manifest.gate,
        verdict=verdict,
        methods=dict(network.methods),
        golden_gaps=gaps,
        tolerance=manifest.weights.tolerance,
        data_sha256=data.sha256,
        split=data.splits[0] if data.splits else None,
        made_with={"runtime": network.version, "kernel_class": cpu_kernel_class()},
    )


def _network(model: InstalledModel) -> _OnnxNetwork | _TfliteNetwork:
    weights = model.manifest.weights
    if not weights.is_tflite:
        return _OnnxNetwork(model.weights(), weights.output_name)
    file = model.weights_file()
    return _TfliteNetwork(open_engine_of(file, model.manifest, exact_int8=False))


def _twin_of(model: InstalledModel) -> Path:
    if file := model.reference_file():
        return file
    if model.manifest.weights.format.endswith("fp32"):
        return model.weights_file()
    raise EvaluationImpossible(
        f"{model.reference}: there is no fp32 network to compare with; name it in "
        "weights.reference of the manifest"
    )


def _fitting(wanted: Sequence[TensorSpec], data: Dataset) -> Tensors:
    """The arrays that a network is given, in its types."""
    found = {}
    for spec in wanted:
        array = data.inputs.get(spec.name)
        if array is None:
            there = ", ".join(data.inputs) or "none"
            raise EvaluationImpossible(
                f"the evaluation set has no array {spec.name} for the network; it has {there}"
            )
        if np.can_cast(array.dtype, spec.dtype, casting="same_kind"):
            array = array.astype(spec.dtype, copy=False)
        if not spec.fits(array):
            raise EvaluationImpossible(f"in the evaluation set, {spec}")
        found[spec.name] = array
    return found


def _columns(scores: FloatArray) -> Score:
    return scores.reshape(len(scores), -1).astype(np.float64)


def _method(is_needed: bool) -> Method:
    return "emulated" if is_needed else "proved"


def quantization_gap(int8: bytes, fp32: bytes, batch: FloatArray) -> dict[bool, float]:
    """Largest difference between a quantized model and its twin on a batch.

    Args:
        int8: The quantized ONNX model.
        fp32: Its twin, with the same input and output.
        batch: Inputs.

    Returns:
        Whether kernels that can't saturate were chosen → largest absolute difference.
    """
    expected = _answer(fp32, batch, exact_int8=True)
    return {
        exact: float(np.abs(_answer(int8, batch, exact_int8=exact) - expected).max())
        for exact in (False, True)
    }


def _answer(weights: bytes, batch: FloatArray, *, exact_int8: bool) -> FloatArray:
    session = open_session(weights, exact_int8=exact_int8)
    (answer,) = session.run(None, {session.get_inputs()[0].name: batch})
    return np.asarray(answer, dtype=np.float32)
