"""Runs ONNX by ONNX Runtime; the only importer of it in the serving path.

* Without VNNI instructions the int8 kernels may saturate their 16-bit sums:
  `session.x64quantprecision=1` chooses exact ones (`models.kernels`; docs/decisions/0015).
* A session serves many threads but must not cross a fork: create it in the process that uses it.
* One thread per session and no spinning, since the worker's threads are the parallelism; no memory
  arena, since micro-batches differ in size.
* A session is opened from its file: from bytes, ONNX Runtime's Python class keeps a second copy of
  the weights for as long as it lives (measured in docs/gate.md).
* A run is stopped at the end of the operator that is under way, or between two rounds of a loop.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from models.engines import RunTimedOut, TensorSpec
from models.registry import ModelUnusable
from models.tensors import FloatArray, Tensors
from models.watchdog import WATCHDOG

EXACT_INT8_KEY = "session.x64quantprecision"
_TYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(int64)": np.dtype(np.int64),
}


def open_session(
    weights: bytes | Path, *, exact_int8: bool, threads: int = 1
) -> ort.InferenceSession:
    """An ONNX Runtime session as Nadi runs them: one thread, no spinning, no arena.

    Args:
        weights: An ONNX model, or its file.
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
    options.add_session_config_entry(EXACT_INT8_KEY, str(int(exact_int8)))
    try:
        return ort.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own error types are not public
        raise ModelUnusable("the inference runtime can't load these weights") from error


class OnnxEngine:
    """An ONNX model that is loaded.

    Attributes:
        version: Name and version of the runtime.
        inputs: What it is given.
    """

    version = f"onnxruntime {ort.__version__}"

    def __init__(self, weights: bytes | Path, output: str, *, exact_int8: bool) -> None:
        """Load a model.

        Args:
            weights: The model, or its file.
            output: Name of the graph's output.
            exact_int8: Choose int8 kernels that can't saturate.

        Raises:
            ModelUnusable: It can't be loaded, or has inputs of a type that Nadi never gives.
        """
        self._session = open_session(weights, exact_int8=exact_int8)
        self._output = output
        self.inputs = tuple(map(_spec, self._session.get_inputs()))

    def run(self, batch: Tensors, *, timeout_s: float) -> FloatArray:
        """Ask the network; see `models.engines.Engine`."""
        options = ort.RunOptions()
        try:
            with WATCHDOG.watch(timeout_s, lambda: _terminate(options)) as watched:
                (answer,) = self._session.run([self._output], dict(batch), options)
        except Exception as error:
            if watched.is_late:
                raise RunTimedOut(timeout_s) from error
            raise
        if watched.is_late:  # it came to its end before it noticed
            raise RunTimedOut(timeout_s)
        return np.asarray(answer, dtype=np.float32)


def _terminate(options: ort.RunOptions) -> None:
    options.terminate = True


def _spec(given: ort.NodeArg) -> TensorSpec:
    if given.type not in _TYPES:
        raise ModelUnusable(f"input {given.name} is {given.type}; only float and int64 are given")
    sizes = (size if isinstance(size, int) else None for size in given.shape)
    return TensorSpec(given.name, _TYPES[given.type], tuple(sizes))
