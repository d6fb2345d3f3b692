"""Runs TensorFlow Lite by LiteRT (package `ai-edge-litert`, extra `tflite`).

* Quantized inputs and outputs are scaled here, so that whoever asks gives and gets float32.
* An image is given channels first, as everywhere in Nadi, and turned where a graph wants them last.
* A graph of any batch is resized to the batch that is asked.
* An interpreter is no thread's but one's at a time, so runs wait for each other. A run can't be
  stopped either: one that takes too long is given up, and until it has ended the model is busy.
* The file is mapped, not read; what LiteRT packs for its kernels is a copy (docs/gate.md).

Source: https://ai.google.dev/edge/litert (quantization: value = scale x (level - zero point)).
"""

import importlib.metadata
import threading
import weakref
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from models.engines import EngineBusy, RunTimedOut, TensorSpec
from models.registry import ModelUnusable
from models.tensors import FloatArray, Tensors

Array = npt.NDArray[Any]

_PACKAGE = "ai-edge-litert"
_WHOLE = frozenset({np.dtype(np.int32), np.dtype(np.int64)})
_IMAGE_AXES = 4
_FULL_BYTES = 4
_CHANNELS = (1, 3)
_CHANNELS_LAST, _CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


@dataclass(frozen=True)
class Tensor:
    """One input or output of a graph.

    Attributes:
        name: LiteRT's own for it.
        place: LiteRT's number for it.
        dtype: Of the graph.
        shape: Of the graph; -1 where any size will do.
        scale: Of a quantized tensor; 0 of any other.
        zero_point: Of a quantized tensor.
        turns: Whether it is an image that the graph wants channels last.
    """

    name: str
    place: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    turns: bool = False

    @property
    def order(self) -> tuple[int, ...]:
        """The graph's axes among those that are given."""
        return _CHANNELS_LAST if self.turns else tuple(range(len(self.shape)))

    @property
    def is_quantized(self) -> bool:
        """Whether levels stand for numbers."""
        return self.scale > 0

    def spec(self, name: str) -> TensorSpec:
        """What whoever asks has to give."""
        is_whole = self.dtype in _WHOLE and not self.is_quantized
        order = _CHANNELS_FIRST if self.turns else range(len(self.shape))
        sizes = (self.shape[axis] for axis in order)
        return TensorSpec(
            name,
            np.dtype(np.int64 if is_whole else np.float32),
            tuple(None if size < 0 else size for size in sizes),
            can_miss=not (is_whole or self.is_quantized),
        )

    def levels(self, values: Array) -> Array:
        """Numbers as the graph wants them.

        Raises:
            ValueError: A number is missing, which no level stands for.
        """
        turned = values.transpose(self.order)
        if not self.is_quantized:
            return np.ascontiguousarray(turned, dtype=self.dtype)
        if np.isnan(turned).any():
            raise ValueError("a quantized input can't hold a missing value")
        limits = np.iinfo(self.dtype)
        levels = np.rint(turned / np.float32(self.scale)) + self.zero_point
        return np.ascontiguousarray(np.clip(levels, limits.min, limits.max), dtype=self.dtype)

    def values(self, levels: Array) -> FloatArray:
        """What the graph gave, as numbers."""
        values = levels.astype(np.float32)
        return (values - self.zero_point) * np.float32(self.scale) if self.is_quantized else values


class LiteRtEngine:
    """A TFLite model that is loaded.

    Attributes:
        version: Name and version of the runtime.
        inputs: What it is given.
        tensors: The graph's inputs by name.
        output_name: Name of the graph's output.
        output: That output.
        narrow_parts: Kinds of tensors narrower than float32, with how many; none if float32.
    """

    def __init__(self, file: Path, output: str | None = None, image: str | None = None) -> None:
        """Load a model.

        Args:
            file: The model.
            output: Name of the graph's output; its only one when absent.
            image: Name of the input that is an image.

        Raises:
            ModelUnusable: LiteRT is not installed, can't load it, or it has no such tensors.
        """
        interpreter = _open(file)
        self.version = f"litert {importlib.metadata.version(_PACKAGE)}"
        given = _tensors(interpreter, interpreter.get_input_details(), "input")
        made = _tensors(interpreter, interpreter.get_output_details(), "output")
        self.tensors = {
            name: _turned(tensor) if name == image else tensor for name, tensor in given.items()
        }
        self.output_name = output or next(iter(made))
        if self.output_name not in made or (output is None and len(made) > 1):
            raise ModelUnusable(f"the network has no output {output}, but {', '.join(made)}")
        self.output = made[self.output_name]
        self.inputs = tuple(tensor.spec(name) for name, tensor in self.tensors.items())
        self.narrow_parts = _narrow_parts(interpreter)
        self._runs = _Runs(interpreter, self.output.place)
        weakref.finalize(self, self._runs.end)

    def run(self, batch: Tensors, *, timeout_s: float) -> FloatArray:
        """Ask the network; see `models.engines.Engine`.

        Raises:
            ValueError: A missing value is given to a quantized input.
        """
        tensors = ((self.tensors[name], array) for name, array in batch.items())
        levels = {tensor.place: tensor.levels(array) for tensor, array in tensors}
        return self.output.values(self._runs.ask(levels, timeout_s))


class _Runs:
    """The thread in which one interpreter runs, so that whoever waits may stop waiting."""

    def __init__(self, interpreter: Any, output: int) -> None:  # noqa: ANN401 - untyped
        self._interpreter = interpreter
        self._output = output
        self._sizes: dict[int, tuple[int, ...]] = {}
        self._is_free = threading.Lock()
        self._asked: SimpleQueue[tuple[Future[Array], Mapping[int, Array]] | None] = SimpleQueue()
        threading.Thread(target=self._work, name="litert", daemon=True).start()

    def ask(self, levels: Mapping[int, Array], timeout_s: float) -> Array:
        """Give tensors by their places, get the output."""
        if not self._is_free.acquire(timeout=timeout_s):
            raise EngineBusy("a run of this model that was given up has not ended yet")
        answer: Future[Array] = Future()
        # The lock is the run's own now: it is released when the run ends, however late.
        self._asked.put((answer, levels))
        try:
            return answer.result(timeout_s)
        except TimeoutError as error:
            raise RunTimedOut(timeout_s) from error

    def end(self) -> None:
        """Let the thread go."""
        self._asked.put(None)

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            answer, levels = asked
            try:
                answer.set_result(self._invoke(levels))
            except Exception as error:  # noqa: BLE001 - raised again where it was asked
                self._sizes.clear()  # it may have happened halfway through a change of sizes
                answer.set_exception(error)
            finally:
                self._is_free.release()

    def _invoke(self, levels: Mapping[int, Array]) -> Array:
        sizes = {place: array.shape for place, array in levels.items()}
        if sizes != self._sizes:
            for place, size in sizes.items():
                self._interpreter.resize_tensor_input(place, size, strict=True)
            self._interpreter.allocate_tensors()
            self._sizes = sizes
        for place, array in levels.items():
            self._interpreter.set_tensor(place, array)
        self._interpreter.invoke()
        return np.asarray(self._interpreter.get_tensor(self._output))


def _open(file: Path) -> Any:  # noqa: ANN401 - LiteRT has no types
    try:
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - an extra
    except ImportError as error:
        message = "LiteRT is needed for a .tflite model; install it: pip install 'nadi[tflite]'"
        raise ModelUnusable(message) from error
    try:
        interpreter = Interpreter(model_path=str(file), num_threads=1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelUnusable("LiteRT can't load these weights") from error
    return interpreter


def _tensors(interpreter: Any, details: list[dict[str, Any]], side: str) -> dict[str, Tensor]:  # noqa: ANN401
    """The inputs or outputs of a graph by name: its signature's, where it has one for them."""
    found = {each["index"]: each for each in details}
    names = {each["index"]: each["name"] for each in details}
    signatures = interpreter.get_signature_list()
    if len(signatures) == 1:
        runner = interpreter.get_signature_runner()
        signed = getattr(runner, f"get_{side}_details")()
        if {each["index"] for each in signed.values()} == found.keys():
            names = {each["index"]: name for name, each in signed.items()}
    return {names[place]: _tensor(each) for place, each in found.items()}


def _narrow_parts(interpreter: Any) -> tuple[str, ...]:  # noqa: ANN401
    """`int8 tensors (12)`: what a graph holds that stands for numbers in fewer than 32 bits."""
    kinds = Counter(
        np.dtype(each["dtype"]).name
        for each in interpreter.get_tensor_details()
        if each["quantization"][0] or _is_narrow(np.dtype(each["dtype"]))
    )
    return tuple(f"{kind} tensors ({count})" for kind, count in sorted(kinds.items()))


def _is_narrow(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iuf" and dtype.itemsize < _FULL_BYTES


def _tensor(detail: dict[str, Any]) -> Tensor:
    dtype = np.dtype(detail["dtype"])
    scale, zero_point = detail["quantization"]
    if dtype.kind not in "iuf":
        raise ModelUnusable(f"tensor {detail['name']} is {dtype}; only numbers can be given")
    shape = tuple(int(size) for size in detail["shape_signature"])
    return Tensor(detail["name"], detail["index"], dtype, shape, float(scale), int(zero_point))


def _turned(tensor: Tensor) -> Tensor:
    """An image's tensor; its channels are few, so a long last axis is none of channels."""
    is_image = len(tensor.shape) == _IMAGE_AXES
    return replace(tensor, turns=is_image and tensor.shape[-1] in _CHANNELS)
