"""Operators that gather, scatter and find elements."""

from __future__ import annotations

import numpy as np

from recurra.common.typing import Array
from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.ops.common import Arrays, Operator, argument, axis_of, integers, room


def within(indices: Array, size: int) -> Array:
    """The indices, made non-negative; raises if one is out of range."""
    found = np.where(indices < 0, indices + size, indices)
    if found.size and not (found.min() >= 0 and found.max() < size):
        raise ValueError(f"got indices from {indices.min()} to {indices.max()} into {size}")
    return found


def _gather(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    data, axis = inputs[0], axis_of(node, inputs[0].ndim, 0)
    shape = data.shape
    room((*shape[:axis], *np.shape(inputs[1]), *shape[axis + 1 :]), limit)
    return [np.take(data, within(np.asarray(inputs[1]), shape[axis]), axis)]


def _gather_elements(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    axis = axis_of(node, inputs[0].ndim, 0)
    return [np.take_along_axis(inputs[0], within(inputs[1], inputs[0].shape[axis]), axis)]


def _places(indices: Array, shape: tuple[int, ...]) -> tuple[Array, ...]:
    return tuple(within(indices[..., at], shape[at]) for at in range(indices.shape[-1]))


def _gather_nd(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    data, indices = inputs[0], np.asarray(inputs[1])
    batch, depth = int(node.attributes.get("batch_dims", 0)), indices.shape[-1]
    room((*indices.shape[:-1], *data.shape[batch + depth :]), limit)
    own = tuple(np.ogrid[tuple(slice(size) for size in indices.shape[:-1])])[:batch]
    found: Array = data[own + _places(indices, data.shape[batch:])]
    return [found]


_WRITES = {"none": None, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _scatter_nd(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    data, (_data, indices, updates) = np.array(inputs[0]), inputs
    function = _WRITES[node.attributes.get("reduction", "none")]
    places = _places(indices, data.shape)
    if function is None:
        data[places] = updates
    else:
        function.at(data, places, updates)
    return [data]


def _scatter_elements(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    data, (_data, indices, updates) = np.array(inputs[0]), inputs
    axis = axis_of(node, data.ndim, 0)
    if node.attributes.get("reduction", "none") != "none":
        raise ValueError("got a reduction, expected none")
    np.put_along_axis(data, within(indices, data.shape[axis]), updates, axis)
    return [data]


def _one_hot(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    depth, values = int(np.asarray(inputs[1]).reshape(-1)[0]), inputs[2]
    if depth < 0:
        raise ValueError(f"got a depth of {depth}")
    indices = np.asarray(inputs[0])
    room((*indices.shape, depth), limit)
    axis = axis_of(node, indices.ndim + 1, -1)
    hot = np.expand_dims(np.where(indices < 0, indices + depth, indices), axis) == np.arange(depth).reshape(
        [-1 if at == axis else 1 for at in range(indices.ndim + 1)]
    )
    return [np.where(hot, values[1], values[0])]


def _top_k(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    count = integers(argument(node, inputs, 1, "k"))[0]
    axis = axis_of(node, inputs[0].ndim, -1)
    if not 0 <= count <= inputs[0].shape[axis]:
        raise ValueError(f"got k={count} of {inputs[0].shape[axis]}")
    x = inputs[0]
    top = x.max(initial=0) if x.dtype.kind == "u" else x.dtype.type(0)  # unsigned numbers cannot be negated
    keys = top - x if node.attributes.get("largest", 1) else x
    order = np.take(np.argsort(keys, axis, kind="stable"), range(count), axis)
    return [np.take_along_axis(inputs[0], order, axis), order.astype(np.int64)]


def _compress(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    return [np.compress(inputs[1], inputs[0], node.attributes.get("axis"))]


OPERATORS: dict[str, Operator] = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "ScatterND": _scatter_nd,
    "ScatterElements": _scatter_elements,
    "Scatter": _scatter_elements,
    "OneHot": _one_hot,
    "TopK": _top_k,
    "Compress": _compress,
    "NonZero": lambda node, inputs, limit: [np.array(np.nonzero(inputs[0]), np.int64)],
}
