import numpy as np
import pytest
from onnx import TensorProto, helper

from models.calibration import observe
from tests import networks

FP32 = networks.network(
    [helper.make_node("MatMul", ["x", "w"], ["y"], name="copy")],
    {"w": np.eye(8, dtype=np.float32)},
    inputs={"x": (TensorProto.FLOAT, ["n", 8])},
    outputs={"y": ["n", 8]},
)
CASES = networks.normal(4000, 8, scale=1.0)
CASES[0, 0] = 100.0


def range_of(calibration, *batches, tensor="y"):
    seen = observe(
        FP32, [{"x": each} for each in batches], operators=["MatMul"], calibration=calibration
    )
    low, high = seen[tensor].range_value
    return float(low.item()), float(high.item())


def test_minmax_keeps_the_extremes():
    assert range_of("minmax", CASES) == pytest.approx((CASES.min(), 100.0))


def test_percentile_cuts_off_an_outlier_and_minds_the_sign():
    rising = CASES + 3

    low, high = range_of("percentile", rising)

    assert low == pytest.approx(np.percentile(rising, 0.005), abs=0.2)
    assert high == pytest.approx(np.percentile(rising, 99.995), abs=0.5)


def test_entropy_cuts_off_an_outlier():
    low, high = range_of("entropy", CASES)

    assert low == pytest.approx(CASES.min())
    assert high < 50


@pytest.mark.parametrize(("calibration", "step"), [("minmax", 0), ("percentile", 0.3)])
def test_batches_count_as_the_whole_that_they_are_cut_from(calibration, step):
    whole = range_of(calibration, CASES)

    pieces = range_of(calibration, CASES[3000:], CASES[:500], CASES[500:3000])

    assert pieces == pytest.approx(whole, abs=step + 1e-6)


def test_the_order_of_batches_does_not_matter_for_entropy():
    first, second = CASES[:2000], CASES[2000:]

    assert range_of("entropy", first, second) == range_of("entropy", second, first)


def test_missing_numbers_are_not_counted():
    missing = CASES.copy()
    missing[1:50, 3] = np.nan

    low, high = range_of("percentile", missing, tensor="x")

    assert np.isfinite([low, high]).all()
