"""Rules for elementwise operators of several values, and Concat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.ops.common import axis_of
from recurra.interop.onnx.rules import FLOATS, Rule, dtype_of, open_view, shape_of
from recurra.interop.onnx.values import Value, View, settled
from recurra.layers.leaf import LeafLayer
from recurra.layers.merge import Add, Average, Concatenate, Maximum, Minimum, Multiply, Subtract

if TYPE_CHECKING:
    from recurra.interop.onnx.trace import Tracer

_LAYERS: dict[str, type[LeafLayer]] = {
    "Add": Add,
    "Sum": Add,
    "Mul": Multiply,
    "Sub": Subtract,
    "Mean": Average,
    "Max": Maximum,
    "Min": Minimum,
}


def _views(inputs: Sequence[Value | None]) -> list[View] | None:
    """All inputs as views in the open island that differ in their features at most; else None."""
    found = [
        settled(view)
        for one in inputs
        if (view := open_view(one)) is not None and one is not None and one.dtype in FLOATS
    ]
    if len(found) < 2 or len(found) < len(inputs):
        return None
    first = found[0]
    same = all(one.base[:-1] == first.base[:-1] and one.directions == first.directions for one in found)
    return found if same and len({id(one.symbol.source) for one in found}) > 1 else None


def _elementwise(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    first = inputs[0]
    if first is None or any(one is None or (one.shape, one.dtype) != (first.shape, first.dtype) for one in inputs):
        return None
    view = next((one for one in map(open_view, inputs) if one is not None), None)
    if view is not None:  # arrays beside it become inputs of its model
        inputs = [tracer.beside(one, view) for one in inputs if one is not None]
    views = _views(inputs)
    if views is None:
        return None
    if any(one.order != views[0].order or one.base != views[0].base for one in views):
        return None
    layer = tracer.store.plain(_LAYERS[node.op], dtype=dtype_of(first))
    return [replace(first, slot=None, view=replace(views[0], symbol=layer(tuple(one.symbol for one in views))))]


def _concat(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    views, first = _views(inputs), inputs[0]
    if views is None or first is None or views[0].directions != 1:
        return None
    axis = axis_of(node, len(shape_of(first)), 0)
    features = sum(one.base[-1] for one in views)
    made = tuple(
        sum(shape_of(one)[at] for one in inputs) if at == axis else size for at, size in enumerate(shape_of(first))
    )
    for one, view in zip(inputs, views, strict=True):
        sizes = shape_of(one)
        others = "".join(letter for letter in view.order if letter != "F")
        before = sum(size != 1 for size in sizes[:axis])
        at = view.order.index("F") if "F" in view.order else before
        if sizes[axis] != view.base[-1] or at != before or others != views[0].order.replace("F", ""):
            return None
        if any(a != b for place, (a, b) in enumerate(zip(sizes, shape_of(first), strict=True)) if place != axis):
            return None
    others = views[0].order.replace("F", "")
    before = sum(size != 1 for size in made[:axis])
    layer = tracer.store.plain(Concatenate, dtype=dtype_of(first))
    symbol = layer(tuple(one.symbol for one in views))
    view = View(views[0].island, symbol, (*views[0].base[:-1], features), others[:before] + "F" + others[before:])
    return [Value(made, first.dtype, view=view)]


RULES: dict[str, Rule] = {**dict.fromkeys(_LAYERS, _elementwise), "Concat": _concat}
