"""Operators on shapes and on the order of elements."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import accumulate

import numpy as np

from recurra.common.typing import Array
from recurra.interop.onnx import tensors
from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.ops.common import Arrays, Operator, argument, axis_of, given, integers, room

#: The dtypes of Constant's attributes.
_CONSTANTS = {"value_float": np.float32, "value_int": np.int64, "value_floats": np.float32, "value_ints": np.int64}


def _constant(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    if "value" in node.attributes:
        return [node.attributes["value"]]
    for name, kind in _CONSTANTS.items():
        if name in node.attributes:
            return [np.array(node.attributes[name], kind)]
    raise ValueError(f"got the attributes {', '.join(node.attributes)}, expected numbers")


def _constant_of_shape(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    shape = integers(inputs[0])
    room(shape, limit)
    value = node.attributes.get("value", np.zeros(1, np.float32))
    return [np.full(shape, value.reshape(-1)[0], value.dtype)]


def _shape(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    begin, end = node.attributes.get("start", 0), node.attributes.get("end")
    return [np.array(np.shape(inputs[0])[slice(begin, end)], np.int64)]


def reshaped(node: Node, shape: tuple[int, ...], wanted: list[int]) -> tuple[int, ...]:
    """The output shape of Reshape."""
    keeps_zero = bool(node.attributes.get("allowzero", 0))
    copied = [at for at, one in enumerate(wanted[: len(shape)]) if one == 0 and not keeps_zero]
    found = [shape[at] if at in copied else one for at, one in enumerate(wanted)]
    if found.count(-1) == 1:  # axes that are copied do not count: with 0 rows the others keep their sizes
        rest = math.prod(one for at, one in enumerate(found) if one != -1 and at not in copied)
        whole = math.prod(one for at, one in enumerate(shape) if at not in copied)
        found[found.index(-1)] = whole // rest if rest else 0
    if math.prod(found) != math.prod(shape) or any(one < 0 for one in found):
        raise ValueError(f"got the shape {tuple(wanted)} for a value of shape {tuple(shape)}")
    return tuple(found)


def _reshape(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    return [np.reshape(inputs[0], reshaped(node, np.shape(inputs[0]), integers(argument(node, inputs, 1, "shape"))))]


def flattened(node: Node, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The output shape of Flatten."""
    axis = int(node.attributes.get("axis", 1))
    axis = axis + len(shape) if axis < 0 else axis
    return math.prod(shape[:axis]), math.prod(shape[axis:])


def squeezed(node: Node, inputs: Arrays, shape: tuple[int, ...]) -> list[int]:
    """The axes that Squeeze removes, non-negative."""
    axes = argument(node, inputs, 1, "axes")
    if axes is None:
        return [at for at, size in enumerate(shape) if size == 1]
    return [one % max(len(shape), 1) for one in integers(axes)]


def unsqueezed(node: Node, inputs: Arrays, rank: int) -> list[int]:
    """The axes that Unsqueeze inserts, non-negative."""
    axes = integers(argument(node, inputs, 1, "axes"))
    whole = rank + len(axes)
    if any(not -whole <= one < whole for one in axes) or whole > 32:
        raise ValueError(f"got axes {axes} of a value of {rank} axes")
    return sorted(one % whole for one in axes)


def _squeeze(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    x = inputs[0]
    return [np.squeeze(x, tuple(squeezed(node, inputs, x.shape)))]


def _unsqueeze(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    return [np.expand_dims(inputs[0], tuple(unsqueezed(node, inputs, np.ndim(inputs[0]))))]


def order_of(node: Node, rank: int) -> list[int]:
    """The permutation of a Transpose."""
    order = list(node.attributes.get("perm", range(rank)[::-1]))
    if sorted(order) != list(range(rank)):
        raise ValueError(f"got perm {order} of a value of {rank} axes")
    return order


def _concat(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    room((sum(one.size for one in inputs),), limit)
    return [np.concatenate(inputs, axis_of(node, inputs[0].ndim, 0))]


def parts_of(node: Node, inputs: Arrays, axis: int, size: int) -> list[int]:
    """The sizes of Split's outputs, which sum to `size`."""
    sizes = argument(node, inputs, 1, "split")
    if sizes is not None:
        found = integers(sizes)
    else:
        count = int(node.attributes.get("num_outputs", len(node.outputs)))
        each = -(-size // max(count, 1))
        found = [min(each, size - each * index) for index in range(count)]
    if sum(found) != size or any(one < 0 for one in found) or len(found) != len(node.outputs):
        raise ValueError(f"got parts of {found} of {size}, {len(node.outputs)} of them expected")
    return found


def _split(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    axis = axis_of(node, inputs[0].ndim, 0)
    parts = parts_of(node, inputs, axis, inputs[0].shape[axis])
    before = (slice(None),) * axis
    places = [(*before, slice(end - part, end)) for part, end in zip(parts, accumulate(parts), strict=True)]
    return [inputs[0][place] for place in places]


def slices(node: Node, inputs: Arrays, shape: tuple[int, ...]) -> list[slice]:
    """The slice of each axis that Slice takes."""
    begins = integers(argument(node, inputs, 1, "starts"))
    ends = integers(argument(node, inputs, 2, "ends"))
    axes = argument(node, inputs, 3, "axes")
    steps = given(inputs, 4)
    axes = list(range(len(begins))) if axes is None else integers(axes)
    steps = [1] * len(begins) if steps is None else integers(steps)
    found = [slice(None)] * len(shape)
    for begin, end, axis, step in zip(begins, ends, axes, steps, strict=True):
        size = shape[axis]
        if not step:
            raise ValueError("got a step of 0")
        if step > 0:
            found[axis] = slice(*slice(begin, end, step).indices(size))
            continue
        first = min(begin + size if begin < 0 else begin, size - 1)
        last = max(end + size if end < 0 else end, -1)
        found[axis] = slice(first, None if last < 0 else last, step) if first >= 0 else slice(0, 0)
    return found


def _slice(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    return [inputs[0][tuple(slices(node, inputs, inputs[0].shape))]]


def _expand(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    shape = np.broadcast_shapes(np.shape(inputs[0]), tuple(integers(inputs[1])))
    room(shape, limit)
    return [np.array(np.broadcast_to(inputs[0], shape))]


def _tile(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    times = integers(inputs[1])
    if len(times) != np.ndim(inputs[0]) or min(times, default=0) < 0:
        raise ValueError(f"got repeats {times} of a value of {np.ndim(inputs[0])} axes")
    room([size * count for size, count in zip(inputs[0].shape, times, strict=True)], limit)
    return [np.tile(inputs[0], times)]


def _pad(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    x, widths = inputs[0], integers(argument(node, inputs, 1, "pads"))
    value = argument(node, inputs, 2, "value", 0.0)
    axes = given(inputs, 3)
    axes = list(range(x.ndim)) if axes is None else [one % x.ndim for one in integers(axes)]
    if len(widths) != 2 * len(axes):
        raise ValueError(f"got {len(widths)} pads for {len(axes)} axes")
    before, after = [0] * x.ndim, [0] * x.ndim
    for place, axis in enumerate(axes):
        before[axis], after[axis] = widths[place], widths[place + len(axes)]
    room([max(low + size + high, 0) for low, size, high in zip(before, x.shape, after, strict=True)], limit)
    cut = tuple(
        slice(max(-low, 0), size - max(-high, 0)) for low, size, high in zip(before, x.shape, after, strict=True)
    )
    pads = [(max(low, 0), max(high, 0)) for low, high in zip(before, after, strict=True)]
    mode = node.attributes.get("mode", "constant")
    if mode == "constant":
        return [np.pad(x[cut], pads, constant_values=np.asarray(value).reshape(-1)[0])]
    y = x[cut]
    for axis, (low, high) in enumerate(pads):
        if low or high:
            y = np.take(y, mirrored_places(y.shape[axis], low, high, mode), axis)
    return [y]


@lru_cache(64)
def mirrored_places(size: int, low: int, high: int, mode: str) -> Array:
    """The indices into an axis of `size` that pad it in this mode."""
    if mode not in ("reflect", "edge", "wrap"):
        raise ValueError(f"got the mode {mode!r}")
    found: Array = np.pad(np.arange(size), (low, high), mode)  # type: ignore[call-overload] # a mode by name
    return found


def _range(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    begin, end, step = (np.asarray(one).reshape(-1)[0] for one in inputs)
    if not step:
        raise ValueError("got a step of 0")
    count = max(math.ceil((end - begin) / step), 0)
    room((count,), limit)
    return [(begin + np.arange(count) * step).astype(np.asarray(inputs[0]).dtype)]


def _eye(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    kind = inputs[0].dtype if "dtype" not in node.attributes else tensors.dtype(node.attributes["dtype"], str(node))
    rows, columns = inputs[0].shape
    return [np.eye(rows, columns, k=int(node.attributes.get("k", 0)), dtype=kind)]


def _trilu(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    k = given(inputs, 1)
    function = np.triu if node.attributes.get("upper", 1) else np.tril
    return [function(inputs[0], 0 if k is None else int(np.asarray(k).reshape(-1)[0]))]


def _reverse_sequence(node: Node, inputs: Arrays, limit: int) -> list[Array]:
    """ReverseSequence: each row's valid steps reversed."""
    x, time, batch = inputs[0], int(node.attributes.get("time_axis", 0)), int(node.attributes.get("batch_axis", 1))
    moved = np.array(np.moveaxis(x, (batch, time), (0, 1)))
    for row, steps in zip(moved, integers(inputs[1]), strict=True):
        row[:steps] = row[:steps][::-1].copy()
    return [np.moveaxis(moved, (0, 1), (batch, time))]


OPERATORS: dict[str, Operator] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Shape": _shape,
    "Size": lambda node, inputs, limit: [np.array(np.size(inputs[0]), np.int64)],
    "Reshape": _reshape,
    "Flatten": lambda node, inputs, limit: [np.reshape(inputs[0], flattened(node, np.shape(inputs[0])))],
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": lambda node, inputs, limit: [np.transpose(inputs[0], order_of(node, np.ndim(inputs[0])))],
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": _pad,
    "Range": _range,
    "EyeLike": _eye,
    "Trilu": _trilu,
    "ReverseSequence": _reverse_sequence,
}
