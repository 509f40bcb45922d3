"""Reduction operators: sums, means, extremes over axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from recurra.common.typing import Array
from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.ops.common import Arrays, Operator, argument, axis_of, integers


def reduced_axes(node: Node, inputs: Arrays, rank: int) -> tuple[int, ...]:
    """The axes to reduce, non-negative."""
    axes = argument(node, inputs, 1, "axes")
    found = [] if axes is None else integers(axes)
    if not found:
        return () if node.attributes.get("noop_with_empty_axes") else tuple(range(rank))
    if any(not -rank <= one < rank for one in found):
        raise ValueError(f"got axes {found} of a value of {rank} axes")
    return tuple(one % rank for one in found)


def _over(function: Callable[..., Any]) -> Operator:
    def operator(node: Node, inputs: Arrays, limit: int) -> list[Array]:
        x = np.asarray(inputs[0])
        axes = reduced_axes(node, inputs, x.ndim)
        found = function(x, axis=axes, keepdims=bool(node.attributes.get("keepdims", 1)))
        return [np.asarray(found).astype(x.dtype, copy=False)]

    return operator


def _log_sum_exp(x: Array, **how: Any) -> Any:
    top = np.max(x, axis=how["axis"], keepdims=True)
    return np.log(np.sum(np.exp(x - top), **how)) + top.reshape(np.shape(np.sum(x, **how)))


def _place(function: Callable[..., Any]) -> Operator:
    def operator(node: Node, inputs: Arrays, limit: int) -> list[Array]:
        x, axis = inputs[0], axis_of(node, inputs[0].ndim, 0)
        last = bool(node.attributes.get("select_last_index", 0))
        found = function(np.flip(x, axis) if last else x, axis)
        found = x.shape[axis] - 1 - found if last else found
        return [np.asarray(np.expand_dims(found, axis) if node.attributes.get("keepdims", 1) else found, np.int64)]

    return operator


def _cumulative(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    x, axis = inputs[0], int(np.asarray(inputs[1]).reshape(-1)[0]) % max(inputs[0].ndim, 1)
    backwards, exclusive = node.attributes.get("reverse", 0), node.attributes.get("exclusive", 0)
    turned = np.flip(x, axis) if backwards else x
    found = np.cumsum(turned, axis, dtype=x.dtype)
    found = found - turned if exclusive else found
    return [np.flip(found, axis) if backwards else found]


OPERATORS: dict[str, Operator] = {
    "ReduceSum": _over(np.sum),
    "ReduceMean": _over(np.mean),
    "ReduceMax": _over(np.max),
    "ReduceMin": _over(np.min),
    "ReduceProd": _over(np.prod),
    "ReduceL1": _over(lambda x, **how: np.sum(np.abs(x), **how)),
    "ReduceL2": _over(lambda x, **how: np.sqrt(np.sum(x * x, **how))),
    "ReduceSumSquare": _over(lambda x, **how: np.sum(x * x, **how)),
    "ReduceLogSum": _over(lambda x, **how: np.log(np.sum(x, **how))),
    "ReduceLogSumExp": _over(_log_sum_exp),
    "ArgMax": _place(np.argmax),
    "ArgMin": _place(np.argmin),
    "CumSum": _cumulative,
}
