import itertools
import logging

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.emulation import Emulation
from models.quantize import (
    CONVOLUTION_OPERATORS,
    NotQuantizable,
    StaticInt8,
    dynamic_int8,
    prepared,
    static_int8,
)
from models.runtime import open_session
from tests import networks

DENSE, FEATURES = networks.dense(), networks.features()
CONVOLUTIONAL, IMAGES = networks.convolutional(), networks.images()
EMBEDDING, TOKENS = networks.embedding(), networks.tokens()


def answers(model, batch, *, exact=False):
    return open_session(model, exact_int8=exact).run(None, batch)[0]


def off(model, fp32, batch):
    """Root mean square of the difference, as a share of how much the answers vary."""
    expected = answers(fp32, batch)
    return float(np.sqrt(np.mean((answers(model, batch) - expected) ** 2)) / expected.std())


def in_batches(batch, size=8):
    cases = len(next(iter(batch.values())))
    return [
        {name: array[start : start + size] for name, array in batch.items()}
        for start in range(0, cases, size)
    ]


def operators_of(model):
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


def int8_weights(model):
    return [
        numpy_helper.to_array(each)
        for each in onnx.load_from_string(model).graph.initializer
        if each.data_type == TensorProto.INT8 and len(each.dims) > 1
    ]


@pytest.mark.parametrize(
    ("fp32", "batch", "calibration", "most"),
    [
        (DENSE, FEATURES, "minmax", 0.15),
        (DENSE, FEATURES, "entropy", 0.25),
        (CONVOLUTIONAL, IMAGES, "percentile", 0.1),
        (CONVOLUTIONAL, IMAGES, "minmax", 0.1),
        (EMBEDDING, TOKENS, "percentile", 0.1),
        (EMBEDDING, TOKENS, "minmax", 0.1),
    ],
)
def test_a_statically_quantized_network_answers_nearly_as_before(fp32, batch, calibration, most):
    int8 = static_int8(
        prepared(fp32),
        in_batches(batch),
        calibration=calibration,
        operators=CONVOLUTION_OPERATORS,
    )

    assert {"QuantizeLinear", "DequantizeLinear"} <= set(operators_of(int8))
    assert 0 < off(int8, fp32, batch) < most


@pytest.mark.parametrize(
    ("fp32", "batch"), [(DENSE, FEATURES), (EMBEDDING, TOKENS)], ids=["dense", "two inputs"]
)
def test_a_dynamically_quantized_network_answers_nearly_as_before(fp32, batch):
    int8 = dynamic_int8(prepared(fp32))

    assert operators_of(int8).count("MatMulInteger") >= 2
    assert 0 < off(int8, fp32, batch) < 0.1


def test_plain_arrays_calibrate_a_network_of_one_input():
    batches = [FEATURES["features"][:32], FEATURES["features"][32:]]

    assert static_int8(DENSE, batches) == static_int8(DENSE, in_batches(FEATURES, 32))


@pytest.mark.parametrize("operators", [("MatMul",), CONVOLUTION_OPERATORS], ids=["few", "many"])
def test_a_quantizer_that_is_used_again_answers_as_a_new_one(operators):
    quantizer = StaticInt8(DENSE, in_batches(FEATURES), operators=operators)

    models = [quantizer(), quantizer(["second"] * ("Relu" in operators)), quantizer()]

    assert models[0] == models[2]
    assert models[1] == static_int8(
        DENSE,
        in_batches(FEATURES),
        operators=operators,
        keep_fp32=["second"] * ("Relu" in operators),
    )


def test_products_of_two_activations_stay_in_fp32():
    fp32 = networks.network(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="project"),
            helper.make_node("Transpose", ["h"], ["t"], name="turn"),
            helper.make_node("MatMul", ["h", "t"], ["y"], name="attend"),
        ],
        {"w": networks.normal(8, 8)},
        inputs={"x": (TensorProto.FLOAT, ["n", 8])},
        outputs={"y": ["n", "n"]},
    )
    batch = {"x": networks.normal(16, 8, scale=1.0)}

    quantizer = StaticInt8(fp32, [batch])

    assert quantizer.nodes == ("project",)
    assert not Emulation(quantizer(), "saturating").is_needed
    assert off(quantizer(), fp32, batch) < 0.05


def test_a_quantizer_lists_the_nodes_that_can_be_left_alone():
    quantizer = StaticInt8(CONVOLUTIONAL, in_batches(IMAGES))

    assert quantizer.nodes == ("conv1", "conv2", "last")


@pytest.mark.parametrize(
    "quantized",
    [
        lambda names: static_int8(DENSE, in_batches(FEATURES), keep_fp32=names),
        lambda names: dynamic_int8(DENSE, keep_fp32=names),
    ],
    ids=["static", "dynamic"],
)
def test_nodes_that_are_left_alone_keep_their_weights(quantized):
    everything, without_first = quantized([]), quantized(["first"])

    assert len(int8_weights(everything)) == 3
    assert len(int8_weights(without_first)) == 2
    assert off(without_first, DENSE, FEATURES) != off(everything, DENSE, FEATURES)


@pytest.mark.parametrize(
    "quantized",
    [
        lambda: static_int8(DENSE, in_batches(FEATURES), keep_fp32=["lsat", "last"]),
        lambda: dynamic_int8(DENSE, keep_fp32=["lsat", "last"]),
    ],
    ids=["static", "dynamic"],
)
def test_a_misspelt_node_is_named(quantized):
    with pytest.raises(NotQuantizable, match=r"^no node is called lsat$"):
        quantized()


def test_nothing_to_quantize_is_said():
    with pytest.raises(NotQuantizable, match="no layers that this method quantizes"):
        dynamic_int8(CONVOLUTIONAL, keep_fp32=["last"])


def test_calibration_cases_that_do_not_fit_the_network_are_said():
    with pytest.raises(NotQuantizable, match=r"^static quantization failed: .*features"):
        static_int8(DENSE, [{"features": np.zeros((4, 3), dtype=np.float32)}])


def test_quantizers_print_nothing(capfd, caplog):
    with caplog.at_level(logging.WARNING):
        static_int8(DENSE, in_batches(FEATURES), operators=["Conv", "MatMul"])
        dynamic_int8(prepared(DENSE))

    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_a_prepared_network_answers_the_same_with_fewer_and_named_nodes():
    nameless = onnx.load_from_string(CONVOLUTIONAL)
    for node in nameless.graph.node:
        node.name = ""

    ready = prepared(nameless.SerializeToString())

    names = [node.name for node in onnx.load_from_string(ready).graph.node]
    assert "BatchNormalization" not in operators_of(ready)
    assert all(names)
    assert len(set(names)) == len(names)
    assert {each.domain for each in onnx.load_from_string(ready).opset_import} == {""}
    np.testing.assert_allclose(answers(ready, IMAGES), answers(CONVOLUTIONAL, IMAGES), atol=1e-5)


def test_what_is_no_network_can_not_be_prepared():
    broken = onnx.load_from_string(DENSE)
    broken.graph.node[0].input[0] = "nowhere"

    with pytest.raises(NotQuantizable, match="nowhere"):
        prepared(broken.SerializeToString())


def saturating(activations, weights):
    """What an AVX2 kernel adds up: products in pairs, each pair's sum cut off at 16 bits."""
    products = activations.astype(np.int32)[:, :, None] * weights.astype(np.int32)[None]
    pairs = products[:, 0::2] + products[:, 1::2]
    limits = np.iinfo(np.int16)
    return pairs.clip(limits.min, limits.max).sum(axis=1)


@pytest.mark.parametrize(("seven_bit", "is_exact"), [(True, True), (False, False)])
@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_only_eight_bit_weights_can_saturate_a_kernel(method, seven_bit, is_exact):
    fp32 = networks.network(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="sum")],
        {"w": networks.normal(32, 4)},
        inputs={"x": (TensorProto.FLOAT, ["n", 32])},
        outputs={"y": ["n", 4]},
    )
    batch = {"x": np.abs(networks.normal(16, 32, scale=1.0))}
    int8 = (
        static_int8(fp32, [batch], seven_bit=seven_bit)
        if method == "static"
        else dynamic_int8(fp32, seven_bit=seven_bit)
    )
    (weights,) = int8_weights(int8)
    brightest = np.full((1, 32), 255)

    sums = saturating(brightest, weights), brightest @ weights.astype(np.int32)

    assert (sums[0] == sums[1]).all() == is_exact


def test_weights_are_quantized_per_channel():
    uneven = np.concatenate([networks.normal(64, 1), 100 * networks.normal(64, 1)], axis=1)
    fp32 = networks.network(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="sum")],
        {"w": uneven},
        inputs={"x": (TensorProto.FLOAT, ["n", 64])},
        outputs={"y": ["n", 2]},
    )

    for int8 in (static_int8(fp32, [{"x": networks.normal(64, 64)}]), dynamic_int8(fp32)):
        (weights,) = int8_weights(int8)
        assert np.abs(weights.astype(int)).max(axis=0).tolist() == [64, 64]


@pytest.mark.parametrize(("fp32", "batch"), [(DENSE, FEATURES), (CONVOLUTIONAL, IMAGES)])
def test_both_kernel_settings_agree(fp32, batch):
    int8 = static_int8(prepared(fp32), in_batches(batch), operators=CONVOLUTION_OPERATORS)

    settings = [answers(int8, batch, exact=exact) for exact in (False, True)]

    for one, other in itertools.pairwise(settings):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_operators_of_another_domain_stand_in_no_way_and_nothing_is_muttered(caplog):
    """scikit-learn's scaler: types behind it can't be inferred."""
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(4, 64)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node(
                "Scaler", ["x"], ["scaled"], domain="ai.onnx.ml", offset=[0.0], scale=[1.0]
            ),
            helper.make_node("MatMul", ["scaled", "w"], ["y"], name="dense"),
        ],
        "scaled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])],
        [numpy_helper.from_array(weights, "w")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    cases = generator.normal(size=(32, 4)).astype(np.float32)

    forms = [dynamic_int8(model), static_int8(model, [cases])]

    expected = cases @ weights
    for form in forms:
        (answer,) = open_session(form, exact_int8=True).run(None, {"x": cases})
        assert np.abs(answer - expected).max() < 0.1 * np.abs(expected).max()
    assert caplog.records == []
