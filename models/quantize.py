"""fp32 → static int8 with QuantizeLinear/DequantizeLinear pairs (QDQ).

Weights are quantized per channel to 7 bits (`reduce_range`): a pair of products of an unsigned
8-bit activation and a 7-bit weight fits into the signed 16-bit sum of the AVX2 and AVX-512 kernels,
so machines with and without VNNI agree.

Needs the extra `train`. Source: ONNX Runtime, "Quantize ONNX models".
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from models.tensors import FloatArray


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # untyped base class
    def __init__(self, input_name: str, batches: Sequence[FloatArray]) -> None:
        self._left = [{input_name: batch} for batch in reversed(batches)]

    def get_next(self) -> dict[str, FloatArray] | None:
        return self._left.pop() if self._left else None


def static_int8(
    model: bytes,
    batches: Sequence[FloatArray],
    *,
    keep_fp32: Sequence[str] = (),
    operators: Sequence[str] = ("MatMul", "Gemm", "Conv"),
) -> bytes:
    """Quantize a network.

    Args:
        model: The fp32 ONNX model, with one input.
        batches: Inputs as they occur in practice; they set the ranges of the activations.
        keep_fp32: Names of nodes to leave alone, such as the last layer.
        operators: Types of nodes to quantize.

    Returns:
        The quantized ONNX model.
    """
    fp32 = onnx.load_from_string(model)
    reader = _Batches(fp32.graph.input[0].name, batches)
    with TemporaryDirectory() as folder:
        target = Path(folder) / "int8.onnx"
        quantize_static(
            fp32,
            target,
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(operators),
            nodes_to_exclude=list(keep_fp32),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return target.read_bytes()
