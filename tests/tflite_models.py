"""Small TFLite networks, written by the schema that LiteRT brings: no TensorFlow is needed.

A logistic model of four numbers as float32 and as int8 (inputs and outputs too), a network of an
image, channels last, and one that takes as long as it is asked to. Weights are seeded.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

Array = npt.NDArray[Any]

WIDTH = 4
WEIGHTS = np.array([[0.8, -0.5, 0.3, 1.1]], dtype=np.float32)
BIAS = np.array([-0.4], dtype=np.float32)
_KINDS = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.bool_): schema.TensorType.BOOL,
}
_IDLE = 20  # operators that change nothing, so that a round takes a while
_COUNTED_TO_MEASURE = 3_000


@dataclass(frozen=True)
class Levels:
    """How numbers are quantized: number = scale x (level - zero point), per channel of axis 0."""

    scales: Sequence[float]
    zero_point: int = 0


@dataclass
class Network:
    """A network under construction, or one graph of it."""

    tensors: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=lambda: [schema.BufferT()])
    operators: list[Any] = field(default_factory=list)
    codes: list[Any] = field(default_factory=list)
    inner: list[Any] = field(default_factory=list)

    def inside(self) -> "Network":
        """A graph that an operator of this one calls; `close` gives its number."""
        return Network(buffers=self.buffers, codes=self.codes, inner=self.inner)

    def close(self, given: int, made: int) -> int:
        """End a graph of `inside`: its one input and its one output."""
        self.inner.append(self.graph([given], [made]))
        return len(self.inner)

    def graph(self, given: Sequence[int], made: Sequence[int]) -> Any:
        """What was built, from its inputs to its outputs."""
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = list(given), list(made)
        return graph

    def value(
        self, name: str, shape: Sequence[int], dtype: Any = np.float32, levels: Levels | None = None
    ) -> int:
        """A tensor that is computed; -1 stands for any size."""
        tensor = schema.TensorT()
        tensor.name, tensor.type = name, _KINDS[np.dtype(dtype)]
        tensor.shape = [max(size, 1) for size in shape]
        tensor.shapeSignature = list(shape)
        if levels is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = list(levels.scales)
            tensor.quantization.zeroPoint = [levels.zero_point] * len(levels.scales)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, name: str, values: Array, levels: Levels | None = None) -> int:
        """A tensor that is known."""
        place = self.value(name, values.shape, values.dtype, levels)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), dtype=np.uint8)
        self.buffers.append(buffer)
        self.tensors[place].buffer = len(self.buffers) - 1
        return place

    def operator(self, kind: str, given: Sequence[int], made: int, options: Any = None) -> None:
        """An operator of the builtin ones."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        self.codes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.codes) - 1
        operator.inputs, operator.outputs = list(given), [made]
        if options is not None:
            operator.builtinOptions = options
            name = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        self.operators.append(operator)

    def to_bytes(self, given: dict[str, int], made: dict[str, int], *, signed: bool) -> bytes:
        """The network as a file; `signed`, its inputs and outputs have names of their own."""
        graph = self.graph(list(given.values()), list(made.values()))
        model = schema.ModelT()
        model.version, model.description = 3, "made for tests"
        model.operatorCodes, model.buffers = self.codes, self.buffers
        model.subgraphs = [graph, *self.inner]
        if signed:
            signature = schema.SignatureDefT()
            signature.signatureKey = "serving_default"
            signature.inputs = [_named(*each) for each in given.items()]
            signature.outputs = [_named(*each) for each in made.items()]
            model.signatureDefs = [signature]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def float_model(*, batch: int = -1, signed: bool = True) -> bytes:
    """features (n, 4) → probability (n, 1), float32."""
    network = Network()
    x = network.value("serving_default_features:0", (batch, WIDTH))
    sums = network.value("sums", (batch, 1))
    y = network.value("StatefulPartitionedCall:0", (batch, 1))
    known = [network.constant("weights", WEIGHTS), network.constant("bias", BIAS)]
    network.operator("FULLY_CONNECTED", [x, *known], sums, schema.FullyConnectedOptionsT())
    network.operator("LOGISTIC", [sums], y)
    return network.to_bytes({"features": x}, {"probability": y}, signed=signed)


def int8_model(*, batch: int = -1) -> bytes:
    """The same in int8, its input and output too."""
    network = Network()
    given, between, made = Levels([0.04], 0), Levels([0.05], 0), Levels([1 / 256], -128)
    scale = float(np.abs(WEIGHTS).max() / 127)
    weights = np.rint(WEIGHTS / scale).astype(np.int8)
    bias = np.rint(BIAS / (scale * given.scales[0])).astype(np.int32)
    x = network.value("features", (batch, WIDTH), np.int8, given)
    sums = network.value("sums", (batch, 1), np.int8, between)
    y = network.value("probability", (batch, 1), np.int8, made)
    known = [
        network.constant("weights", weights, Levels([scale])),
        network.constant("bias", bias, Levels([scale * given.scales[0]])),
    ]
    network.operator("FULLY_CONNECTED", [x, *known], sums, schema.FullyConnectedOptionsT())
    network.operator("LOGISTIC", [sums], y)
    return network.to_bytes({"features": x}, {"probability": y}, signed=True)


def loop_model() -> bytes:
    """features (1, 1) → probability (1, 1), 0.5: it counts down from its whole number before."""
    network = Network()
    loop = schema.WhileOptionsT()
    loop.condSubgraphIndex = _is_above_zero(network.inside())
    loop.bodySubgraphIndex = _one_less(network.inside())
    x, counted = network.value("features", (1, 1)), network.value("counted", (1, 1))
    y = network.value("probability", (1, 1))
    network.operator("WHILE", [x], counted, loop)
    network.operator("LOGISTIC", [counted], y)
    return network.to_bytes({"features": x}, {"probability": y}, signed=True)


def _is_above_zero(graph: Network) -> int:
    left, most = graph.value("left", (1, 1)), graph.value("most", (1,))
    answer = graph.value("is above zero", (1,), np.bool_)
    axis, zero = np.array([1], np.int32), np.zeros(1, np.float32)
    graph.operator(
        "REDUCE_MAX", [left, graph.constant("axis", axis)], most, schema.ReducerOptionsT()
    )
    graph.operator("GREATER", [most, graph.constant("zero", zero)], answer)
    return graph.close(left, answer)


def _one_less(graph: Network) -> int:
    left = same = graph.value("left", (1, 1))
    for _ in range(_IDLE):
        before, same = same, graph.value("same", (1, 1))
        graph.operator("ABS", [before], same)
    less, one = graph.value("less", (1, 1)), np.ones((1, 1), np.float32)
    graph.operator("SUB", [same, graph.constant("one", one)], less, schema.SubOptionsT())
    return graph.close(left, less)


def rounds_of(seconds: float, ask: Callable[[Array], Array]) -> Array:
    """What to ask `loop_model` so that it runs at least so long, however fast the machine is.

    A busy machine makes a round look longer than it is, so the quickest of a few runs counts.
    """
    few = np.full((1, 1), _COUNTED_TO_MEASURE, np.float32)
    took_s = min(_took_s(lambda: ask(few)) for _ in range(5))
    rounds = _COUNTED_TO_MEASURE * seconds / took_s
    assert rounds < 2**24, "float32 can't count that far down"
    return np.full((1, 1), np.ceil(rounds), np.float32)


def _took_s(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def image_model(*, size: int = 8, channels: int = 3, repeats: int = 1) -> bytes:
    """image (n, rows, columns, channels) → brightness (n, channels): each channel's mean.

    Args:
        size: Rows and columns.
        channels: Of the image.
        repeats: How many times a convolution that changes nothing is made, to take time.
    """
    network = Network()
    shape = (-1, size, size, channels)
    image = place = network.value("image", shape)
    identity = np.eye(channels, dtype=np.float32).reshape(channels, 1, 1, channels)
    known = [
        network.constant("identity", identity),
        network.constant("nothing", np.zeros(channels, dtype=np.float32)),
    ]
    for at in range(repeats):
        options = schema.Conv2DOptionsT()
        options.strideW = options.strideH = options.dilationWFactor = options.dilationHFactor = 1
        after = network.value(f"copy{at}", shape)
        network.operator("CONV_2D", [place, *known], after, options)
        place = after
    axes = network.constant("axes", np.array([1, 2], dtype=np.int32))
    made = network.value("brightness", (-1, channels))
    network.operator("MEAN", [place, axes], made, schema.ReducerOptionsT())
    return network.to_bytes({"image": image}, {"brightness": made}, signed=True)


def expected(features: Array) -> Array:
    """What the logistic model answers, (n, 1)."""
    return np.asarray(1 / (1 + np.exp(-(features @ WEIGHTS.T + BIAS))))


def _named(name: str, place: int) -> Any:
    tensor = schema.TensorMapT()
    tensor.name, tensor.tensorIndex = name, place
    return tensor
