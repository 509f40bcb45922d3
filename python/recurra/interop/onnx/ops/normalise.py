"""Softmax and normalisation operators."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from recurra.common.typing import Array
from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.ops.common import Arrays, Operator, axis_of, given


def softmax_axes(node: Node, rank: int) -> tuple[int, ...]:
    """The axes that softmax normalises over: `axis` since operator set 13, before that all from `axis` on."""
    axis = axis_of(node, rank, -1 if node.opset >= 13 else 1)
    return (axis,) if node.opset >= 13 else tuple(range(axis, rank))


def _softmax(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    x = inputs[0]
    axes = softmax_axes(node, x.ndim)
    e = np.exp(x - np.max(x, axes, keepdims=True))
    return [e / np.sum(e, axes, keepdims=True)]


def _log_softmax(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    x = inputs[0]
    axes = softmax_axes(node, x.ndim)
    shifted = x - np.max(x, axes, keepdims=True)
    return [shifted - np.log(np.sum(np.exp(shifted), axes, keepdims=True))]


def _per_channel(array: Any, rank: int) -> Any:
    return np.reshape(array, (-1, *[1] * (rank - 2)))


def _batch(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    if node.attributes.get("training_mode", 0) or len([one for one in node.outputs if one]) > 1:
        raise ValueError("got training_mode, expected inference")
    x = inputs[0]
    scale, bias, mean, variance = (_per_channel(one, x.ndim) for one in inputs[1:5])
    return [(x - mean) / np.sqrt(variance + x.dtype.type(node.attributes.get("epsilon", 1e-5))) * scale + bias]


def _centred(x: Array, axes: tuple[int, ...], epsilon: float) -> tuple[Array, Array, Array]:
    """x normalised over `axes`, with its mean and deviation."""
    mean = np.mean(x, axes, keepdims=True)
    variance = np.mean((x - mean) ** 2, axes, keepdims=True)
    deviation = np.sqrt(variance + x.dtype.type(epsilon))
    return (x - mean) / deviation, mean, deviation


def _layer(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    x = inputs[0]
    axis = axis_of(node, x.ndim, -1)
    y, mean, deviation = _centred(x, tuple(range(axis, x.ndim)), node.attributes.get("epsilon", 1e-5))
    y, bias = y * inputs[1], given(inputs, 2)
    return [y if bias is None else y + bias, mean, 1 / deviation][: len(node.outputs)]


def _instance(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    x, scale, bias = inputs
    y = _centred(x, tuple(range(2, x.ndim)), node.attributes.get("epsilon", 1e-5))[0]
    return [y * _per_channel(scale, x.ndim) + _per_channel(bias, x.ndim)]


def _group(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    x, scale, bias = inputs
    groups = int(node.attributes["num_groups"])
    parts = np.reshape(x, (x.shape[0], groups, -1))
    y = _centred(parts, (2,), node.attributes.get("epsilon", 1e-5))[0].reshape(x.shape)
    each = x.shape[1] // scale.size  # before operator set 21, a value for each group
    return [y * _per_channel(np.repeat(scale, each), x.ndim) + _per_channel(np.repeat(bias, each), x.ndim)]


def _lp(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    x, axis, p = inputs[0], axis_of(node, inputs[0].ndim, -1), int(node.attributes.get("p", 2))
    size = np.sum(np.abs(x), axis, keepdims=True) if p == 1 else np.sqrt(np.sum(x * x, axis, keepdims=True))
    return [x / np.where(size == 0, 1, size)]


def _hardmax(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    x = inputs[0]
    axes = softmax_axes(node, x.ndim)
    moved = np.moveaxis(x, axes, range(-len(axes), 0))
    flat = np.reshape(moved, (-1, math.prod(x.shape[one] for one in axes)))
    hot = (np.arange(flat.shape[1]) == flat.argmax(1)[:, None]).astype(x.dtype)
    return [np.moveaxis(hot.reshape(moved.shape), range(-len(axes), 0), axes)]


OPERATORS: dict[str, Operator] = {
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    "Hardmax": _hardmax,
    "BatchNormalization": _batch,
    "LayerNormalization": _layer,
    "InstanceNormalization": _instance,
    "GroupNormalization": _group,
    "LpNormalization": _lp,
}
