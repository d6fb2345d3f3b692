"""Between which values the activations of a network lie, seen on calibration cases.

* `minmax`: the extremes. Nothing is cut off, but one outlier makes every level wider.
* `entropy`: the range whose 128 levels tell the most of the distribution (Kullback-Leibler).
* `percentile`: without the outermost 0.01 % of the values.

ONNX Runtime's `quantize_static` runs these calibrators too, but with settings that can't be
changed: entropy over 128 bins has a single range to choose from, and percentile treats both signs
alike. So they are run here, one batch at a time, and the ranges handed to it.

Source: ONNX Runtime, `onnxruntime.quantization.calibrate`; Migacz, 8-bit Inference with TensorRT
(GTC 2017) for entropy.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    TensorsData,
    create_calibrator,
)
from onnxruntime.quantization.calibrate import HistogramCollector

from models.tensors import Tensors

Calibration = Literal["minmax", "entropy", "percentile"]
CALIBRATIONS: Mapping[Calibration, CalibrationMethod] = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}

_OPTIONS: Mapping[Calibration, Mapping[str, Any]] = {
    "minmax": {},
    "entropy": {},
    "percentile": {"percentile": 99.99, "symmetric": False, "num_bins": 2048},
}
_ENTROPY_BINS = 512
_ENTROPY_LEVELS = 128


class Batches(CalibrationDataReader):  # type: ignore[misc]  # untyped base class
    """Hands out batches as the calibrators want them."""

    def __init__(self, batches: Sequence[Tensors]) -> None:
        self._left = list(reversed(batches))

    def get_next(self) -> Tensors | None:
        """The next batch; None after the last."""
        return self._left.pop() if self._left else None


def observe(
    model: bytes, batches: Sequence[Tensors], *, operators: Sequence[str], calibration: Calibration
) -> TensorsData:
    """Run calibration cases through a network and note the ranges of what flows.

    Args:
        model: The fp32 ONNX model.
        batches: At least one.
        operators: Types of nodes whose inputs and outputs are watched.
        calibration: How a range is found.
    """
    # The calibrators print what they do on standard output, which is for our results.
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        source = Path(folder, "fp32.onnx")
        source.write_bytes(model)
        calibrator = create_calibrator(
            source,
            list(operators),
            augmented_model_path=str(Path(folder, "watched.onnx")),
            calibrate_method=CALIBRATIONS[calibration],
            extra_options=_OPTIONS[calibration],
        )
        if calibration == "entropy":
            extremes = observe(model, batches, operators=operators, calibration="minmax")
            calibrator.collector = _counting_within(extremes)
        for batch in batches:
            calibrator.collect_data(Batches([batch]))
        return calibrator.compute_data()


def _counting_within(extremes: TensorsData) -> HistogramCollector:
    """Count in bins that hold every value from the start; else their number grows without bound."""
    collector = HistogramCollector(
        method="entropy",
        symmetric=False,
        num_bins=_ENTROPY_BINS,
        num_quantized_bins=_ENTROPY_LEVELS,
        percentile=None,
        scenario="same",
    )
    collector.histogram_dict.update(_empty_bins(extremes))
    return collector


def _empty_bins(extremes: TensorsData) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for name, seen in extremes.items():
        low, high = (np.float32(each.item()) for each in seen.range_value)
        farthest = max(abs(low), abs(high))
        edges = np.linspace(-farthest, farthest, _ENTROPY_BINS + 1, dtype=np.float32)
        yield name, (np.zeros(_ENTROPY_BINS, dtype=np.int64), edges, low, high, farthest)
