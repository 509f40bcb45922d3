"""Rules for sums and products with constants, one or one for each feature or channel: frozen batch norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common.typing import Array
from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.rules import FLOATS, Rule, dtype_of, known, open_view, place_of, shape_of
from recurra.interop.onnx.store import filled
from recurra.interop.onnx.values import Value, settled
from recurra.layers.normalisation import BatchNorm, BatchNorm2d

if TYPE_CHECKING:
    from recurra.interop.onnx.trace import Tracer

#: Added to a variance of 1, which stays 1.
_NOTHING = 1e-30


def _layer(tracer: Tracer, node: Node, value: Value | None, scale: Any, shift: Any) -> list[Value] | None:
    """To scale * x + shift."""
    view = open_view(value)
    if value is None or view is None or value.dtype not in FLOATS or scale is None or shift is None:
        return None
    view, shape = settled(view), shape_of(value)
    features, at = view.sizes["F"], place_of(view, shape, "F")
    numbers = [_row(one, shape, at, features) for one in (scale, shift)]
    if any(one is None for one in numbers):
        return None

    def make() -> Any:
        ones, zeros = np.ones(features), np.zeros(features)
        given = {"weight": numbers[0], "bias": numbers[1], "running_mean": zeros, "running_var": ones}
        cls = BatchNorm if view.directions == 1 else BatchNorm2d
        layer = filled(cls, given, features, eps=_NOTHING, dtype=dtype_of(value))
        layer.trainable = False
        return layer

    symbol = tracer.store.get((id(node), features, view.directions == 1), make)(view.symbol)
    return [replace(value, slot=None, view=replace(view, symbol=symbol))]


def _row(array: Array, shape: tuple[int, ...], at: int | None, features: int) -> Array | None:
    """The constant as a number for each feature, which is the axis `at` of `shape`; None if it has other axes."""
    if array.ndim > len(shape):
        return None
    sizes = (1,) * (len(shape) - array.ndim) + array.shape
    if array.size != 1 and [place for place, size in enumerate(sizes) if size != 1] != [at]:
        return None
    return np.broadcast_to(array.reshape(-1), (features,)) if array.size in (1, features) else None


def affine(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    """The rule for x * scale + shift."""
    return _layer(tracer, node, inputs[0], known(inputs, 1), known(inputs, 2))


def _of_one(tracer: Tracer, node: Node, inputs: Sequence[Value | None]) -> list[Value] | None:
    """The rule for an Add, Sub, Mul or Div by a constant."""
    if len(inputs) != 2:
        return None
    at = 1 if known(inputs, 0) is None else 0
    by, value = known(inputs, at), inputs[1 - at]
    if by is None or by.dtype not in FLOATS or (node.op == "Div" and at == 0):
        return None
    one, none = np.ones((), by.dtype), np.zeros((), by.dtype)
    with np.errstate(all="ignore"):
        if node.op in ("Mul", "Div"):
            return _layer(tracer, node, value, by if node.op == "Mul" else 1 / by, none)
    if node.op == "Add":
        return _layer(tracer, node, value, one, by)
    return _layer(tracer, node, value, one, -by) if at else _layer(tracer, node, value, -one, by)


RULES: dict[str, Rule] = dict.fromkeys(("Add", "Sub", "Mul", "Div"), _of_one)
