import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models.measure import MeasuringFailed, measure
from models.registry import REFERENCE_MODELS, load
from tests import networks
from tests.tflite_models import expected, float_model
from tests.toy_models import case_of, numbers, toy_model

SMALL, FEATURES = networks.dense(), networks.features(3)
QUICK = {"exact_int8": False, "batch_sizes": (1, 16)}


def wide(width):
    return networks.network(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="sum")],
        {"w": networks.normal(width, width)},
        inputs={"x": (TensorProto.FLOAT, ["n", width])},
        outputs={"y": ["n", width]},
    )


def test_a_larger_model_takes_more_of_everything_and_this_process_does_not_count(tmp_path):
    path = tmp_path / "small.onnx"
    path.write_bytes(SMALL)
    ballast = np.ones(50_000_000)

    small = measure(path, FEATURES, **QUICK)
    large = measure(wide(1500), {"x": np.ones((1, 1500), dtype=np.float32)}, **QUICK)

    assert small.size_bytes == len(SMALL)
    assert large.size_bytes > 9_000_000
    assert large.model_mb > small.model_mb + 5
    assert ballast.nbytes / 1e6 > large.rss_mb > small.rss_mb > small.model_mb
    assert large.load_ms > 0
    assert large.p50_ms[16] > large.p50_ms[1] > small.p50_ms[1] > 0


def test_a_batch_that_the_network_does_not_allow_is_left_out():
    single = onnx.load_from_string(SMALL)
    single.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1

    found = measure(single.SerializeToString(), FEATURES, exact_int8=True)

    assert list(found.p50_ms) == [1]


@pytest.mark.parametrize(
    ("model", "sample", "says"),
    [
        (b"no model", FEATURES, "can't load these weights"),
        (SMALL, {"feature": FEATURES["features"]}, "feature"),
    ],
    ids=["no model", "wrong input"],
)
def test_a_failure_is_told_in_one_line(model, sample, says):
    with pytest.raises(MeasuringFailed, match=says) as caught:
        measure(model, sample, exact_int8=False)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["ckd-risk", "tflite"])
def test_an_installed_model_is_loaded_as_the_gateway_does_it(tmp_path, name):
    model = load(REFERENCE_MODELS / name) if name == "ckd-risk" else tflite(tmp_path)
    sample, _ = model.golden_cases()

    found = measure(model, sample, exact_int8=False)

    assert found.size_bytes == model.weights_file().stat().st_size
    assert min(found.p50_ms.values()) > 0  # so little to do that noise decides which is longer
    assert found.rss_mb > found.model_mb > 0


def tflite(folder):
    known = [case_of([1.0, 2.0, 3.0, 4.0], float(expected(np.array([[1.0, 2.0, 3.0, 4.0]]))[0, 0]))]
    weights = float_model()
    return toy_model(folder / "toy", weights, known, kind="tflite-fp32", tables=numbers())
