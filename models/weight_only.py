"""fp32 → int8 or int4 weights; the activations stay as they are.

Large matrices (MatMul, Gemm) and tables (Gather) are cut into blocks along the axis that is summed
or looked up; each block has a scale and a zero point of its own. The file shrinks to about 27 % (8
bits) or 16 % (4 bits) and no calibration is needed. Products of 8-bit blocks are taken in int8
(`accuracy_level` 4): dequantizing first was slower than fp32 here, see docs/quantize.md.

Source: ONNX Runtime, "Contrib Operators": MatMulNBits and GatherBlockQuantized.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization.onnx_model import ONNXModel

from models.quantize import finished, loaded
from models.tensors import FloatArray

Bits = Literal[4, 8]
ByteArray = npt.NDArray[np.uint8]

_DOMAIN = "com.microsoft"
_BYTE = 8
_LEAST_BLOCK = 16
_BLOCKS: dict[Bits, int] = {4: 32, 8: 128}
_INT8_PRODUCTS = 4
_MATRIX = 2


@dataclass(frozen=True)
class Blocks:
    """How weights are cut into blocks and stored.

    Attributes:
        bits: Of a weight as it is stored.
        size: Of a block of a matrix; the usual one for these bits when absent. Activations are
            rounded in blocks of the same size, so smaller ones are more faithful, and larger files.
        seven_bit: Use levels 0 to 127 of a byte only. Two products with a signed 8-bit activation
            then fit into 16 bits (2 x 127 x 127 = 32,258), whatever the kernel.
    """

    bits: Bits = 8
    size: int | None = None
    seven_bit: bool = False

    @property
    def most(self) -> int:
        """The highest level of a weight."""
        return (1 << (7 if self.seven_bit and self.bits == _BYTE else self.bits)) - 1

    def size_for(self, length: int) -> int:
        """The largest power of two that is wanted and not longer than the axis needs."""
        needed = 1 << max(0, length - 1).bit_length()
        return max(_LEAST_BLOCK, min(self.size or _BLOCKS[self.bits], needed))


def weight_only(
    model: bytes,
    *,
    bits: Bits = 8,
    keep_fp32: Sequence[str] = (),
    least_weights: int = 4096,
    block: int | None = None,
    seven_bit: bool = False,
) -> bytes:
    """Quantize large matrices and tables.

    Args:
        model: The fp32 ONNX model.
        bits: Of a weight.
        keep_fp32: Names of nodes to leave alone.
        least_weights: Smaller matrices are not worth it.
        block: Weights of one block, of matrices and tables; see `Blocks`.
        seven_bit: Keep to levels that no kernel can saturate with; see `Blocks`.

    Raises:
        NotQuantizable: There is nothing to quantize.
    """
    blocks = Blocks(bits, block, seven_bit)
    return _rewritten(model, {"MatMul", "Gather"}, blocks, keep_fp32, least_weights)


def compact_tables(model: bytes, *, bits: Bits = 8, least_weights: int = 4096) -> bytes:
    """Quantize tables only, such as the embeddings of tokens.

    Args:
        model: An ONNX model, of which other parts may be quantized already.
        bits: Of a weight.
        least_weights: Smaller tables are not worth it.

    Raises:
        NotQuantizable: There is no such table, and nothing else is quantized.
    """
    return _rewritten(model, {"Gather"}, Blocks(bits), (), least_weights)


def blocks_of(rows: FloatArray, *, size: int, most: int) -> tuple[ByteArray, FloatArray, ByteArray]:
    """Quantize each row in blocks.

    Args:
        rows: float32 of shape (n, k).
        size: Of a block; the last one is filled up with 0.
        most: The highest level.

    Returns:
        Levels uint8 (n, blocks, size); scales float32 (n, blocks); zero points uint8 (n, blocks). A
        weight is (level - zero point) x scale, at most half a scale away from what it was.
    """
    count = -(-rows.shape[1] // size)
    filled = np.pad(rows, ((0, 0), (0, count * size - rows.shape[1])))
    blocks = filled.reshape(len(rows), count, size)
    low, high = np.minimum(blocks.min(axis=2), 0), np.maximum(blocks.max(axis=2), 0)
    scales = ((high - low) / most).astype(np.float32)
    scales[scales == 0] = 1
    zeros = np.rint(-low / scales)
    levels = np.rint(blocks / scales[..., None]) + zeros[..., None]
    return levels.clip(0, most).astype(np.uint8), scales, zeros.astype(np.uint8)


def packed(levels: ByteArray, *, bits: Bits) -> ByteArray:
    """Put two 4-bit levels of the last axis into a byte, the first into the low half."""
    if bits == _BYTE:
        return levels
    if levels.shape[-1] % 2:
        levels = np.pad(levels, [(0, 0)] * (levels.ndim - 1) + [(0, 1)])
    low, high = levels[..., 0::2], levels[..., 1::2]
    return (low + 16 * high).astype(np.uint8)


def _rewritten(
    model: bytes, operators: set[str], blocks: Blocks, keep_fp32: Sequence[str], least_weights: int
) -> bytes:
    network = ONNXModel(loaded(model, keep_fp32))
    if "MatMul" in operators:
        network.replace_gemm_with_matmul()
    kept = {*keep_fp32, *(f"{name}_MatMul" for name in keep_fp32)}
    for node in list(network.nodes()):
        if node.op_type in operators and node.name not in kept:
            values = _matrix(network, node)
            if values is not None and values.size >= least_weights:
                _REWRITE[node.op_type](network, node, values, blocks)
    network.clean_initializers()
    network.set_opset_import(_DOMAIN, 1)
    network.topological_sort()
    return finished(network.model)


def _matrix(network: ONNXModel, node: onnx.NodeProto) -> FloatArray | None:
    weights = network.get_initializer(node.input[_WEIGHTS[node.op_type]])
    is_matrix = weights is not None and len(weights.dims) == _MATRIX
    if not is_matrix or weights.data_type != onnx.TensorProto.FLOAT:
        return None
    return np.asarray(numpy_helper.to_array(weights))


def _rewrite_matmul(
    network: ONNXModel, node: onnx.NodeProto, values: FloatArray, blocks: Blocks
) -> None:
    bits, size = blocks.bits, blocks.size_for(values.shape[0])
    levels, scales, zeros = blocks_of(values.T, size=size, most=blocks.most)
    names = _add_blocks(
        network, node, (packed(levels, bits=bits), scales, packed(zeros, bits=bits))
    )
    _replace(
        network,
        node,
        helper.make_node(
            "MatMulNBits",
            [node.input[0], *names],
            node.output,
            name=node.name,
            domain=_DOMAIN,
            K=values.shape[0],
            N=values.shape[1],
            bits=bits,
            block_size=size,
            accuracy_level=_INT8_PRODUCTS,
        ),
    )


def _rewrite_gather(
    network: ONNXModel, node: onnx.NodeProto, values: FloatArray, blocks: Blocks
) -> None:
    axis = next((each.i for each in node.attribute if each.name == "axis"), 0)
    bits, size = blocks.bits, blocks.size_for(values.shape[1])
    if axis != 0 or values.shape[1] % size:
        return
    levels, scales, zeros = blocks_of(values, size=size, most=blocks.most)
    table, scales_name, zeros_name = _add_blocks(
        network,
        node,
        (packed(levels.reshape(values.shape), bits=bits), scales, packed(zeros, bits=bits)),
    )
    _replace(
        network,
        node,
        helper.make_node(
            "GatherBlockQuantized",
            [table, node.input[1], scales_name, zeros_name],
            node.output,
            name=node.name,
            domain=_DOMAIN,
            bits=bits,
            block_size=size,
            gather_axis=0,
            quantize_axis=1,
        ),
    )


_WEIGHTS = {"MatMul": 1, "Gather": 0}
_REWRITE: dict[str, Callable[[ONNXModel, onnx.NodeProto, FloatArray, Blocks], None]] = {
    "MatMul": _rewrite_matmul,
    "Gather": _rewrite_gather,
}


def _add_blocks(
    network: ONNXModel, node: onnx.NodeProto, arrays: tuple[ByteArray, FloatArray, ByteArray]
) -> list[str]:
    names = [f"{node.output[0]}_{part}" for part in ("levels", "scales", "zeros")]
    for name, array in zip(names, arrays, strict=True):
        network.add_initializer(numpy_helper.from_array(np.ascontiguousarray(array), name))
    return names


def _replace(network: ONNXModel, old: onnx.NodeProto, new: onnx.NodeProto) -> None:
    network.remove_node(old)
    network.add_node(new)
