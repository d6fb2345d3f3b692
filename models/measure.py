"""What serving a model takes on this machine: time to load, memory, time to answer.

A model is measured in a process of its own, so that nothing else's memory is counted, with the
session that serves it (`models.runtime`): one thread, no spinning, no arena.

* `p50_ms` is the median of the quietest of eight stretches, since on a machine that is not idle the
  others measure the neighbours;
* `load_ms` is the median of three loads from a file in the page cache;
* memory is what the process keeps resident after it has answered (`VmRSS`).
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from models.measuring import SAMPLE
from models.registry import InstalledModel
from models.tensors import Tensors

_CHILD = "models.measuring"
_TIMEOUT_S = 600


class MeasuringFailed(RuntimeError):
    """The process that was to measure a model did not; the message says how it ended."""


@dataclass(frozen=True)
class Measurement:
    """What serving a model takes.

    Attributes:
        size_bytes: Of the file.
        load_ms: From the file to a session that is ready.
        rss_mb: Resident memory of the whole process that serves it (10^6 bytes), with Python and
            the inference runtime.
        model_mb: What loading and running the model added to that.
        p50_ms: Cases of a run → median time of a run. A size that the network's own fixed one
            forbids is absent.
    """

    size_bytes: int
    load_ms: float
    rss_mb: float
    model_mb: float
    p50_ms: dict[int, float]


def measure(
    model: bytes | Path | InstalledModel,
    sample: Tensors,
    *,
    exact_int8: bool,
    batch_sizes: Sequence[int] = (1, 16),
    threads: int = 1,
) -> Measurement:
    """Measure a model in a fresh process.

    Args:
        model: An ONNX file, or what is in it; or a model folder, which is loaded as the gateway
            does it, whatever its format.
        sample: At least one case by the names of the graph's inputs; repeated to fill a batch.
        exact_int8: Choose int8 kernels that can't saturate.
        batch_sizes: Cases of a run.
        threads: That work on one run; an installed model has one.

    Raises:
        MeasuringFailed: The model can't be loaded or run, or takes more than ten minutes.
    """
    with TemporaryDirectory() as folder:
        np.savez(Path(folder, SAMPLE), *sample.values())
        path = _path(model, Path(folder))
        asked = {
            "model": str(path),
            "inputs": list(sample),
            "exact_int8": exact_int8,
            "batch_sizes": list(batch_sizes),
            "threads": threads,
        }
        told = json.loads(_run([sys.executable, "-m", _CHILD, folder, json.dumps(asked)]))
    return Measurement(
        size_bytes=told["size_bytes"],
        load_ms=told["load_ms"],
        rss_mb=told["rss_mb"],
        model_mb=told["model_mb"],
        p50_ms={int(size): ms for size, ms in told["p50_ms"].items()},
    )


def _path(model: bytes | Path | InstalledModel, folder: Path) -> Path:
    if isinstance(model, InstalledModel):
        return model.folder.absolute()
    if isinstance(model, Path):
        return model.absolute()
    path = folder / "model.onnx"
    path.write_bytes(model)
    return path


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, this module
            command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise MeasuringFailed(f"it did not end within {_TIMEOUT_S} s") from error
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"the process ended with {error.returncode}"]
        raise MeasuringFailed(lines[-1]) from error
    return done.stdout
