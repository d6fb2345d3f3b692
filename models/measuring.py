"""The process in which a model is measured: `python -m models.measuring FOLDER OPTIONS`.

Started by `models.measure`; it loads and runs one model, prints its figures as JSON and ends. What
is not needed for that is not imported, since it would count as memory.
"""

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from models.tensors import Tensors, batch_size

SAMPLE = "sample.npz"
"""Name of the sample's file in the folder."""

Run = Callable[[Tensors], object]

_LOADS = 3
_WARM_UPS = 3
_STRETCHES = 8
_STRETCH_S = 0.1
_TIMEOUT_S = 300
_FEWEST_RUNS, _MOST_RUNS = 3, 300
_MB = 1e6
_KIB = 1024
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Asked:
    """What is to be measured, and how.

    Attributes:
        model: An ONNX file, or a model folder.
        inputs: Names of the sample's arrays.
        exact_int8: Choose int8 kernels that can't saturate.
        batch_sizes: Cases of a run.
        threads: That work on one run of an ONNX file.
    """

    model: str
    inputs: list[str]
    exact_int8: bool
    batch_sizes: list[int]
    threads: int


@dataclass(frozen=True)
class Network:
    """A network that is loaded.

    Attributes:
        run: Asks it.
        first_axes: Sizes of the first axis of its inputs; no number where any will do.
        size_bytes: Of its file.
    """

    run: Run
    first_axes: Sequence[int | str | None]
    size_bytes: int


def figures(asked: Asked, folder: Path) -> dict[str, Any]:
    """Measure a model in this process.

    Args:
        asked: Which, and how.
        folder: Holds the sample.
    """
    load = _folder(asked) if Path(asked.model).is_dir() else _file(asked)
    sample = _sample(folder / SAMPLE, asked.inputs)
    before_mb = _resident_mb()
    network, first_ms = _timed(load)
    fixed = {size for size in network.first_axes if isinstance(size, int)}
    batches = {size: _batch(sample, size) for size in asked.batch_sizes if fixed <= {size}}
    p50_ms = _p50_ms(network.run, batches)
    resident_mb = _resident_mb()
    later_ms = [_timed(load)[1] for _ in range(_LOADS - 1)]
    return {
        "size_bytes": network.size_bytes,
        "load_ms": statistics.median([first_ms, *later_ms]),
        "rss_mb": resident_mb,
        "model_mb": resident_mb - before_mb,
        "p50_ms": p50_ms,
    }


def _file(asked: Asked) -> Callable[[], Network]:
    """How an ONNX file is loaded; what that needs is imported before memory is looked at."""
    from models.onnx_engine import open_session  # noqa: PLC0415

    path = Path(asked.model)

    def load() -> Network:
        session = open_session(path, exact_int8=asked.exact_int8, threads=asked.threads)
        axes = [each.shape[0] for each in session.get_inputs()]
        return Network(lambda batch: session.run(None, dict(batch)), axes, path.stat().st_size)

    return load


def _folder(asked: Asked) -> Callable[[], Network]:
    """How an installed model is loaded, likewise."""
    from models.registry import load as read  # noqa: PLC0415
    from models.runtime import open_engine  # noqa: PLC0415

    model = read(Path(asked.model))
    if model.manifest.weights.is_tflite:
        import models.tflite  # noqa: F401, PLC0415

    def load() -> Network:
        engine = open_engine(model, exact_int8=asked.exact_int8)
        axes = [each.shape[0] for each in engine.inputs]
        size = model.weights_file().stat().st_size
        return Network(lambda batch: engine.run(batch, timeout_s=_TIMEOUT_S), axes, size)

    return load


def _sample(path: Path, inputs: list[str]) -> Tensors:
    with np.load(path, allow_pickle=False) as packed:
        return {name: packed[f"arr_{place}"] for place, name in enumerate(inputs)}


def _batch(sample: Tensors, size: int) -> Tensors:
    """Fill a batch with the cases of the sample, over and over."""
    places = np.arange(size) % batch_size(sample)
    return {name: array[places] for name, array in sample.items()}


def _p50_ms(run: Run, batches: dict[int, Tensors]) -> dict[int, float]:
    """Take turns, so that a busy moment of the machine does not fall on one size alone."""
    runs = {size: partial(run, batch) for size, batch in batches.items()}
    for each in runs.values():
        for _ in range(_WARM_UPS):
            each()
    turns = [{size: _stretch_ms(each) for size, each in runs.items()} for _ in range(_STRETCHES)]
    return {size: min(turn[size] for turn in turns) for size in runs}


def _stretch_ms(run: Callable[[], object]) -> float:
    end = time.perf_counter() + _STRETCH_S
    taken_ms: list[float] = []
    while len(taken_ms) < _MOST_RUNS:
        taken_ms.append(_timed(run)[1])
        if time.perf_counter() > end and len(taken_ms) >= _FEWEST_RUNS:
            break
    return statistics.median(taken_ms)


def _timed(act: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    made = act()
    return made, 1000 * (time.perf_counter() - start)


def _resident_mb() -> float:
    """What this process holds in memory now; where that is not told, the most it ever held."""
    if _STATUS.exists():
        lines = _STATUS.read_text(encoding="ascii").splitlines()
        told = next(line for line in lines if line.startswith("VmRSS"))
        return int(told.split()[1]) * _KIB / _MB
    unit = 1 if sys.platform == "darwin" else _KIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _MB


if __name__ == "__main__":
    sys.stdout.write(json.dumps(figures(Asked(**json.loads(sys.argv[2])), Path(sys.argv[1]))))
