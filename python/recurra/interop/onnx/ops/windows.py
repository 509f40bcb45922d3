"""Convolution and pooling operators over any number of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from recurra.common.typing import Array
from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.ops.common import Arrays, Operator, given, room

#: An index of all rows and channels.
_ROWS = (slice(None), slice(None))


def window_of(node: Node, shape: Sequence[int], kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Strides, dilations and pads of the axes: first the pads before each axis, then those after."""
    axes = len(kernel)
    strides = list(node.attributes.get("strides", [1] * axes))
    dilations = list(node.attributes.get("dilations", [1] * axes))
    mode = node.attributes.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        wide = [
            max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
            for size, stride, k, dilation in zip(shape, strides, kernel, dilations, strict=True)
        ]
        small, large = [one // 2 for one in wide], [one - one // 2 for one in wide]
        pads = small + large if mode == "SAME_UPPER" else large + small
    else:
        pads = [0] * 2 * axes if mode == "VALID" else list(node.attributes.get("pads", [0] * 2 * axes))
    if len(strides) != axes or len(dilations) != axes or len(pads) != 2 * axes or min(strides + dilations + [1]) < 1:
        raise ValueError(f"got strides {strides}, dilations {dilations}, pads {pads} for {axes} axes")
    return strides, dilations, pads


def _windows(
    x: Array, kernel: Sequence[int], strides: list[int], dilations: list[int], pads: list[int], fill: Any, limit: int
) -> Array:
    """The windows, (N, C, output sizes, kernel sizes); without padding, a view."""
    axes = len(kernel)
    if min(pads) < 0:
        raise ValueError(f"got pads {pads}, expected none below 0")
    widths = [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:], strict=True)]
    room([size + sum(width) for size, width in zip(x.shape, widths, strict=True)], limit)
    if any(pads):
        x = np.pad(x, widths, constant_values=fill)
    spans = [(k - 1) * dilation + 1 for k, dilation in zip(kernel, dilations, strict=True)]
    if any(span > size for span, size in zip(spans, x.shape[2:], strict=True)) or min(kernel) < 1:
        raise ValueError(f"got a kernel of {tuple(kernel)} over {x.shape[2:]}")
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axis=tuple(range(2, 2 + axes)))
    steps = tuple(slice(None, None, one) for one in strides)
    inner = tuple(slice(None, None, one) for one in dilations)
    found: Array = view[_ROWS + steps + inner]
    return found


def _conv(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    x, w, bias, groups = inputs[0], inputs[1], given(inputs, 2), int(node.attributes.get("group", 1))
    kernel, axes = w.shape[2:], w.ndim - 2
    if groups < 1 or x.ndim != w.ndim or x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
        raise ValueError(f"got {x.shape[1]} channels for weights of shape {w.shape} in {groups} groups")
    seen = _windows(x, kernel, *window_of(node, x.shape[2:], kernel), 0, limit)
    steps = seen.shape[2 : 2 + axes]
    room((x.shape[0], max(w.shape[0], w[0].size * groups), *steps), limit)
    order = (0, *range(2, 2 + axes), 1, *range(2 + axes, 2 + 2 * axes))
    made = []
    each, outs = w.shape[1], w.shape[0] // groups
    for group in range(groups):
        part = np.transpose(seen[:, group * each : (group + 1) * each], order).reshape(-1, math.prod(w.shape[1:]))
        y = part @ w[group * outs : (group + 1) * outs].reshape(outs, -1).T
        made.append(y.reshape(x.shape[0], *steps, outs))
    y = np.concatenate(made, -1)
    y = y if bias is None else y + bias
    return [np.moveaxis(y, -1, 1)]


def _conv_transpose(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    x, w, bias, groups = inputs[0], inputs[1], given(inputs, 2), int(node.attributes.get("group", 1))
    kernel, axes = w.shape[2:], w.ndim - 2
    if node.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or "output_shape" in node.attributes:
        raise ValueError("got auto_pad or output_shape, expected pads")
    strides, dilations, pads = window_of(node, x.shape[2:], kernel)
    more = list(node.attributes.get("output_padding", [0] * axes))
    full = [
        (size - 1) * stride + (k - 1) * dilation + 1 + extra
        for size, stride, k, dilation, extra in zip(x.shape[2:], strides, kernel, dilations, more, strict=True)
    ]
    outs, each = w.shape[1], x.shape[1] // groups
    room((x.shape[0], outs * groups, *full), limit)
    y = np.zeros((x.shape[0], outs * groups, *full), x.dtype)
    for group in range(groups):
        part, weight = x[:, group * each : (group + 1) * each], w[group * each : (group + 1) * each]
        for place in np.ndindex(*kernel):
            made = np.einsum("nc...,cd->nd...", part, weight[_ROWS + place])
            where = tuple(
                slice(at * dilation, at * dilation + (size - 1) * stride + 1, stride)
                for at, dilation, size, stride in zip(place, dilations, x.shape[2:], strides, strict=True)
            )
            mine = y[:, group * outs : (group + 1) * outs]
            mine[_ROWS + where] += made
    cut = tuple(slice(low, size - high) for low, high, size in zip(pads[:axes], pads[axes:], full, strict=True))
    y = y[_ROWS + cut]
    return [y if bias is None else y + np.reshape(bias, (-1, *[1] * axes))]


def _pool(node: Node, inputs: Arrays, limit: int, fill: Any) -> tuple[Array, Array]:
    x, kernel = inputs[0], list(node.attributes["kernel_shape"])
    if len(kernel) != x.ndim - 2:
        raise ValueError(f"got a kernel of {kernel} over {x.shape[2:]}")
    strides, dilations, pads = window_of(node, x.shape[2:], kernel)
    if node.attributes.get("ceil_mode", 0):
        for at, (size, k) in enumerate(zip(x.shape[2:], kernel, strict=True)):
            span = (k - 1) * dilations[at] + 1
            rest = (size + pads[at] + pads[at + len(kernel)] - span) % strides[at]
            last = (size + pads[at] + pads[at + len(kernel)] - span) // strides[at] + 1
            if rest and last * strides[at] < size + pads[at]:
                pads[at + len(kernel)] += strides[at] - rest
    there = np.ones((1, 1, *x.shape[2:]), x.dtype)
    args = (kernel, strides, dilations, pads)
    return _windows(x, *args, fill, limit), _windows(there, *args, 0, limit)


def _last(view: Array, axes: int) -> tuple[int, ...]:
    return tuple(range(view.ndim - axes, view.ndim))


def _max_pool(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    if len([one for one in node.outputs if one]) > 1:
        raise ValueError("got the output Indices, expected none")
    lowest = -np.inf if inputs[0].dtype.kind == "f" else np.iinfo(inputs[0].dtype).min
    seen, _there = _pool(node, inputs, limit, lowest)
    return [np.max(seen, _last(seen, inputs[0].ndim - 2))]


def _average_pool(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    seen, there = _pool(node, inputs, limit, 0)
    axes = _last(seen, inputs[0].ndim - 2)
    if node.attributes.get("count_include_pad", 0):
        if node.attributes.get("ceil_mode", 0):
            raise ValueError("got ceil_mode with count_include_pad, expected one of them")
        return [np.mean(seen, axes)]
    return [np.sum(seen, axes) / np.sum(there, axes)]


OPERATORS: dict[str, Operator] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda node, inputs, limit: [
        np.mean(inputs[0], tuple(range(2, inputs[0].ndim)), keepdims=True).astype(inputs[0].dtype)
    ],
    "GlobalMaxPool": lambda node, inputs, limit: [np.max(inputs[0], tuple(range(2, inputs[0].ndim)), keepdims=True)],
}
