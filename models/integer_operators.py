"""The integer products of ONNX networks in NumPy, as x86 kernels without VNNI add them.

Each takes the node's inputs in their order (an absent one is an empty array) and gives its output.
Convolutions are summed over (kernel rows, kernel columns, channels), in this order, which decides
what two products are neighbours.

Source: ONNX operators MatMulInteger, QLinearMatMul, QLinearConv, DynamicQuantizeLinear; ONNX
Runtime, "Contrib Operators": QGemm, MatMulIntegerToFloat, DynamicQuantizeMatMul.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from onnx import helper

from models.saturation import Sums, product

Array = npt.NDArray[Any]

WEIGHTS = {
    "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1,
    "DynamicQuantizeMatMul": 1,
    "QGemm": 3,
    "QLinearMatMul": 3,
    "QLinearConv": 3,
}
"""Operator → place of its weights among the inputs."""


@dataclass(frozen=True)
class Operator:
    """One node of a network.

    Attributes:
        node: The node.
        saturates: Whether pairs of its products do.
    """

    node: onnx.NodeProto
    saturates: bool

    def attribute(self, name: str, default: Any) -> Any:  # noqa: ANN401 - of several types
        """An attribute of the node."""
        return attribute(self.node, name, default)

    def sums(self, left: Array, right: Array, left_zero: Array, right_zero: Array) -> Sums:
        """The sums of (left - its zero point) x (right - its zero point).

        Args:
            left: (…, m, k).
            right: (…, k, n) or (k, n).
            left_zero: One number, or empty for 0.
            right_zero: One number, or one per column, or empty for 0.

        Returns:
            (…, m, n).
        """
        zero, column_zeros = _or_zero(left_zero), _or_zero(right_zero)
        total = self._products(left, right)
        total = total - zero * right.astype(np.int64).sum(axis=-2, keepdims=True)
        total -= column_zeros * left.astype(np.int64).sum(axis=-1, keepdims=True)
        return np.asarray(total + left.shape[-1] * zero * column_zeros)

    def _products(self, left: Array, right: Array) -> Sums:
        if right.ndim == 2:  # noqa: PLR2004 - a matrix serves every row of the batch
            rows = product(left.reshape(-1, left.shape[-1]), right, saturates=self.saturates)
            return rows.reshape(*left.shape[:-1], right.shape[-1])
        batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        lefts = np.broadcast_to(left, (*batch, *left.shape[-2:]))
        rights = np.broadcast_to(right, (*batch, *right.shape[-2:]))
        found = np.empty((*batch, left.shape[-2], right.shape[-1]), dtype=np.int64)
        for place in np.ndindex(*batch):
            found[place] = product(lefts[place], rights[place], saturates=self.saturates)
        return found


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:  # noqa: ANN401
    """An attribute of a node, or what it is when absent."""
    found = [helper.get_attribute_value(each) for each in node.attribute if each.name == name]
    return found[0] if found else default


def is_depthwise(node: onnx.NodeProto, weights: Array) -> bool:
    """Whether each group of a convolution has one channel: such kernels never pair products."""
    groups = attribute(node, "group", 1)
    return node.op_type == "QLinearConv" and weights.shape[:2] == (groups, 1)


def matrix_of(node: onnx.NodeProto, weights: Array) -> Array:
    """A node's weights as a matrix (k, n), `k` the summed axis in the order of the kernels."""
    if node.op_type == "QLinearConv":
        return np.moveaxis(weights, 1, -1).reshape(len(weights), -1).T
    if node.op_type == "QGemm" and attribute(node, "transB", 0):
        return weights.T
    return np.moveaxis(weights, -2, 0).reshape(weights.shape[-2], -1)


def _matmul_integer(operator: Operator, inputs: Sequence[Array]) -> Array:
    left, right, left_zero, right_zero = _padded(inputs, 4)
    return operator.sums(left, right, left_zero, right_zero).astype(np.int32)


def _matmul_integer_to_float(operator: Operator, inputs: Sequence[Array]) -> Array:
    left, right, left_scale, right_scale, left_zero, right_zero, bias = _padded(inputs, 7)
    sums = operator.sums(left, right, left_zero, right_zero).astype(np.float32)
    return np.asarray(sums * (left_scale * right_scale) + _or_zero_float(bias))


def _dynamic_quantize_matmul(operator: Operator, inputs: Sequence[Array]) -> Array:
    left, right, right_scale, right_zero, bias = _padded(inputs, 5)
    low, high = min(left.min(), np.float32(0)), max(left.max(), np.float32(0))
    scale = np.float32(1) if low == high else (high - low) / np.float32(255)
    zero = np.clip(np.rint(-low / scale), 0, 255).astype(np.uint8)
    levels = np.clip(np.rint(left / scale) + zero, 0, 255).astype(np.uint8)
    asked = [levels, right, scale, right_scale, zero, right_zero, bias]
    return _matmul_integer_to_float(operator, asked)


def _qlinear_matmul(operator: Operator, inputs: Sequence[Array]) -> Array:
    left, left_scale, left_zero, right, right_scale, right_zero, scale, zero = inputs
    sums = operator.sums(left, right, left_zero, right_zero)
    return _levels(sums, left_scale * right_scale / scale, zero)


def _qgemm(operator: Operator, inputs: Sequence[Array]) -> Array:
    values = _padded(inputs, 9)
    left, left_scale, left_zero, right, right_scale, right_zero, bias, scale, zero = values
    left = left.T if operator.attribute("transA", 0) else left
    right = right.T if operator.attribute("transB", 0) else right
    sums = operator.sums(left, right, left_zero, right_zero) + _or_zero(bias)
    factor = np.float32(operator.attribute("alpha", 1.0)) * left_scale * right_scale
    if not scale.size:
        return np.asarray(sums.astype(np.float32) * factor)
    return _levels(sums, factor / scale, zero)


def _qlinear_conv(operator: Operator, inputs: Sequence[Array]) -> Array:
    image, image_scale, image_zero, weights, weight_scale, weight_zero, scale, zero, bias = _padded(
        inputs, 9
    )
    groups = operator.attribute("group", 1)
    patches = _patches(operator, image, weights.shape[2:], image_zero)
    made = [
        operator.sums(part, matrix_of(operator.node, each), image_zero, weight_zero.ravel()[:1])
        for part, each in zip(
            np.split(patches, groups, axis=-1), np.split(weights, groups), strict=True
        )
    ]
    sums = np.concatenate(made, axis=-1) + _or_zero(bias)
    return np.moveaxis(_levels(sums, image_scale * weight_scale / scale, zero), -1, 1)


def _patches(operator: Operator, image: Array, kernel: Sequence[int], zero: Array) -> Array:
    """What each place of a convolution sees, (n, …, group after group of kernel x channels)."""
    rank = len(kernel)
    dilations = operator.attribute("dilations", [1] * rank)
    strides = operator.attribute("strides", [1] * rank)
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    around = [(0, 0), (0, 0), *_pads(operator, image.shape[2:], reach, strides)]
    padded = np.pad(image, around, constant_values=zero.item())
    windows = sliding_window_view(padded, reach, axis=tuple(range(2, 2 + rank)))
    taken = (slice(None),) * 2 + tuple(slice(None, None, each) for each in [*strides, *dilations])
    seen = windows[taken]  # (n, channels, places …, kernel …)
    groups = operator.attribute("group", 1)
    channels = image.shape[1] // groups
    parted = seen.reshape(len(image), groups, channels, *seen.shape[2:])
    # (n, places …, group, kernel …, channels): neighbours are channels of one place of the kernel.
    order = (0, *range(3, 3 + rank), 1, *range(3 + rank, 3 + 2 * rank), 2)
    shape = (len(image), *seen.shape[2 : 2 + rank], -1)
    ordered: Array = parted.transpose(order).reshape(shape)
    return ordered


def _pads(
    operator: Operator, size: Sequence[int], reach: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """How much is put before and after each axis of an image."""
    kind = operator.attribute("auto_pad", b"NOTSET")
    if not kind.startswith(b"SAME"):
        pads = operator.attribute("pads", [0] * (2 * len(size)))
        return list(zip(pads[: len(size)], pads[len(size) :], strict=True))
    found = []
    for length, needed, stride in zip(size, reach, strides, strict=True):
        total = max((-(-length // stride) - 1) * stride + needed - length, 0)
        less, more = total // 2, total - total // 2
        found.append((less, more) if kind == b"SAME_UPPER" else (more, less))
    return found


def _levels(sums: Sums, scale: Array, zero: Array) -> Array:
    """Sums → levels of the output's type, rounded half to even as the kernels do."""
    limits = np.iinfo(zero.dtype)
    scaled = np.rint(sums.astype(np.float32) * scale.astype(np.float32)) + zero.astype(np.float32)
    levels: Array = np.clip(scaled, limits.min, limits.max).astype(zero.dtype)
    return levels


def _padded(inputs: Sequence[Array], count: int) -> list[Array]:
    return [*inputs, *[np.empty(0)] * (count - len(inputs))]


def _or_zero(value: Array) -> Sums:
    return value.astype(np.int64) if value.size else np.zeros((), dtype=np.int64)


def _or_zero_float(value: Array) -> Array:
    return value if value.size else np.zeros((), dtype=np.float32)


OPERATORS: dict[str, Callable[[Operator, Sequence[Array]], Array]] = {
    "MatMulInteger": _matmul_integer,
    "MatMulIntegerToFloat": _matmul_integer_to_float,
    "DynamicQuantizeMatMul": _dynamic_quantize_matmul,
    "QGemm": _qgemm,
    "QLinearMatMul": _qlinear_matmul,
    "QLinearConv": _qlinear_conv,
}
