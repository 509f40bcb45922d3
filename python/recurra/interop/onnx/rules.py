"""Shared by the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common.typing import Array
from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.values import Value, View

if TYPE_CHECKING:
    from recurra.interop.onnx.trace import Tracer

Rule = Callable[["Tracer", Node, Sequence[Value | None]], "list[Value] | None"]
FLOATS = (np.float32, np.float64)


def known(inputs: Sequence[Value | None], index: int) -> Any:
    """The constant of an input; None if it is omitted or not constant."""
    value = inputs[index] if index < len(inputs) else None
    return None if value is None else value.known


def left_out(inputs: Sequence[Value | None], index: int) -> bool:
    """Whether an input is omitted."""
    return index >= len(inputs) or inputs[index] is None


def arrays(inputs: Sequence[Value | None]) -> list[Array | None]:
    """The constants of the inputs, None for those that are not constant."""
    return [None if one is None else one.known for one in inputs]


def dtype_of(value: Value) -> str:
    """float32 or float64."""
    assert value.dtype is not None
    return str(value.dtype.name)


def shape_of(value: Value | None) -> tuple[int, ...]:
    """The value's shape, which is known wherever a rule is called."""
    assert value is not None
    assert value.shape is not None
    return value.shape


def open_view(value: Value | None) -> View | None:
    """The value's view in the open island; None if it has none."""
    return None if value is None or value.view is None or value.view.island.closed else value.view


def place_of(view: View, shape: tuple[int, ...], kind: str) -> int | None:
    """The value's axis for the `kind` "F" or "T"; None if its size is 1."""
    if kind not in view.order:
        return None
    return [at for at, size in enumerate(shape) if size != 1][view.order.index(kind)]
