"""Records what ONNX Runtime's int8 kernels answer on a CPU with AVX2 and without VNNI.

The answers are what `models.emulation` is tested against. Run it on such a machine, or on any x86
with Debian's `qemu-user` (13 seconds), and again whenever ONNX Runtime's minor version changes:

    qemu-x86_64 -cpu Haswell .venv/bin/python scripts/record_avx2.py tests/data/avx2-kernels.npz

What is in the file, for each small network: `NAME.model` (its bytes), `NAME.x` (what it was asked),
`NAME.default` and `NAME.exact` (the answers with `session.x64quantprecision` 0 and 1), and
`version`, that of ONNX Runtime.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

Array = npt.NDArray[Any]
CASES = 2
MICROSOFT = "com.microsoft"
RANDOM = np.random.default_rng(0)


@dataclass(frozen=True)
class Network:
    """A small network of one input `x` and one output `y`.

    Attributes:
        name: What it shows.
        nodes: Its nodes.
        shape: Of the input, without the cases.
        constants: Beside those of every network.
        opset: Of the standard operators.
    """

    name: str
    nodes: Sequence[onnx.NodeProto]
    shape: tuple[int, ...]
    constants: dict[str, Array] = field(default_factory=dict)
    opset: int = 17

    def to_bytes(self) -> bytes:
        """The network as an ONNX file."""
        kind = onnx.TensorProto.FLOAT
        given = helper.make_tensor_value_info("x", kind, ["n", *self.shape])
        asked = helper.make_tensor_value_info("y", kind, None)
        constants = {
            "xs": np.float32(0.02),
            "xz": np.uint8(128),
            "ws": np.float32(0.01),
            "wz": np.int8(0),
            "ys": np.float32(0.6),
            **self.constants,
        }
        used = {name for node in self.nodes for name in node.input}
        initializers = [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in constants.items()
            if name in used
        ]
        graph = helper.make_graph(list(self.nodes), "g", [given], [asked], initializers)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets)
        model.ir_version = 10
        return model.SerializeToString()


def heavy(*shape: int) -> Array:
    """Weights of which many pairs saturate."""
    weights = RANDOM.integers(-127, 128, shape)
    weights[RANDOM.random(shape) < 0.3] = 127  # noqa: PLR2004
    return weights.astype(np.int8)


def node(kind: str, given: str, made: str, **attributes: object) -> onnx.NodeProto:
    """A node; its inputs are names with blanks between."""
    is_own = kind in {"QGemm", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits"}
    domain = MICROSOFT if is_own else ""
    return helper.make_node(kind, given.split(" "), [made], domain=domain, **attributes)


LEVELS = node("QuantizeLinear", "x xs xz", "xq")
VALUES = node("DequantizeLinear", "yq ys xz", "y")
AS_FLOAT = node("Cast", "sums", "y", to=onnx.TensorProto.FLOAT)


def qdq(name: str, operator: onnx.NodeProto, shape: tuple[int, ...], weights: Array) -> Network:
    """A network with QuantizeLinear and DequantizeLinear around its one operator."""
    nodes = [
        LEVELS,
        node("DequantizeLinear", "xq xs xz", "xd"),
        node("DequantizeLinear", "w ws wz", "wd"),
        operator,
        node("QuantizeLinear", "o ys xz", "yq"),
        VALUES,
    ]
    constants = {"w": weights, "wz": weights.dtype.type(128 * (weights.dtype == np.uint8))}
    return Network(name, nodes, shape, constants)


def matrices() -> Iterator[Network]:
    """Products of matrices, in every way they are written."""
    product = node("MatMul", "xd wd", "o")
    yield qdq("matmul", product, (32,), heavy(32, 16))
    yield qdq("matmul-of-sequences", product, (5, 16), heavy(16, 8))
    yield qdq("matmul-unsigned", product, (32,), (heavy(32, 16).astype(int) + 128).astype(np.uint8))
    signed = qdq("matmul-signed-levels", product, (32,), heavy(32, 16))
    signed.constants["xz"] = np.int8(0)
    yield signed
    yield qdq("matmul-7-bit", product, (32,), np.clip(heavy(32, 16), -64, 64))
    yield qdq("gemm", node("Gemm", "xd wd", "o"), (32,), heavy(32, 16))
    yield qdq("gemm-transposed", node("Gemm", "xd wd", "o", transB=1), (32,), heavy(16, 32))
    per_column = {
        "ws": RANDOM.uniform(0.01, 0.02, 16).astype(np.float32),
        "wz": RANDOM.integers(-5, 5, 16).astype(np.int8),
        "b": RANDOM.normal(size=16).astype(np.float32),
    }
    yield Network(
        "to-float",
        [LEVELS, node("MatMulIntegerToFloat", "xq w xs ws xz wz b", "y")],
        (33,),
        {"w": heavy(33, 16), **per_column},
    )
    yield Network(
        "dynamic",
        [node("DynamicQuantizeMatMul", "x w ws wz b", "y")],
        (4, 32),
        {"w": heavy(32, 16), **per_column},
    )
    yield Network(
        "dynamic-without-bias",
        [node("DynamicQuantizeMatMul", "x w ws", "y")],
        (33,),
        {"w": heavy(33, 16)},
    )
    for opset in (17, 21):
        levels = node("QLinearMatMul", "xq xs xz w ws wz ys xz", "yq")
        yield Network(
            f"qlinear-opset-{opset}", [LEVELS, levels, VALUES], (32,), {"w": heavy(32, 16)}, opset
        )
        sums = node("MatMulInteger", "xq w xz", "sums")
        yield Network(
            f"integer-opset-{opset}", [LEVELS, sums, AS_FLOAT], (32,), {"w": heavy(32, 16)}, opset
        )
    yield from unusual_matrices()
    yield from blocks()


def blocks() -> Iterator[Network]:
    """Weights in blocks of 4 and 8 bits."""
    for bits in (4, 8):
        middle = 1 << (bits - 1)
        levels = np.clip(heavy(16, 2, 32).astype(int), -middle, middle - 1) + middle
        packed = levels if bits == 8 else levels[..., 0::2] + 16 * levels[..., 1::2]  # noqa: PLR2004
        shape = {"K": 64, "N": 16, "bits": bits, "block_size": 32, "accuracy_level": 4}
        yield Network(
            f"blocks-of-{bits}-bits",
            [node("MatMulNBits", "x w ws", "y", **shape)],
            (64,),
            {"w": packed.astype(np.uint8), "ws": RANDOM.uniform(0.01, 0.02, (16, 2)).astype("f4")},
        )


def unusual_matrices() -> Iterator[Network]:
    """Weights that are no constants, have a batch of their own, or meet signed activations."""
    signed = node("QuantizeLinear", "x xs wz", "signed")
    turned = node("Transpose", "signed", "turned")
    sums = node("MatMulInteger", "xq turned xz", "sums")
    yield Network("weights-computed", [LEVELS, signed, turned, sums, AS_FLOAT], (32,))
    sums = node("MatMulInteger", "xq w xz", "sums")
    yield Network("batch-of-weights", [LEVELS, sums, AS_FLOAT], (3, 5, 8), {"w": heavy(3, 8, 4)})
    sums = node("MatMulInteger", "signed w wz", "sums")
    yield Network("signed-activations", [signed, sums, AS_FLOAT], (32,), {"w": heavy(32, 16)})
    gemm = node("QGemm", "xq xs xz w ws wz b ys xz", "yq", transB=1, alpha=0.5)
    constants = {
        "w": heavy(16, 32),
        "ws": RANDOM.uniform(0.01, 0.02, 16).astype(np.float32),
        "wz": np.zeros(16, np.int8),
        "b": RANDOM.integers(-9999, 9999, 16).astype(np.int32),
    }
    yield Network("qgemm", [LEVELS, gemm, VALUES], (32,), constants)
    plain = node("QGemm", "xq xs xz w ws wz", "y")
    yield Network("qgemm-to-float", [LEVELS, plain], (32,), {"w": heavy(32, 16)})


def convolutions() -> Iterator[Network]:
    """Convolutions of every rank, grouping and stride."""
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
        "conv": ((8, 9, 9), (8, 8, 3, 3), {"pads": [1] * 4}),
        "conv-32": ((16, 9, 9), (32, 16, 3, 3), {"pads": [1] * 4}),
        "conv-3-channels": ((3, 9, 9), (8, 3, 3, 3), {"pads": [1] * 4}),
        "conv-strided": ((1, 9, 9), (8, 1, 3, 3), {"pads": [1] * 4, "strides": [2, 2]}),
        "conv-dilated": (
            (6, 11, 11),
            (8, 6, 3, 3),
            {"pads": [0, 1, 2, 1], "dilations": [2, 1], "strides": [1, 2]},
        ),
        "conv-same": ((4, 8, 9), (8, 4, 3, 2), {"auto_pad": "SAME_UPPER", "strides": [2, 1]}),
        "conv-same-lower": ((4, 8, 9), (8, 4, 3, 2), {"auto_pad": "SAME_LOWER"}),
        "conv-pointwise": ((16, 9, 9), (16, 16, 1, 1), {}),
        "conv-grouped": ((16, 9, 9), (16, 4, 3, 3), {"pads": [1] * 4, "group": 4}),
        "conv-1d": ((4, 19), (8, 4, 5), {"pads": [2, 2]}),
        "conv-3d": ((2, 5, 5, 5), (4, 2, 3, 3, 3), {"pads": [1] * 6}),
        "conv-multiplied": ((8, 9, 9), (16, 1, 3, 3), {"pads": [1] * 4, "group": 8}),
        "depthwise": ((16, 9, 9), (16, 1, 3, 3), {"pads": [1] * 4, "group": 16}),
        "depthwise-7": ((6, 9, 9), (6, 1, 7, 7), {"pads": [3] * 4, "group": 6}),
        "one-channel": ((1, 9, 9), (1, 1, 3, 3), {"pads": [1] * 4}),
    }
    for name, (shape, weights, attributes) in shapes.items():
        yield qdq(name, node("Conv", "xd wd", "o", **attributes), shape, heavy(*weights))
    levels = node("QLinearConv", "xq xs xz w ws wz ys xz b", "yq", pads=[1] * 4)
    constants = {
        "w": heavy(8, 5, 3, 3),
        "ws": RANDOM.uniform(0.01, 0.02, 8).astype(np.float32),
        "wz": np.full(8, 3, np.int8),
        "b": RANDOM.integers(-9999, 9999, 8).astype(np.int32),
    }
    yield Network("qlinear-conv", [LEVELS, levels, VALUES], (5, 7, 7), constants)


def answer(model: bytes, x: Array, *, exact: bool) -> Array:
    """What ONNX Runtime answers on this machine."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", str(int(exact)))
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["y"], {"x": x})[0])


def main(target: Path) -> None:
    """Write the recording; refuse where the kernels don't saturate."""
    found: dict[str, Array] = {"version": np.array(ort.__version__)}
    for network in (*matrices(), *convolutions()):
        model = network.to_bytes()
        x = RANDOM.uniform(-2.5, 2.5, (CASES, *network.shape)).round(1).astype(np.float32)
        x[RANDOM.random(x.shape) < 0.5] = 2.5  # noqa: PLR2004 - the largest level, often
        found[f"{network.name}.model"] = np.frombuffer(model, dtype=np.uint8)
        found[f"{network.name}.x"] = x
        found[f"{network.name}.default"] = answer(model, x, exact=False)
        found[f"{network.name}.exact"] = answer(model, x, exact=True)
    if np.array_equal(found["matmul.default"], found["matmul.exact"]):
        sys.exit("this CPU's int8 kernels don't saturate: it has VNNI, or is no x86")
    np.savez_compressed(target, **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
