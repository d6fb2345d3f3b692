"""Emulated kernels against answers that real ones gave: tests/data/avx2-kernels.npz."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from models.emulation import Emulation, EmulationImpossible
from models.onnx_engine import open_session
from models.registry import ModelUnusable

RECORDED = np.load(Path(__file__).parents[2] / "data" / "avx2-kernels.npz")
NETWORKS = sorted(key.removesuffix(".model") for key in RECORDED.files if key.endswith(".model"))
#: Where `x64quantprecision` changes nothing although the weights are signed.
NOT_MADE_EXACT = {"qlinear-opset-21", "weights-computed"}
NEVER_SATURATE = {
    "matmul-unsigned", "matmul-7-bit", "signed-activations",
    "depthwise", "depthwise-7", "one-channel", "blocks-of-4-bits", "blocks-of-8-bits",
}  # fmt: skip


def model(name):
    return RECORDED[f"{name}.model"].tobytes()


def asked(name):
    return {"x": RECORDED[f"{name}.x"]}


def test_the_recording_is_of_the_runtime_that_is_installed():
    recorded, installed = str(RECORDED["version"]).split("."), ort.__version__.split(".")

    assert recorded[:2] == installed[:2], (
        f"tests/data/avx2-kernels.npz was recorded with ONNX Runtime {'.'.join(recorded)}, but "
        f"{ort.__version__} is installed. On x86 with qemu-user (or with AVX2 and no VNNI) run "
        "`qemu-x86_64 -cpu Haswell .venv/bin/python scripts/record_avx2.py "
        "tests/data/avx2-kernels.npz` and commit the file; a test below that fails then means "
        "that the kernels changed: mend models/emulation.py (docs/decisions/0015-kernel-classes.md)"
    )


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("kernels", "setting"), [("saturating", "default"), ("exact", "exact")])
def test_real_avx2_kernels_give_the_same_answers(name, kernels, setting):
    answer = Emulation(model(name), kernels).run(asked(name), "y")

    np.testing.assert_allclose(answer, RECORDED[f"{name}.{setting}"], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_without_saturation_it_is_the_network_as_it_was_meant(name):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = ort.InferenceSession(model(name), options, providers=["CPUExecutionProvider"])

    answer = Emulation(model(name), "ideal").run(asked(name), "y")
    exact = RECORDED[f"{name}.default" if name in NEVER_SATURATE else f"{name}.exact"]

    if name not in NOT_MADE_EXACT:
        np.testing.assert_allclose(answer, exact, rtol=1e-5, atol=1e-3)
    # An operator on its own rounds where fused ones do not; one level of the output is 0.6.
    if name.startswith(("conv", "matmul", "gemm", "depthwise", "one")):
        (expected,) = plain.run(None, asked(name))
        np.testing.assert_allclose(answer, expected, atol=0.61)


def test_the_setting_for_exact_kernels_leaves_some_products_saturating():
    def differs(name):
        return not np.array_equal(RECORDED[f"{name}.exact"], RECORDED[f"{name}.default"])

    for name in NOT_MADE_EXACT:
        ideal = Emulation(model(name), "ideal").run(asked(name), "y")
        assert np.abs(ideal - RECORDED[f"{name}.exact"]).max() > 1
    assert {name for name in NETWORKS if not differs(name)} == NEVER_SATURATE | NOT_MADE_EXACT


@pytest.mark.parametrize("name", NETWORKS)
def test_what_can_not_saturate_is_known_without_running_it(name):
    proved = name in NEVER_SATURATE - {"signed-activations"}

    assert Emulation(model(name), "saturating").is_needed is not proved


def test_products_inside_the_runtime_and_outside_follow_each_other():
    weights = np.full((8, 8), 127, np.int8)
    nodes = [
        helper.make_node("DynamicQuantizeMatMul", ["x", "w", "s"], ["a"], domain="com.microsoft"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("DynamicQuantizeMatMul", ["b", "w", "s"], ["c"], domain="com.microsoft"),
        helper.make_node("Add", ["c", "x"], ["y"]),
    ]
    network = build(nodes, {"w": weights, "s": np.float32(0.01)}, (8,))
    x = np.linspace(0, 1, 8, dtype=np.float32)[None]

    ideal = Emulation(network, "ideal").run({"x": x}, "y")
    saturated = Emulation(network, "saturating").run({"x": x}, "y")

    separate = {"w": weights, "v": weights, "s": np.float32(0.01)}
    twin = [helper.make_node("Identity", ["x"], ["x0"]), *nodes]
    twin[3] = helper.make_node(
        "DynamicQuantizeMatMul", ["b", "v", "s"], ["c"], domain="com.microsoft"
    )
    session = open_session(build(twin, separate, (8,)), exact_int8=True)
    np.testing.assert_allclose(ideal, session.run(None, {"x": x})[0], rtol=1e-5)
    assert (saturated < ideal).all()


def test_weights_that_the_exact_setting_can_not_load_are_unusable_and_say_so():
    """ONNX Runtime 1.32 makes weights unsigned once for each product, and twice is an error."""
    shared = [
        helper.make_node("DynamicQuantizeMatMul", ["x", "w", "s"], ["a"], domain="com.microsoft"),
        helper.make_node("DynamicQuantizeMatMul", ["a", "w", "s"], ["y"], domain="com.microsoft"),
    ]
    network = build(shared, {"w": np.full((8, 8), 127, np.int8), "s": np.float32(0.01)}, (8,))

    assert Emulation(network, "saturating").is_needed
    with pytest.raises(ModelUnusable, match="as Nadi sets on x86 without VNNI"):
        Emulation(network, "exact")


def test_a_product_in_the_branch_of_a_condition_is_not_overlooked():
    inner = helper.make_graph(
        [helper.make_node("MatMulInteger", ["q", "w"], ["sums"])],
        "then",
        [],
        [helper.make_tensor_value_info("sums", onnx.TensorProto.INT32, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Cast", ["q"], ["sums2"], to=onnx.TensorProto.INT32)],
        "else",
        [],
        [helper.make_tensor_value_info("sums2", onnx.TensorProto.INT32, None)],
    )
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "qs", "qz"]),
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "zero"], ["is_large"]),
        helper.make_node("If", ["is_large"], ["i"], then_branch=inner, else_branch=other),
        helper.make_node("Cast", ["i"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    network = build(nodes, {"w": np.full((8, 8), 127, np.int8), "zero": np.float32(0)}, (8,))

    with pytest.raises(EmulationImpossible, match="in a branch or a loop"):
        Emulation(network, "saturating")


def test_a_recurrent_network_that_may_saturate_can_not_be_judged():
    weights = np.full((1, 2, 16), 127, np.int8)
    zeros = np.zeros((1, 16), np.int8)
    scale = np.full((1, 16), 0.01, np.float32)
    names = ["x", "w", "r", "", "", "", "", "", "s", "z", "s", "z"]
    nodes = [
        helper.make_node(
            "DynamicQuantizeLSTM", names, ["h"], domain="com.microsoft", hidden_size=4
        ),
        helper.make_node("Identity", ["h"], ["y"]),
    ]
    heavy = {"w": weights, "r": np.full((1, 4, 16), 127, np.int8), "s": scale, "z": zeros}
    light = {**heavy, "w": weights // 2, "r": heavy["r"] // 2}

    with pytest.raises(EmulationImpossible, match="DynamicQuantizeLSTM"):
        Emulation(build(nodes, heavy, (3, 2)), "saturating")
    assert not Emulation(build(nodes, light, (3, 2)), "saturating").is_needed


def build(nodes, constants, shape):
    given = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", *shape])
    made = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    kept = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    graph = helper.make_graph(nodes, "g", [given], [made], kept)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    network = helper.make_model(graph, opset_imports=opsets)
    network.ir_version = 10
    return network.SerializeToString()
