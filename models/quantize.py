"""fp32 → int8 without training: post-training quantization of ONNX networks.

* `static_int8` fixes the ranges of the activations beforehand, from calibration cases, and writes
  QuantizeLinear/DequantizeLinear pairs (QDQ): for convolutions and small dense networks.
  Products of two activations (attention) stay in fp32.
* `dynamic_int8` finds the ranges anew at each run: for transformers and recurrent networks.
* `models.weight_only` leaves the activations alone and shrinks large matrices and tables.
* `models.candidates` tries all of them, `models.sensitivity` finds the nodes to leave alone.

Weights are quantized per channel to 7 bits (`reduce_range`): a pair of products of an unsigned
8-bit activation and a 7-bit weight fits into the signed 16-bit sum of the AVX2 and AVX-512 kernels,
so machines with and without VNNI agree.

Source: ONNX Runtime, "Quantize ONNX models".
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from onnxruntime.quantization import (
    QuantFormat,
    QuantType,
    TensorsData,
    quantize_dynamic,
    quantize_static,
    save_tensors_data,
)
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from onnxruntime.quantization.shape_inference import quant_pre_process

from models.calibration import CALIBRATIONS, Calibration, observe
from models.runtime import open_session
from models.tensors import FloatArray, Tensors
from models.unrounded import unround_inputs

DENSE_OPERATORS = ("MatMul", "Gemm", "Conv")
CONVOLUTION_OPERATORS = (
    *DENSE_OPERATORS,
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "GlobalAveragePool",
    "MaxPool",
    "Relu",
)
DYNAMIC_OPERATORS = ("MatMul", "Attention", "LSTM")

# Shapes can't be inferred behind operators of other domains (scikit-learn's), and so types are not
# known either; a network's numbers are float.
_FLOAT_WHERE_UNTOLD = {"DefaultTensorType": onnx.TensorProto.FLOAT}

_QUANTIZED = {
    "DequantizeLinear",
    "DynamicQuantizeLSTM",
    "GatherBlockQuantized",
    "MatMulInteger",
    "MatMulNBits",
    "QAttention",
}


class NotQuantizable(ValueError):
    """A network can't be quantized in this way; the message says why."""


class StaticInt8:
    """Quantizes one network as often as wanted; the ranges are observed once.

    Attributes:
        nodes: Names of the nodes that are quantized if none is left alone.
    """

    def __init__(
        self,
        model: bytes,
        batches: Sequence[FloatArray | Tensors],
        *,
        operators: Sequence[str] = DENSE_OPERATORS,
        calibration: Calibration = "minmax",
        seven_bit: bool = True,
    ) -> None:
        """Take the network and what it is calibrated with.

        Args:
            model: The fp32 ONNX model.
            batches: Inputs as they occur in practice; they set the ranges of the activations.
                Arrays for a network of one input, else tensors by the names of the inputs.
            operators: Types of nodes to quantize.
            calibration: How a range is found.
            seven_bit: Keep weights to 7 bits, so that no kernel can saturate.
        """
        self._model = model
        self._operators = operators
        self._calibration = calibration
        self._seven_bit = seven_bit
        graph = onnx.load_from_string(model).graph
        self._products = _products(graph)
        self.nodes = tuple(
            each.name
            for each in graph.node
            if each.op_type in operators and each.name not in self._products
        )
        self._batches = [_named(each, graph) for each in batches]
        self._ranges: TensorsData | None = None

    def __call__(self, keep_fp32: Sequence[str] = ()) -> bytes:
        """The quantized model.

        Args:
            keep_fp32: Names of nodes to leave alone, such as the last layer.

        Raises:
            NotQuantizable: There is no such node, or the quantizer can't do it.
        """
        fp32 = loaded(self._model, keep_fp32)
        with TemporaryDirectory() as folder, _explained("static"):
            target, ranges = Path(folder, "int8.onnx"), Path(folder, "ranges.json")
            save_tensors_data(self._observed(), ranges)
            quantize_static(
                fp32,
                target,
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(self._operators),
                nodes_to_exclude=[*keep_fp32, *self._products],
                per_channel=True,
                reduce_range=self._seven_bit,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CALIBRATIONS[self._calibration],
                calibration_cache_path=ranges,
                extra_options=dict(_FLOAT_WHERE_UNTOLD),
            )
            quantized = onnx.load(target)
        if kept := {*keep_fp32, *self._products}:
            unround_inputs(quantized, fp32, kept)
        return finished(quantized)

    def _observed(self) -> TensorsData:
        if self._ranges is None:
            self._ranges = observe(
                self._model,
                self._batches,
                operators=self._operators,
                calibration=self._calibration,
            )
        return self._ranges


def static_int8(
    model: bytes,
    batches: Sequence[FloatArray | Tensors],
    *,
    keep_fp32: Sequence[str] = (),
    operators: Sequence[str] = DENSE_OPERATORS,
    calibration: Calibration = "minmax",
    seven_bit: bool = True,
) -> bytes:
    """Quantize a network once; the arguments are those of `StaticInt8`.

    Raises:
        NotQuantizable: There is no such node, or the quantizer can't do it.
    """
    quantizer = StaticInt8(
        model, batches, operators=operators, calibration=calibration, seven_bit=seven_bit
    )
    return quantizer(keep_fp32)


def dynamic_int8(
    model: bytes,
    *,
    keep_fp32: Sequence[str] = (),
    operators: Sequence[str] = DYNAMIC_OPERATORS,
    seven_bit: bool = True,
) -> bytes:
    """Quantize weights now and activations at each run.

    Args:
        model: The fp32 ONNX model.
        keep_fp32: Names of nodes to leave alone.
        operators: Types of nodes to quantize; a Gemm counts as a MatMul. No convolutions: the
            runtime's dynamic ones are slower than fp32.
        seven_bit: Keep weights to 7 bits, so that no kernel can saturate.

    Raises:
        NotQuantizable: There is no such node, or nothing to quantize.
    """
    fp32 = loaded(model, keep_fp32)
    with TemporaryDirectory() as folder:
        target = Path(folder, "int8.onnx")
        with _explained("dynamic"):
            quantize_dynamic(
                fp32,
                target,
                op_types_to_quantize=list(operators),
                # The quantizer makes a MatMul and an Add of a Gemm, and names the first so.
                nodes_to_exclude=[*keep_fp32, *(f"{name}_MatMul" for name in keep_fp32)],
                per_channel=True,
                reduce_range=seven_bit,
                weight_type=QuantType.QInt8,
                extra_options=dict(_FLOAT_WHERE_UNTOLD),
            )
        quantized = onnx.load(target)
    return finished(quantized)


def prepared(model: bytes) -> bytes:
    """Make a network ready to be quantized, with the same answers.

    Constants and normalisations are folded into the weights, shapes are inferred, and every node
    gets a name by which it can be left alone.

    Args:
        model: The fp32 ONNX model.

    Raises:
        NotQuantizable: ONNX Runtime can't read it.
    """
    with TemporaryDirectory() as folder:
        source, target = Path(folder, "fp32.onnx"), Path(folder, "prepared.onnx")
        source.write_bytes(model)
        with _explained("preparing for"):
            open_session(model, exact_int8=False)  # its complaint, instead of a logged traceback
            # Symbolic shape inference would need sympy; the runtime's and ONNX's own do.
            quant_pre_process(source, target, skip_symbolic_shape=True)
        ready = onnx.load(target)
    for number, node in enumerate(ready.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    _forget_unused_domains(ready)
    return bytes(ready.SerializeToString())


def loaded(model: bytes, keep_fp32: Iterable[str]) -> onnx.ModelProto:
    """Read the network that is to be quantized.

    Args:
        model: The fp32 ONNX model.
        keep_fp32: Names of nodes to leave alone.

    Raises:
        NotQuantizable: There is no such node.
    """
    network = onnx.load_from_string(model)
    unknown = sorted(set(keep_fp32) - {node.name for node in network.graph.node})
    if unknown:
        raise NotQuantizable(f"no node is called {', '.join(unknown)}")
    add_pre_process_metadata(network)  # else the quantizer warns; `prepared` is the caller's choice
    return network


def finished(quantized: onnx.ModelProto) -> bytes:
    """The file of a quantized network, without what only the quantizer needed.

    Raises:
        NotQuantizable: Nothing in it is quantized.
    """
    if not any(node.op_type in _QUANTIZED for node in quantized.graph.node):
        raise NotQuantizable("it has no layers that this method quantizes")
    del quantized.graph.value_info[:]
    del quantized.metadata_props[:]
    _forget_unused_domains(quantized)
    return bytes(quantized.SerializeToString())


@contextmanager
def _explained(method: str) -> Iterator[None]:
    # The quantizer warns of each tensor whose type it takes for granted, once per use of it.
    logging.disable(logging.WARNING)
    try:
        yield
    except Exception as error:  # the quantizer has no error type of its own
        reason = error.__cause__ or error
        raise NotQuantizable(f"{method} quantization failed: {reason}") from error
    finally:
        logging.disable(logging.NOTSET)


def _named(batch: FloatArray | Tensors, graph: onnx.GraphProto) -> Tensors:
    return dict(batch) if isinstance(batch, Mapping) else {graph.input[0].name: batch}


def _products(graph: onnx.GraphProto) -> list[str]:
    """Products of two activations, as in attention: 7 bits of a weight can't keep their sums small.

    Without VNNI they saturate whatever is set, see docs/decisions/0015-kernel-classes.md.
    """
    constants = {each.name for each in graph.initializer}
    matmuls = (node for node in graph.node if node.op_type == "MatMul")
    return [node.name for node in matmuls if constants.isdisjoint(node.input)]


def _forget_unused_domains(model: onnx.ModelProto) -> None:
    used = {node.domain or "" for node in model.graph.node} | {""}
    kept = [each for each in model.opset_import if each.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
