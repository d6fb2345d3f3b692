"""Small TFLite networks, written by the schema that LiteRT brings: no TensorFlow is needed.

A logistic model of four numbers as float32 and as int8 (inputs and outputs too), and a network of
an image, channels last. Weights are seeded.
"""

from collections.abc import Sequence
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
}


@dataclass(frozen=True)
class Levels:
    """How numbers are quantized: number = scale x (level - zero point), per channel of axis 0."""

    scales: Sequence[float]
    zero_point: int = 0


@dataclass
class Network:
    """A network under construction."""

    tensors: list[Any] = field(default_factory=list)
    buffers: list[Any] = field(default_factory=lambda: [schema.BufferT()])
    operators: list[Any] = field(default_factory=list)
    codes: list[Any] = field(default_factory=list)

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
        graph = schema.SubGraphT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = list(given.values()), list(made.values())
        model = schema.ModelT()
        model.version, model.description = 3, "made for tests"
        model.operatorCodes, model.subgraphs, model.buffers = self.codes, [graph], self.buffers
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
