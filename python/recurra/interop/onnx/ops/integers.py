"""Operators of quantised graphs, exact in integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from recurra.common.typing import Array
from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.ops import windows
from recurra.interop.onnx.ops.common import Arrays, Operator, axis_of, given


def _along(array: Any, axis: int, rank: int) -> Any:
    """`array`, a number or one for each index of `axis`, in a shape that broadcasts."""
    if array is None or np.size(array) == 1:
        return 0 if array is None else np.reshape(array, ())
    return np.reshape(array, [-1 if at == axis else 1 for at in range(rank)])


def _quantised(x: Array, scale: Any, zero: Any, kind: Any) -> Array:
    info = np.iinfo(kind)
    return np.asarray(np.clip(np.rint(x / scale) + zero, info.min, info.max).astype(kind))


def _quantize(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    x, zero = inputs[0], given(inputs, 2)
    axis = axis_of(node, x.ndim, 1) if np.size(inputs[1]) > 1 else 0
    kind = np.uint8 if zero is None else zero.dtype
    zeros = np.asarray(_along(zero, axis, x.ndim)).astype(np.float64)
    return [_quantised(x, _along(inputs[1], axis, x.ndim), zeros, kind)]


def _dequantize(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    x, zero = np.asarray(inputs[0]), given(inputs, 2)
    axis = axis_of(node, x.ndim, 1) if np.size(inputs[1]) > 1 else 0
    zeros = np.asarray(_along(zero, axis, x.ndim)).astype(np.int64)
    return [((x.astype(np.int64) - zeros) * _along(inputs[1], axis, x.ndim)).astype(np.asarray(inputs[1]).dtype)]


def rounded(x: Array) -> tuple[Array, Any, Any]:
    """x in 8 bits, with the scale and the zero point that its smallest and largest number make."""
    low, high = min(float(x.min(initial=0)), 0.0), max(float(x.max(initial=0)), 0.0)
    scale = np.float32((high - low) / 255) or np.float32(1)
    zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
    return _quantised(x, scale, float(zero), np.uint8), scale, zero


def _dynamic(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    return [np.asarray(one) for one in rounded(inputs[0])]


def _matmul(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    a, b = inputs[0].astype(np.float64), inputs[1].astype(np.float64)  # float64 is exact: sums are below 2^53
    a_zero, b_zero = given(inputs, 2), given(inputs, 3)
    a = a - np.asarray(_along(a_zero, a.ndim - 2, a.ndim)).astype(np.float64)
    b = b - np.asarray(_along(b_zero, b.ndim - 1, b.ndim)).astype(np.float64)
    return [np.matmul(a, b).astype(np.int32)]


def _conv(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    x_zero, w_zero = given(inputs, 2), given(inputs, 3)
    x = inputs[0].astype(np.float64) - (0 if x_zero is None else float(np.reshape(x_zero, ())))
    w = inputs[1].astype(np.float64) - np.asarray(_along(w_zero, 0, inputs[1].ndim)).astype(np.float64)
    return [windows.OPERATORS["Conv"](node, [x, w], limit)[0].astype(np.int32)]


OPERATORS: dict[str, Operator] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
    "MatMulInteger": _matmul,
    "ConvInteger": _conv,
}
