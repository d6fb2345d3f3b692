"""The process in which a model is measured: `python -m models.measuring FOLDER OPTIONS`.

Started by `models.measure`; it loads and runs one model, prints its figures as JSON and ends. What
is not needed for that is not imported, since it would count as memory.
"""

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from models.tensors import Tensors, batch_size

MODEL, SAMPLE = "model", "sample.npz"
"""Names of the files in the folder."""

_LOADS = 3
_WARM_UPS = 3
_STRETCHES = 8
_STRETCH_S = 0.1
_FEWEST_RUNS, _MOST_RUNS = 3, 300
_MB = 1e6
_KIB = 1024
_STATUS = Path("/proc/self/status")


def figures(
    folder: Path, inputs: list[str], *, exact_int8: bool, batch_sizes: list[int], threads: int
) -> dict[str, Any]:
    """Measure the model in a folder, in this process.

    Args:
        folder: Holds the model and the sample.
        inputs: Names of the sample's arrays.
        exact_int8: Choose int8 kernels that can't saturate.
        batch_sizes: Cases of a run.
        threads: That work on one run.
    """
    from models.runtime import open_session  # noqa: PLC0415 - not for who only wants the names

    def load() -> Any:  # noqa: ANN401 - the runtime has no types
        return open_session(folder / MODEL, exact_int8=exact_int8, threads=threads)

    sample = _sample(folder / SAMPLE, inputs)
    before_mb = _resident_mb()
    session, first_ms = _timed(load)
    fixed = {each.shape[0] for each in session.get_inputs() if isinstance(each.shape[0], int)}
    batches = {size: _batch(sample, size) for size in batch_sizes if fixed <= {size}}
    p50_ms = _p50_ms(session, batches)
    resident_mb = _resident_mb()
    later_ms = [_timed(load)[1] for _ in range(_LOADS - 1)]
    return {
        "load_ms": statistics.median([first_ms, *later_ms]),
        "rss_mb": resident_mb,
        "model_mb": resident_mb - before_mb,
        "p50_ms": p50_ms,
    }


def _sample(path: Path, inputs: list[str]) -> Tensors:
    with np.load(path, allow_pickle=False) as packed:
        return {name: packed[f"arr_{place}"] for place, name in enumerate(inputs)}


def _batch(sample: Tensors, size: int) -> Tensors:
    """Fill a batch with the cases of the sample, over and over."""
    places = np.arange(size) % batch_size(sample)
    return {name: array[places] for name, array in sample.items()}


def _p50_ms(
    session: Any,  # noqa: ANN401 - the runtime has no types
    batches: dict[int, Tensors],
) -> dict[int, float]:
    """Take turns, so that a busy moment of the machine does not fall on one size alone."""
    runs = {size: partial(session.run, None, dict(batch)) for size, batch in batches.items()}
    for run in runs.values():
        for _ in range(_WARM_UPS):
            run()
    turns = [{size: _stretch_ms(run) for size, run in runs.items()} for _ in range(_STRETCHES)]
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
    sys.stdout.write(json.dumps(figures(Path(sys.argv[1]), **json.loads(sys.argv[2]))))
