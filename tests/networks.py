"""Small real ONNX networks, built node by node, for the tests of quantizing and measuring."""

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, TensorProto, checker, helper, load_from_string, numpy_helper

OPSET, IR_VERSION = 17, 9


def network(
    nodes: list[NodeProto],
    weights: dict[str, npt.NDArray[np.generic]],
    *,
    inputs: dict[str, tuple[int, list[int | str]]],
    outputs: dict[str, list[int | str]],
) -> bytes:
    """Put a checked ONNX model together.

    Args:
        nodes: In the order in which they run.
        weights: Name → array.
        inputs: Name → ONNX type and shape.
        outputs: Name → shape; all float32.
    """
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(name, *given) for name, given in inputs.items()],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in outputs.items()
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def normal(*shape: int, seed: int = 0, scale: float | None = None) -> npt.NDArray[np.float32]:
    """Random weights; without a scale such that a layer keeps the size of its input."""
    width = scale if scale is not None else 1 / np.sqrt(shape[0])
    return (np.random.default_rng(seed).normal(size=shape) * width).astype(np.float32)


def dense(width: int = 16, hidden: int = 64, outputs: int = 1, *, seed: int = 0) -> bytes:
    """`features` → Gemm, ReLU, MatMul, ReLU, Gemm, Sigmoid → `risk`."""
    nodes = [
        helper.make_node("Gemm", ["features", "w1", "b1"], ["h1"], name="first", transB=1),
        helper.make_node("Relu", ["h1"], ["r1"], name="first_relu"),
        helper.make_node("MatMul", ["r1", "w2"], ["h2"], name="second"),
        helper.make_node("Relu", ["h2"], ["r2"], name="second_relu"),
        helper.make_node("Gemm", ["r2", "w3", "b3"], ["logit"], name="last"),
        helper.make_node("Sigmoid", ["logit"], ["risk"], name="squash"),
    ]
    weights = {
        "w1": np.ascontiguousarray(normal(width, hidden, seed=seed).T),
        "b1": normal(hidden, seed=seed + 1, scale=0.1),
        "w2": normal(hidden, hidden, seed=seed + 2, scale=(2 / hidden) ** 0.5),
        "w3": normal(hidden, outputs, seed=seed + 3, scale=(4 / hidden) ** 0.5),
        "b3": np.zeros(outputs, dtype=np.float32),
    }
    return network(
        nodes,
        weights,
        inputs={"features": (TensorProto.FLOAT, ["n", width])},
        outputs={"risk": ["n", outputs]},
    )


def convolutional(side: int = 16, channels: int = 8, classes: int = 3) -> bytes:
    """`image` → two convolutions with a sum around the second, pooling, Gemm → `logits`."""
    nodes = [
        helper.make_node("Conv", ["image", "c1"], ["h1"], name="conv1", pads=[1] * 4),
        helper.make_node("BatchNormalization", ["h1", "g", "b", "m", "v"], ["n1"], name="norm1"),
        helper.make_node("Relu", ["n1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "c2"], ["h2"], name="conv2", pads=[1] * 4),
        helper.make_node("Add", ["h2", "r1"], ["s"], name="sum"),
        helper.make_node("Relu", ["s"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w", "wb"], ["logits"], name="last"),
    ]
    generator = np.random.default_rng(5)
    weights = {
        "c1": normal(channels, 1, 3, 3, seed=1, scale=0.5),
        "g": generator.uniform(0.5, 1.5, channels).astype(np.float32),
        "b": normal(channels, seed=2, scale=0.2),
        "m": normal(channels, seed=3, scale=0.2),
        "v": generator.uniform(0.5, 1.5, channels).astype(np.float32),
        "c2": normal(channels, channels, 3, 3, seed=4, scale=0.15),
        "w": normal(channels, classes, seed=6, scale=1.0),
        "wb": np.zeros(classes, dtype=np.float32),
    }
    return network(
        nodes,
        weights,
        inputs={"image": (TensorProto.FLOAT, ["n", 1, side, side])},
        outputs={"logits": ["n", classes]},
    )


def embedding(vocabulary: int = 500, width: int = 32, classes: int = 3) -> bytes:
    """`input_ids`, `attention_mask` → table, mean of what is not masked, 2 MatMul → `logits`."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["e"], name="table"),
        helper.make_node("Cast", ["attention_mask"], ["m0"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["m0", "last"], ["m"], name="mask"),
        helper.make_node("Mul", ["e", "m"], ["em"], name="hide"),
        helper.make_node("ReduceSum", ["em", "second"], ["total"], name="add_up", keepdims=0),
        helper.make_node("ReduceSum", ["m", "second"], ["count"], name="count", keepdims=0),
        helper.make_node("Div", ["total", "count"], ["mean"], name="mean"),
        helper.make_node("MatMul", ["mean", "w1"], ["h"], name="project"),
        helper.make_node("Tanh", ["h"], ["t"], name="tanh"),
        helper.make_node("MatMul", ["t", "w2"], ["logits"], name="last"),
    ]
    weights = {
        "table": normal(vocabulary, width, seed=1, scale=1.0),
        "last": np.array([-1]),
        "second": np.array([1]),
        "w1": normal(width, 4 * width, seed=2, scale=0.5),
        "w2": normal(4 * width, classes, seed=3),
    }
    return network(
        nodes,
        weights,
        inputs={
            "input_ids": (TensorProto.INT64, ["n", "length"]),
            "attention_mask": (TensorProto.INT64, ["n", "length"]),
        },
        outputs={"logits": ["n", classes]},
    )


def features(cases: int = 64, width: int = 16, *, seed: int = 9) -> dict[str, npt.NDArray]:
    """Inputs of `dense`."""
    return {"features": np.random.default_rng(seed).normal(size=(cases, width)).astype(np.float32)}


def images(cases: int = 32, side: int = 16, *, seed: int = 9) -> dict[str, npt.NDArray]:
    """Inputs of `convolutional`."""
    pixels = np.random.default_rng(seed).uniform(size=(cases, 1, side, side))
    return {"image": pixels.astype(np.float32)}


def tokens(
    cases: int = 32, length: int = 12, vocabulary: int = 500, *, seed: int = 9
) -> dict[str, npt.NDArray]:
    """Inputs of `embedding`; the later cases are shorter."""
    ids = np.random.default_rng(seed).integers(1, vocabulary, (cases, length))
    lengths = np.linspace(length, 3, cases).astype(int)
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    return {"input_ids": ids * mask, "attention_mask": mask}


def wide_range_at_the_end(width: int = 16, hidden: int = 64) -> bytes:
    """`dense`, but one feature of the last layer is 500 times as large and comes to nothing.

    Whoever quantizes the last layer's input gives nearly all of its levels to that feature.
    """
    model = load_from_string(dense(width, hidden))
    weights = {each.name: each for each in model.graph.initializer}
    second, third = (numpy_helper.to_array(weights[name]).copy() for name in ("w2", "w3"))
    second[:, 0] *= 500
    third[0] = 0
    weights["w2"].CopyFrom(numpy_helper.from_array(second, "w2"))
    weights["w3"].CopyFrom(numpy_helper.from_array(third, "w3"))
    return bytes(model.SerializeToString())
