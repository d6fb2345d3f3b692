import numpy as np
import onnx
import pytest

from models.quantize import CONVOLUTION_OPERATORS, StaticInt8, prepared
from models.runtime import open_session
from tests import networks

WIDE, FEATURES = networks.wide_range_at_the_end(), networks.features(200)
CONVOLUTIONAL, IMAGES = networks.convolutional(), networks.images()


def answers(model, batch):
    return open_session(model, exact_int8=False).run(None, batch)[0]


def quantizer(fp32, batch, operators=CONVOLUTION_OPERATORS):
    return StaticInt8(prepared(fp32), [batch], operators=operators)


def test_leaving_a_node_alone_mends_what_the_rounding_of_its_input_spoilt():
    quantize = quantizer(WIDE, FEATURES)
    expected = answers(WIDE, FEATURES)

    spoilt, mended = answers(quantize(), FEATURES), answers(quantize(["last"]), FEATURES)

    assert np.abs(spoilt - expected).max() > 0.3
    assert np.abs(mended - expected).max() < 0.05


@pytest.mark.parametrize("operators", [CONVOLUTION_OPERATORS, ("Conv", "Gemm", "MatMul")])
@pytest.mark.parametrize(
    ("fp32", "batch", "nodes"),
    [
        (networks.dense(), networks.features(), ("first", "second", "last")),
        (CONVOLUTIONAL, IMAGES, ("conv1", "conv2", "last")),
    ],
    ids=["dense", "convolutional"],
)
def test_with_every_node_left_alone_but_one_the_answers_are_nearly_exact(
    fp32, batch, nodes, operators
):
    quantize = quantizer(fp32, batch, operators)
    expected = answers(fp32, batch)

    for quantized in nodes:
        kept = [name for name in (*nodes, "sum", "pool") if name != quantized]
        found = answers(quantize([name for name in kept if has(fp32, name)]), batch)
        assert np.abs(found - expected).max() < 0.05 * np.ptp(expected)


def has(model, name):
    return any(node.name == name for node in onnx.load_from_string(model).graph.node)


def test_no_pair_is_left_that_nothing_needs():
    quantized = onnx.load_from_string(quantizer(CONVOLUTIONAL, IMAGES)(["conv2", "last"]))

    nodes = {node.name: node for node in quantized.graph.node}
    used = {name for node in quantized.graph.node for name in node.input}
    assert "Relu" in {node.op_type for node in quantized.graph.node}
    assert nodes["conv2"].input[0] == "r1"
    for node in quantized.graph.node:
        assert used.intersection(node.output) or node.output[0] == "logits"
    onnx.checker.check_model(quantized, full_check=True)


def test_a_node_that_reads_the_networks_own_input_reads_it_as_it_is():
    quantized = onnx.load_from_string(quantizer(CONVOLUTIONAL, IMAGES)(["conv1"]))

    assert [node.input[0] for node in quantized.graph.node if node.name == "conv1"] == ["image"]
