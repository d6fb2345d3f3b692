"""What is narrower than float32 is found wherever a network hides it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.precision import narrow_parts, narrow_parts_of
from models.registry import REFERENCE_MODELS
from models.weight_only import weight_only
from tests.networks import convolutional, dense, embedding
from tests.odd_networks import branch, condition, if_node, network


def parts(content):
    return narrow_parts(onnx.load_from_string(content))


@pytest.mark.parametrize("content", [dense(), convolutional(), embedding(), network()])
def test_a_float32_network_has_no_narrow_part(content):
    assert parts(content) == ()


@pytest.mark.parametrize(
    "operator",
    [
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "ConvInteger",
        "QLinearMatMul",
        "QLinearConv",
        "QLinearAdd",
        "QGemm",
        "QAttention",
        "DynamicQuantizeMatMul",
        "DynamicQuantizeLSTM",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "MatMulBnb4",
        "GatherBlockQuantized",
    ],
)
def test_an_operator_that_rounds_or_multiplies_integers_is_found(operator):
    node = helper.make_node(operator, ["features"], ["more"])

    assert parts(network(node)) == (f"{operator} (1)",)
    inside = helper.make_node(operator, ["features"], ["inner2"])
    hidden = network(condition(), if_node("yes", "unused", branch(inside)))
    assert parts(hidden) == (f"{operator} (2)",)  # a branch for yes, and one for no


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.float16])
def test_weights_of_fewer_than_32_bits_are_found_in_tensors_and_constants(dtype):
    narrow = numpy_helper.from_array(np.ones((2, 2), dtype), "narrow")
    constant = helper.make_node("Constant", [], ["narrow"], value=narrow)
    name = TensorProto.DataType.Name(narrow.data_type).lower()

    assert parts(network(initializers=[narrow])) == (f"{name} weights (1)",)
    assert parts(network(constant)) == (f"{name} weights (1)",)


def test_four_bit_blocks_are_found_by_operator_and_weights():
    found = parts(weight_only(dense(), bits=4, least_weights=16))

    assert "MatMulNBits (3)" in found
    assert any(each.startswith("uint8 weights") for each in found)


def test_a_narrow_part_inside_a_function_is_found():
    inner = helper.make_node("DequantizeLinear", ["a", "b"], ["c"])
    function = helper.make_function(
        "own", "Own", ["a", "b"], ["c"], [inner], [helper.make_opsetid("", 17)]
    )

    assert parts(network(functions=[function])) == ("DequantizeLinear (1)",)


def test_the_reference_models_are_what_they_are_said_to_be():
    files = sorted(REFERENCE_MODELS.glob("*/*.onnx"))
    found = {f"{file.parent.name}/{file.name}": bool(narrow_parts_of(file)) for file in files}

    assert found["news2/model.onnx"] is False
    others = {name: is_narrow for name, is_narrow in found.items() if "news2" not in name}
    assert others == {name: "fp32" not in name for name in others}


def test_a_file_that_is_no_onnx_is_left_to_whoever_loads_it(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"\x08\x07rubbish")

    assert narrow_parts_of(tmp_path / "a.onnx") == ()
    assert narrow_parts_of(tmp_path / "none.onnx") == ()
