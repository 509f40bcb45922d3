"""Rules for operators that only reshape or transpose a value, or take features or the last step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recurra.interop.onnx import tensors
from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.ops import shapes
from recurra.interop.onnx.ops.common import argument, axis_of, integers
from recurra.interop.onnx.rules import Rule, arrays, dtype_of, known, open_view, place_of, shape_of
from recurra.interop.onnx.values import Turned, Value, View, merged, settled, sizes_of, wide
from recurra.layers.pooling import Pool
from recurra.layers.slicing import Slice

if TYPE_CHECKING:
    from recurra.interop.onnx.trace import Tracer


def _same(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    if node.op == "Cast" and (inputs[0] is None or tensors.dtype(int(node.attributes["to"]), "") != inputs[0].dtype):
        return None
    return None if inputs[0] is None or any(node.outputs[1:]) else [inputs[0]]


def _transpose(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    view, value = open_view(inputs[0]), inputs[0]
    if value is None or value.known is not None:
        return None
    shape = shape_of(value)
    order = shapes.order_of(node, len(shape))
    if view is None:
        source = tracer.source(value)
        axes = iter(source.axes)
        places = [next(axes) if size != 1 else None for size in shape]
        turned_axes = tuple(one for at in order if (one := places[at]) is not None)
        turned_shape = tuple(shape[at] for at in order)
        return [Value(turned_shape, value.dtype, turned=Turned(source.slot, source.sizes, turned_axes))]
    letters = iter(view.order)
    own = [next(letters) if size != 1 else "" for size in shape]
    turned = settled(replace(view, order="".join(own[at] for at in order)))
    return [Value(tuple(shape[at] for at in order), value.dtype, view=turned)]


def _new_shape(node: Node, inputs: Sequence[Value | None]) -> tuple[int, ...] | None:
    shape, given = shape_of(inputs[0]), arrays(inputs)
    if node.op == "Flatten":
        return shapes.flattened(node, shape)
    if len(inputs) > 1 and known(inputs, 1) is None:
        return None
    if node.op == "Reshape":
        return shapes.reshaped(node, shape, integers(argument(node, given, 1, "shape")))
    if node.op == "Squeeze":
        gone = shapes.squeezed(node, given, shape)
        if any(shape[at] != 1 for at in gone):
            return None
        return tuple(size for at, size in enumerate(shape) if at not in gone)
    made = list(shape)
    for at in shapes.unsqueezed(node, given, len(shape)):
        made.insert(at, 1)
    return tuple(made)


def _reshape(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    view, value = open_view(inputs[0]), inputs[0]
    if value is None or value.known is not None or 0 in shape_of(value):
        return None
    shape = _new_shape(node, inputs)
    if shape is None:
        return None
    if view is None:
        return _new_axes(tracer, value, shape)
    plain = [size for size in shape if size != 1]
    for one in (view, merged(view)):
        if plain == sizes_of(one):
            return [Value(shape, value.dtype, view=one)]
    split = _split_features(merged(view), plain)
    return None if split is None else [Value(shape, value.dtype, view=split)]


def _split_features(view: View, plain: list[int]) -> View | None:
    """The view with its features as two axes, if that gives the sizes `plain`."""
    sizes = sizes_of(view)
    at = view.order.find("F")
    if view.directions != 1 or at < 0 or len(plain) != len(sizes) + 1:
        return None
    if plain[:at] != sizes[:at] or plain[at + 2 :] != sizes[at + 1 :] or plain[at] * plain[at + 1] != sizes[at]:
        return None
    return replace(view, order=view.order.replace("F", "DF"), directions=plain[at])


def _new_axes(tracer: Tracer, value: Value, shape: tuple[int, ...]) -> list[Value] | None:
    """Reshape a slot's array; its axes can be split and merged only if they are not transposed."""
    source = tracer.source(value)
    if wide(shape) == wide(shape_of(value)):
        return [Value(shape, value.dtype, turned=source)]
    if source.axes != tuple(range(len(source.axes))):
        return None
    return [Value(shape, value.dtype, turned=Turned.of(source.slot, shape))]


def _slice(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    """To a Slice; only of the features."""
    view, value = open_view(inputs[0]), inputs[0]
    if view is None or value is None or any(one is not None and one.known is None for one in inputs[1:]):
        return None
    shape = shape_of(value)
    view = settled(view)
    taken = [range(size)[part] for size, part in zip(shape, shapes.slices(node, arrays(inputs), shape), strict=True)]
    cut = [at for at, (size, part) in enumerate(zip(shape, taken, strict=True)) if part != range(size)]
    if not cut:
        return [value]
    features = place_of(view, shape, "F")
    if (
        view.directions != 1
        or features is None
        or cut != [features]
        or taken[features].step < 0
        or not len(taken[features])
    ):
        return None
    part = taken[features]
    return [_some(tracer, value, view, features, part)]


def _some(tracer: Tracer, value: Value, view: View, axis: int, part: range) -> Value:
    layer = tracer.store.plain(Slice, part.start, part[-1] + 1, part.step, dtype=dtype_of(value))
    shape = shape_of(value)
    made = (*shape[:axis], len(part), *shape[axis + 1 :])
    order = view.order if len(part) != 1 else view.order.replace("F", "")
    new = View(view.island, layer(view.symbol), (*view.base[:-1], len(part)), order)
    return Value(made, value.dtype, view=new)


def _split(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    view, value = open_view(inputs[0]), inputs[0]
    if view is None or value is None or (len(inputs) > 1 and known(inputs, 1) is None):
        return None
    view, shape = settled(view), shape_of(value)
    axis = axis_of(node, len(shape), 0)
    sizes = shapes.parts_of(node, arrays(inputs), axis, shape[axis])
    if view.directions != 1 or place_of(view, shape, "F") != axis or 0 in sizes:
        return None
    ends = [int(one) for one in np.cumsum(sizes)]
    return [_some(tracer, value, view, axis, range(end - size, end)) for end, size in zip(ends, sizes, strict=True)]


def _gather(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    """All of an axis, the last step, a single feature, or the only index of an axis of size 1."""
    view, value, index = open_view(inputs[0]), inputs[0], known(inputs, 1)
    if value is not None and index is not None and index.ndim == 1 and value.shape:
        size = value.shape[axis_of(node, len(value.shape), 0)]
        if index.shape == (size,) and np.array_equal(index, np.arange(size)):
            return [value]
    if view is None or value is None or index is None or index.size != 1:
        return None
    view, shape = settled(view), shape_of(value)
    axis = axis_of(node, len(shape), 0)
    at = int(index.reshape(-1)[0])
    at = at + shape[axis] if at < 0 else at
    made = (*shape[:axis], *index.shape, *shape[axis + 1 :])
    if at == 0 and shape[axis] == 1:
        return [Value(made, value.dtype, view=view)]
    if place_of(view, shape, "T") == axis and at == shape[axis] - 1 and "T" in view.sizes:
        symbol = tracer.store.plain(Pool, "last", dtype=dtype_of(value))(view.symbol)
        base = (view.base[0], view.base[-1])
        return [
            Value(made, value.dtype, view=replace(view, symbol=symbol, base=base, order=view.order.replace("T", "")))
        ]
    if place_of(view, shape, "F") == axis and view.directions == 1 and 0 <= at < shape[axis]:
        some = _some(tracer, value, view, axis, range(at, at + 1))
        return [replace(some, shape=made)]
    return None


def _expand(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    """To nothing, if the shape stays."""
    value, wanted = inputs[0], known(inputs, 1)
    if value is None or wanted is None or np.broadcast_shapes(shape_of(value), tuple(integers(wanted))) != value.shape:
        return None
    return [value]


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Identity", "Dropout", "Cast"), _same),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    "Transpose": _transpose,
    "Slice": _slice,
    "Expand": _expand,
    "Split": _split,
    "Gather": _gather,
}
