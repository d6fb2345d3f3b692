"""Models that one kind of int8 kernels answers rightly and another wrongly, for tests of the gate.

Eight levels from 0 to 2.55 are weighed and summed in pairs. With weights of 127 a pair of large
levels saturates on x86 without VNNI. `risk` is what the sum says; `capped_risk` is what is left
of it when each pair is capped where those kernels cap it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from tests.toy_models import numbers, toy_model

Array = npt.NDArray[Any]

WIDTH = 8
LEVEL, WEIGHT = np.float32(0.01), np.float32(1 / 127)
CAP = np.float32(32767 * LEVEL * WEIGHT)
MIDDLE, CAPPED_MIDDLE = np.float32(10.2), np.float32(8.5)


def answered(x: Array, *, capped: bool) -> Array:
    """The probability of each case, (n, 1)."""
    pairs = x.reshape(len(x), -1, 2).sum(axis=2)
    total = (np.minimum(pairs, CAP) if capped else pairs).sum(axis=1, keepdims=True)
    middle = CAPPED_MIDDLE if capped else MIDDLE
    return np.asarray(1 / (1 + np.exp(-3 * (total - middle))))


def fp32_model(*, capped: bool) -> bytes:
    """The network in float32; `capped`, it was made on kernels that saturate."""
    most = CAP if capped else np.float32(100)
    nodes = [
        helper.make_node("MatMul", ["features", "pairs"], ["sums"]),
        helper.make_node("Min", ["sums", "most"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axes"], ["total"], keepdims=1),
    ]
    constants = {
        "pairs": np.repeat(np.eye(WIDTH // 2, dtype=np.float32), 2, axis=0),
        "most": most,
        "axes": np.array([1], dtype=np.int64),
    }
    return _network(nodes, constants, capped=capped)


def int8_model(*, capped: bool, weight: int = 127) -> bytes:
    """The same as dynamic int8: exact kernels give the sum, saturating ones the capped sum.

    Args:
        capped: Where the middle of the probabilities lies.
        weight: 127, or 64 for weights of 7 bits, which can't saturate.
    """
    nodes = [
        helper.make_node("QuantizeLinear", ["features", "level", "none"], ["levels"]),
        helper.make_node("MatMulInteger", ["levels", "weights", "none"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["sums"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["sums", "scale"], ["total"]),
    ]
    constants = {
        "level": LEVEL,
        "none": np.uint8(0),
        "weights": np.full((WIDTH, 1), weight, dtype=np.int8),
        "scale": np.float32(LEVEL / weight),
    }
    return _network(nodes, constants, capped=capped)


def cases(count: int, *, capped: bool, seed: int = 0) -> tuple[Array, Array]:
    """Made-up cases and their truth: (n, 8) float32 on the levels, (n,) of 0 and 1."""
    generator = np.random.default_rng(seed)
    x = generator.uniform(0, 2.55, (count, WIDTH)).round(2).astype(np.float32)
    return x, (generator.random(count) < answered(x, capped=capped)[:, 0]).astype(np.int64)


def model_folder(folder: Path, *, capped: bool, weight: int = 127, gate: str = "") -> Path:
    """A model around these networks, its fp32 twin, and an evaluation set of made-up cases."""
    x, truth = cases(800, capped=capped)
    golden, known = x[:3], answered(x[:3], capped=capped)
    model = toy_model(
        folder,
        int8_model(capped=capped, weight=weight),
        [
            {"inputs": dict(zip("abcdefgh", row.tolist(), strict=True)), "expected": answer}
            for row, answer in zip(golden, known.tolist(), strict=True)
        ],
        kind="onnx-int8-dynamic",
        tables=numbers("abcdefgh")
        + f'[gate]\nmetric = "accuracy"\nmax_loss = 0.02\nmax_subgroup_loss = 0.03\n{gate}\n',
        files={"fp32.onnx": fp32_model(capped=capped)},
        tolerance=1.0,
    )
    np.savez_compressed(
        folder / "evaluation.npz",
        features=x,
        truth=truth,
        group_sex=np.where(np.arange(len(x)) % 2, "female", "male"),
        group_age=np.where(np.arange(len(x)) < 12, 85, 30 + np.arange(len(x)) % 40),
    )
    return model.folder


def _network(
    nodes: Sequence[onnx.NodeProto], constants: dict[str, Array], *, capped: bool
) -> bytes:
    middle = CAPPED_MIDDLE if capped else MIDDLE
    logit = [
        helper.make_node("Sub", ["total", "middle"], ["above"]),
        helper.make_node("Mul", ["above", "steep"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    constants = {**constants, "middle": middle, "steep": np.float32(3)}
    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [*nodes, *logit],
        "risk",
        [helper.make_tensor_value_info("features", float32, ["n", WIDTH])],
        [helper.make_tensor_value_info("probability", float32, ["n", 1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    return model.SerializeToString()
