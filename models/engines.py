"""What runs a network: the same interface for every format of weights.

`models.onnx_engine` runs ONNX by ONNX Runtime, `models.tflite` runs TensorFlow Lite by LiteRT.
Whatever a network holds inside, it is given float32 and int64, and it answers in float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from models.tensors import FloatArray, Tensors, batch_size, filled, parts_of

_AT_ONCE = 64
_LONG_ENOUGH_S = 3600.0


class RunTimedOut(RuntimeError):
    """A run took longer than the model's `limits.timeout_s` and was stopped or given up."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"the model did not answer within its time limit of {timeout_s:g} s")


class EngineBusy(RuntimeError):
    """A run that was given up has not ended yet, and this model can't do two at once."""


@dataclass(frozen=True)
class TensorSpec:
    """One input of a network, as the one who asks sees it.

    Attributes:
        name: Of the graph's input.
        dtype: float32 or int64.
        shape: Sizes; None where any size will do.
        can_miss: Whether a number may be NaN, for a missing value.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]
    can_miss: bool = True

    def fits(self, array: npt.NDArray[Any]) -> bool:
        """Whether an array has this type and shape; the first axis, the cases, may be any."""
        sizes = zip(array.shape[1:], self.shape[1:], strict=False)
        return (
            array.dtype == self.dtype
            and array.ndim == len(self.shape)
            and all(wanted is None or size == wanted for size, wanted in sizes)
        )

    def __str__(self) -> str:
        sizes = ", ".join("n" if size is None else str(size) for size in self.shape)
        return f"{self.name} must be {self.dtype} of shape ({sizes})"


class Engine(Protocol):
    """A network that is loaded; threads may share it."""

    @property
    def version(self) -> str:
        """Name and version of the inference runtime."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """What it is given."""

    def run(self, batch: Tensors, *, timeout_s: float) -> FloatArray:
        """Ask the network.

        Args:
            batch: Its inputs by name, all there and of the types and shapes of `inputs`.
            timeout_s: When to stop.

        Returns:
            float32 of shape (n, m).

        Raises:
            RunTimedOut: It took longer.
            EngineBusy: An earlier run that was given up still goes on.
        """


def ask(engine: Engine, cases: Tensors) -> FloatArray:
    """Ask a network for many cases, without any haste: for judging, not for serving."""
    parts = batches_of(engine.inputs, cases)
    found = np.concatenate([engine.run(part, timeout_s=_LONG_ENOUGH_S) for part in parts])
    return found[: batch_size(cases)]


def batches_of(wanted: Sequence[TensorSpec], cases: Tensors) -> list[Tensors]:
    """Cut many cases into batches that a graph takes, the last one filled up where it must be."""
    fixed = next((spec.shape[0] for spec in wanted if spec.shape[0]), None)
    parts = parts_of(cases, fixed or _AT_ONCE)
    return [filled(part, fixed) for part in parts] if fixed else list(parts)
