"""Graphs with quantizer pairs, built by hand: what is stored, and that the answer stays."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from models import qdq
from models.runtime import open_session

LONG = "members.0/blocks/blocks.1/shortcut/shortcut.0"


@pytest.fixture
def model():
    """One convolution as a training framework exports it: fp32 weights, a pair behind each."""
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(4, 1, 3, 3)).astype(np.float32)
    bias = generator.normal(size=4).astype(np.float32)
    scale = (np.abs(weights).max((1, 2, 3)) / 63).astype(np.float32)
    constants = {
        "weights": weights, "bias": bias, "scale": scale,
        "in_scale": np.float32(0.02), "in_zero": np.uint8(128),
        "out_scale": np.float32(0.05), "out_zero": np.uint8(100),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "in_scale", "in_zero"], ["image_q"]),
        helper.make_node("DequantizeLinear", ["image_q", "in_scale", "in_zero"], ["image_d"]),
        helper.make_node(
            "Constant", [], ["zeros"], value=numpy_helper.from_array(np.zeros(4, dtype=np.int32))
        ),
        helper.make_node("Identity", ["zeros"], ["zeros_again"]),
        helper.make_node("Cast", ["zeros_again"], ["zero"], to=TensorProto.INT8),
        helper.make_node("QuantizeLinear", ["weights", "scale", "zero"], ["weights_q"], axis=0),
        helper.make_node("DequantizeLinear", ["weights_q", "scale", "zero"], [LONG], axis=0),
        helper.make_node("Conv", ["image_d", LONG, "bias"], ["sum"], name="conv"),
        helper.make_node("QuantizeLinear", ["sum", "out_scale", "out_zero"], ["sum_q"]),
        helper.make_node("DequantizeLinear", ["sum_q", "out_scale", "out_zero"], ["answer"]),
    ]
    graph = helper.make_graph(
        nodes,
        "one convolution",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["n", 4, 6, 6])],
        [numpy_helper.from_array(np.asarray(each), name) for name, each in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return made.SerializeToString()


@pytest.fixture
def images():
    return np.random.default_rng(1).uniform(-2, 2, (5, 1, 8, 8)).astype(np.float32)


def answer(weights, images):
    session = open_session(weights, exact_int8=True)
    return session.run(["answer"], {"image": images})[0]


def stored(weights):
    graph = onnx.load_from_string(weights).graph
    return [numpy_helper.to_array(each) for each in graph.initializer]


def test_packing_changes_no_answer_by_more_than_one_level(model, images):
    before, after = answer(model, images), answer(qdq.pack(model), images)

    assert np.abs(after - before).max() <= 0.05 + 1e-6
    assert np.mean(after != before) < 0.01


def test_weights_are_stored_as_int8_and_biases_as_int32(model):
    kinds = {each.dtype for each in stored(qdq.pack(model)) if each.ndim == 4}
    biases = [each for each in stored(qdq.pack(model)) if each.dtype == np.int32]

    assert kinds == {np.dtype(np.int8)}
    assert [each.shape for each in biases] == [(4,)]


def test_names_are_short_except_those_that_callers_know(model):
    graph = onnx.load_from_string(qdq.pack(model)).graph

    assert [each.name for each in (*graph.input, *graph.output)] == ["image", "answer"]
    assert LONG not in {name for node in graph.node for name in node.input}


def test_packing_twice_is_packing_once(model):
    packed = qdq.pack(model)

    assert qdq.pack(packed) == packed


def test_integer_kernels_are_counted_as_the_runtime_makes_them(model):
    plain = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["left", "right"], ["product"])],
            "fp32",
            [helper.make_tensor_value_info("left", TensorProto.FLOAT, ["n", 3])],
            [helper.make_tensor_value_info("product", TensorProto.FLOAT, ["n", 2])],
            [numpy_helper.from_array(np.ones((3, 2), dtype=np.float32), "right")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )

    assert qdq.integer_layers(qdq.pack(model)) == 1
    assert qdq.integer_layers(plain.SerializeToString()) == 0


@given(
    st.lists(st.floats(-1000, 1000, width=32), min_size=6, max_size=6),
    st.lists(st.floats(0.0078125, 64, width=32), min_size=3, max_size=3),
    st.sampled_from([np.int8, np.uint8]),
)
def test_quantizing_constants_agrees_with_the_operator_specification(values, scales, kind):
    tensor = np.array(values, dtype=np.float32).reshape(2, 3)
    scale, zero = np.array(scales, dtype=np.float32), np.array([0, 7, 100], dtype=kind)
    node = helper.make_node("QuantizeLinear", ["values", "scale", "zero"], ["levels"], axis=1)
    inputs = {"values": tensor, "scale": scale, "zero": zero}

    (expected,) = ReferenceEvaluator(node).run(None, inputs)

    assert np.array_equal(qdq.quantize(tensor, scale, zero, axis=1), expected)
