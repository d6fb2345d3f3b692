import time

import numpy as np
import onnx
import pytest
from onnx import helper

from models.engines import RunTimedOut
from models.onnx_engine import OnnxEngine, open_session
from models.registry import ModelUnusable
from tests.endless import loop_model

FEW, ENDLESS = np.full((2, 1), 3, np.float32), np.full((1, 1), 1e12, np.float32)


@pytest.fixture(scope="module")
def engine():
    return OnnxEngine(loop_model(), "probability", exact_int8=False)


def test_a_network_says_what_it_is_given(engine):
    assert [str(each) for each in engine.inputs] == ["features must be float32 of shape (n, 1)"]
    assert engine.version.startswith("onnxruntime 1.")


def test_a_run_that_takes_too_long_is_stopped_and_the_next_one_answered(engine):
    start = time.monotonic()

    with pytest.raises(RunTimedOut, match=r"within its time limit of 0\.2 s"):
        engine.run({"features": ENDLESS}, timeout_s=0.2)
    took_s = time.monotonic() - start
    answer = engine.run({"features": FEW}, timeout_s=10)

    assert 0.2 <= took_s < 10
    assert answer.tolist() == [[0.5], [0.5]]


def test_a_run_that_ends_before_it_notices_that_it_was_stopped_is_late_too():
    size = 2000
    product = helper.make_node("MatMul", ["x", "x"], ["y"])
    float32, square = onnx.TensorProto.FLOAT, [size, size]
    graph = helper.make_graph(
        [product],
        "one operator",
        [helper.make_tensor_value_info("x", float32, square)],
        [helper.make_tensor_value_info("y", float32, square)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    engine = OnnxEngine(model.SerializeToString(), "y", exact_int8=False)
    batch = {"x": np.ones((size, size), np.float32)}
    start = time.perf_counter()
    engine.run(batch, timeout_s=60)
    took_s = time.perf_counter() - start

    with pytest.raises(RunTimedOut):
        engine.run(batch, timeout_s=took_s / 20)


def test_an_error_of_the_network_is_no_lateness(engine):
    with pytest.raises(Exception, match="features"):
        engine.run({"features": np.ones((1, 1, 1), np.float32)}, timeout_s=10)


def test_an_input_of_a_type_that_is_never_given_is_refused():
    text = onnx.TensorProto.STRING
    graph = helper.make_graph(
        [helper.make_node("Identity", ["words"], ["same"])],
        "text",
        [helper.make_tensor_value_info("words", text, ["n"])],
        [helper.make_tensor_value_info("same", text, ["n"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10

    with pytest.raises(ModelUnusable, match=r"words is tensor\(string\)"):
        OnnxEngine(model.SerializeToString(), "same", exact_int8=False)


def test_weights_the_runtime_does_not_know_are_unusable(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not a network")

    for weights in (b"not a network", tmp_path / "model.onnx"):
        with pytest.raises(ModelUnusable, match="can't load"):
            open_session(weights, exact_int8=False)
