"""Runs a model's network; the only importer of the inference runtime in the serving path.

What it takes care of:

* weights are loaded only if they are the ones the manifest names, and used only if they answer
  the golden cases within the manifest's tolerance *on this machine*;
* without VNNI instructions the int8 kernels of ONNX Runtime may saturate their 16-bit sums:
  `session.x64quantprecision=1` chooses the slower exact ones, and is set where VNNI is missing;
* a session serves many threads but must not cross a fork: create it in the process that uses it;
* one thread per session and no spinning, since the worker's threads are the parallelism; no memory
  arena, since micro-batches differ in size.
"""

import platform
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from models.registry import InstalledModel, ModelUnusable
from models.tensors import FloatArray, Tensors, batch_size

KernelClass = Literal["avx512-vnni", "avx-vnni", "avx512", "avx2", "other"]

_CPU_INFO = Path("/proc/cpuinfo")
_KERNELS: tuple[tuple[KernelClass, str], ...] = (
    ("avx512-vnni", "avx512_vnni"),
    ("avx-vnni", "avx_vnni"),
    ("avx512", "avx512f"),
    ("avx2", "avx2"),
)
_EXACT_INT8_KEY = "session.x64quantprecision"
_TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


class GoldenCasesFailed(ModelUnusable):
    """On this machine the model does not give the answers its maker recorded; don't use it."""


def kernel_class_of(cpu_info: str) -> KernelClass:
    """The best int8 kernels that a CPU of these flags (text of `/proc/cpuinfo`) can run."""
    flags = re.search(r"^flags\s*:(.*)$", cpu_info, re.MULTILINE)
    known = set(flags.group(1).split()) if flags else set()
    return next((kernels for kernels, flag in _KERNELS if flag in known), "other")


@cache
def cpu_kernel_class() -> KernelClass:
    """The best int8 kernels of this machine; `other` where it does not say (Arm, not Linux)."""
    try:
        return kernel_class_of(_CPU_INFO.read_text(encoding="utf-8"))
    except OSError:
        return "other"


def needs_exact_int8() -> bool:
    """Whether this machine's default int8 kernels may saturate: x86 without VNNI."""
    is_x86 = platform.machine().lower() in {"x86_64", "amd64"}
    return is_x86 and cpu_kernel_class() not in {"avx512-vnni", "avx-vnni"}


def open_session(weights: bytes, *, exact_int8: bool, threads: int = 1) -> ort.InferenceSession:
    """An ONNX Runtime session as Nadi runs them: one thread, no spinning, no arena.

    Args:
        weights: An ONNX model.
        exact_int8: Choose int8 kernels that can't saturate.
        threads: That work on one run.

    Raises:
        ModelUnusable: The runtime can't load it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry(_EXACT_INT8_KEY, str(int(exact_int8)))
    try:
        return ort.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own error types are not public
        raise ModelUnusable("the inference runtime can't load these weights") from error


class Runtime:
    """One model, ready to answer; shared by the threads of one process.

    Attributes:
        model: What it runs.
        kernel_class: The machine's int8 kernels; goes into the Provenance.
        exact_int8: Whether kernels that can't saturate were chosen.
        version: Name and version of the inference runtime.
    """

    def __init__(self, model: InstalledModel, *, exact_int8: bool | None = None) -> None:
        """Load the weights and try the golden cases.

        Args:
            model: What to run.
            exact_int8: Overrides what the CPU suggests; for tests and for measuring.

        Raises:
            WeightsAltered: The weights are not the manifest's.
            GoldenCasesFailed: It answers a golden case differently on this machine.
            ModelUnusable: It can't be loaded.
        """
        self.model = model
        self.kernel_class: KernelClass = cpu_kernel_class()
        self.exact_int8 = needs_exact_int8() if exact_int8 is None else exact_int8
        self.version = f"onnxruntime {ort.__version__}"
        self._session = open_session(model.weights(), exact_int8=self.exact_int8)
        self.golden_gap = self._try_golden_cases()

    @property
    def digest(self) -> str:
        """SHA-256 over manifest and weights."""
        return self.model.digest

    def predict(self, batch: Tensors) -> FloatArray:
        """Ask the model.

        Whether an answer lies in the range of the manifest is for the caller to check row by row
        (`Output.band` raises), so that one odd row does not fail its batch.

        Args:
            batch: The graph's inputs by name; numbers float32 (n, k), NaN where one is missing.

        Returns:
            float32 of shape (n, m), columns as the manifest's outputs say.

        Raises:
            ValueError: The batch has another shape or type.
            ModelUnusable: The network answers in another shape.
        """
        manifest = self.model.manifest
        self._check(batch)
        (answer,) = self._session.run([manifest.weights.output_name], dict(batch))
        if answer.shape != (batch_size(batch), manifest.output_width):
            raise ModelUnusable("the network's output doesn't fit the manifest")
        return np.asarray(answer, dtype=np.float32)

    def _check(self, batch: Tensors) -> None:
        """Insist on the graph's inputs, of their types and shapes where those are fixed."""
        wanted = {each.name: each for each in self._session.get_inputs()}
        if wanted.keys() != batch.keys():
            raise ValueError(f"the batch must have the tensors {', '.join(sorted(wanted))}")
        for name, array in batch.items():
            if not _fits(array, wanted[name].type, wanted[name].shape):
                shape = ", ".join(map(str, wanted[name].shape))
                raise ValueError(f"{name} must be {wanted[name].type} of shape ({shape})")

    def _try_golden_cases(self) -> float:
        batch, expected = self.model.golden_cases()
        gap = float(np.abs(self.predict(batch) - expected).max())
        if not gap <= self.model.manifest.weights.tolerance:  # a NaN fails too
            raise GoldenCasesFailed(
                f"{self.model.reference} answers its golden cases differently on this machine "
                f"({self.kernel_class}, {self.version})"
            )
        return gap


def _fits(array: npt.NDArray[Any], kind: str, shape: Sequence[int | str | None]) -> bool:
    fixed = zip(array.shape, shape, strict=False)
    return (
        array.dtype == _TYPES.get(kind)
        and array.ndim == len(shape)
        and all(has == wants for has, wants in fixed if isinstance(wants, int))
    )
