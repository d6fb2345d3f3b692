"""TensorFlow Lite → ONNX, where it is shown that both answer alike.

The conversion itself is done by `tf2onnx`, which needs TensorFlow and so is never a part of Nadi:
it is run in an environment of its own, or its result is brought along (docs/decisions/0016). What
is done here:

* the graph gets the inputs and the output that Nadi gives and takes: float32 and int64, images with
  channels first, the names of the TFLite signature;
* both networks are asked the same cases, made-up ones and known ones; if one answer differs by more
  than is allowed, there is no result. A difference is never passed over.
"""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from models.engines import TensorSpec, ask
from models.onnx_engine import OnnxEngine
from models.registry import ModelUnusable
from models.tensors import FloatArray, Tensors, batch_size
from models.tflite import LiteRtEngine, Tensor

Array = npt.NDArray[Any]

CONVERTER = "tf2onnx"

_OPSET = 17
_INSIDE = "tflite/"
_TIMEOUT_S = 1800
_FREE_SIZE = 16
_CASES = 128
_SPREADS = (0.1, 1.0, 10.0)
_TOLERANCE = 1e-4
_LEVELS = 1.01
"""A quantized answer may be rounded to the neighbouring level."""


class NotConvertible(ValueError):
    """A network was not converted: the message says why, and what helps."""


class AnswersDiffer(NotConvertible):
    """The converted network answers otherwise than its original."""


@dataclass(frozen=True)
class Parity:
    """How much alike two networks answer.

    Attributes:
        cases: How many were asked.
        gap: Largest difference.
        allowed: What it must not exceed.
    """

    cases: int
    gap: float
    allowed: float


def run_converter(python: Path, model: Path) -> bytes:
    """Convert by tf2onnx.

    Args:
        python: Interpreter of an environment with tf2onnx and TensorFlow.
        model: The TFLite file.

    Raises:
        NotConvertible: It is not there, or can't convert this network.
    """
    with TemporaryDirectory() as folder:
        target = Path(folder) / "converted.onnx"
        command = [str(python), "-m", f"{CONVERTER}.convert", "--tflite", str(model)]
        command += ["--output", str(target), "--opset", str(_OPSET)]
        try:
            done = subprocess.run(  # noqa: S603 - who calls names the interpreter
                command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotConvertible(f"{python} can't be run: {error}") from error
        if done.returncode == 0 and target.exists():
            return target.read_bytes()
        last = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise NotConvertible(
            f"{CONVERTER} did not convert {model}: {last}. It needs TensorFlow: make an "
            f"environment with both (pip install {CONVERTER} tensorflow) and name its Python with "
            "--python"
        )


def convert(
    original: LiteRtEngine,
    converted: bytes,
    known: Sequence[Tensors] = (),
    *,
    tolerance: float | None = None,
) -> tuple[bytes, Parity]:
    """Make a converted network one that Nadi can run, and prove that it answers alike.

    Args:
        original: The TFLite model.
        converted: What a converter made of it.
        known: Batches to ask beside made-up ones.
        tolerance: Largest accepted difference; by default that of rounding.

    Returns:
        The ONNX model, and how much alike it answers.

    Raises:
        NotConvertible: It can't be run, or inputs or outputs of the two can't be matched.
        AnswersDiffer: They answer differently.
    """
    model = adapted(converted, original)
    try:
        twin = OnnxEngine(model, original.output_name, exact_int8=True)
    except ModelUnusable as error:
        raise NotConvertible(f"ONNX Runtime can't run what was converted: {error}") from error
    batches = [*known, made_up(original.inputs, original.tensors)]
    pairs = [(ask(original, each), _asked(twin, each)) for each in batches]
    gap = max(float(np.abs(old - new).max()) for old, new in pairs)
    largest = max(float(np.abs(old).max()) for old, _ in pairs)
    step = _LEVELS * original.output.scale or _TOLERANCE * max(1.0, largest)
    allowed = step if tolerance is None else tolerance
    found = Parity(sum(map(batch_size, batches)), gap, allowed)
    if not gap <= found.allowed:  # a NaN fails too
        raise AnswersDiffer(
            f"the converted network answers up to {gap:.3g} away from its original on "
            f"{found.cases} cases; allowed is {found.allowed:.3g}. Use the .tflite as it is: "
            "Nadi runs it by LiteRT"
        )
    return model, found


def _asked(twin: OnnxEngine, batch: Tensors) -> FloatArray:
    try:
        return ask(twin, batch)
    except Exception as error:  # the runtime's own error types are not public
        raise NotConvertible(
            "the converted network can't be run on its original's inputs: the converter changed "
            "their order or their sizes"
        ) from error


def made_up(specs: Sequence[TensorSpec], tensors: dict[str, Tensor]) -> Tensors:
    """Seeded cases that reach wherever inputs can: every level, small and large numbers."""
    generator = np.random.default_rng(0)
    found: dict[str, Array] = {}
    for spec in specs:
        shape = (_CASES, *(size or _FREE_SIZE for size in spec.shape[1:]))
        tensor = tensors[spec.name]
        if tensor.is_quantized:
            limits = np.iinfo(tensor.dtype)
            found[spec.name] = tensor.values(generator.integers(limits.min, limits.max + 1, shape))
        elif spec.dtype == np.int64:
            found[spec.name] = generator.integers(0, 2, shape)
        else:
            spread = np.resize(_SPREADS, _CASES).reshape(-1, *[1] * (len(shape) - 1))
            found[spec.name] = (generator.normal(size=shape) * spread).astype(np.float32)
    return found


def adapted(converted: bytes, original: LiteRtEngine) -> bytes:
    """Give a converted graph the inputs and the output of Nadi.

    Raises:
        NotConvertible: They can't be matched, or it is no ONNX model.
    """
    try:
        inside = compose.add_prefix(onnx.load_from_string(converted), _INSIDE)
    except Exception as error:  # the parser's own error types are not public
        raise NotConvertible("the converted file is no ONNX model") from error
    constants = {each.name for each in inside.graph.initializer}
    given = [each.name for each in inside.graph.input if each.name not in constants]
    parts = [
        _entry(name, tensor, _named(given, name, tensor))
        for name, tensor in original.tensors.items()
    ]
    made = _named(
        [each.name for each in inside.graph.output], original.output_name, original.output
    )
    parts.append(_exit(original.output_name, original.output, made))
    entries = [node for part in parts[:-1] for node in part.nodes]
    graph = helper.make_graph(
        [*entries, *inside.graph.node, *parts[-1].nodes],
        "converted",
        [_information(spec) for spec in original.inputs],
        [_information(original.output.spec(original.output_name))],
        [*inside.graph.initializer, *(each for part in parts for each in part.constants)],
    )
    model = helper.make_model(graph, opset_imports=inside.opset_import)
    model.ir_version = inside.ir_version
    return bytes(model.SerializeToString())


@dataclass(frozen=True)
class _Part:
    """Nodes around a converted graph, and what they need to know."""

    nodes: Sequence[onnx.NodeProto]
    constants: Sequence[onnx.TensorProto] = ()


@dataclass(frozen=True)
class _Step:
    """A node of one input and one output."""

    kind: str
    constants: Sequence[str] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)


def _entry(name: str, tensor: Tensor, inside: str) -> _Part:
    """What Nadi gives → what the graph takes."""
    steps = [_Step("Transpose", (), {"perm": tensor.order})] if tensor.turns else []
    if tensor.is_quantized:
        steps.append(_Step("QuantizeLinear", _scaling(name)))
    else:
        kind = helper.np_dtype_to_tensor_dtype(tensor.dtype)
        steps.append(_Step("Cast", (), {"to": kind}))
    return _Part(list(_chain(name, steps, inside)), _scales(name, tensor))


def _exit(name: str, tensor: Tensor, inside: str) -> _Part:
    """What the graph gives → what Nadi takes."""
    step = _Step("Cast", (), {"to": TensorProto.FLOAT})
    if tensor.is_quantized:
        step = _Step("DequantizeLinear", _scaling(name))
    return _Part(list(_chain(inside, [step], name)), _scales(name, tensor))


def _chain(start: str, steps: Sequence[_Step], end: str) -> Iterator[onnx.NodeProto]:
    last = start
    for at, step in enumerate(steps):
        made = end if at == len(steps) - 1 else f"{start}/{at}"
        yield helper.make_node(step.kind, [last, *step.constants], [made], **step.attributes)
        last = made


def _scaling(name: str) -> list[str]:
    return [f"{name}/scale", f"{name}/zero-point"]


def _scales(name: str, tensor: Tensor) -> list[onnx.TensorProto]:
    if not tensor.is_quantized:
        return []
    values = (np.float32(tensor.scale), np.asarray(tensor.zero_point, dtype=tensor.dtype))
    return [
        numpy_helper.from_array(np.asarray(value), each)
        for value, each in zip(values, _scaling(name), strict=True)
    ]


def _information(spec: TensorSpec) -> onnx.ValueInfoProto:
    sizes = ["n" if at == 0 and size is None else size for at, size in enumerate(spec.shape)]
    return helper.make_tensor_value_info(
        spec.name, helper.np_dtype_to_tensor_dtype(spec.dtype), sizes
    )


def _named(there: Sequence[str], name: str, tensor: Tensor) -> str:
    """The converted graph's name for a tensor of the original."""
    for wanted in (tensor.name, name):
        if _INSIDE + wanted in there:
            return _INSIDE + wanted
    if len(there) == 1:
        return there[0]
    shown = ", ".join(each.removeprefix(_INSIDE) for each in there)
    raise NotConvertible(f"the converted network has no {name}; it has {shown}")
