"""What rules share."""

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
    """The array of an input; None if it is left out or not known."""
    value = inputs[index] if index < len(inputs) else None
    return None if value is None else value.known


def left_out(inputs: Sequence[Value | None], index: int) -> bool:
    """Whether an input is not given."""
    return index >= len(inputs) or inputs[index] is None


def arrays(inputs: Sequence[Value | None]) -> list[Array | None]:
    """What is known of all inputs, None for the others."""
    return [None if one is None else one.known for one in inputs]


def dtype_of(value: Value) -> str:
    """float32 or float64."""
    assert value.dtype is not None
    return str(value.dtype.name)


def shape_of(value: Value | None) -> tuple[int, ...]:
    """The shape, which rules are told only of values that have one."""
    assert value is not None
    assert value.shape is not None
    return value.shape


def open_view(value: Value | None) -> View | None:
    """The value as a view of the open island, if it is one."""
    return None if value is None or value.view is None or value.view.island.closed else value.view


def place_of(view: View, shape: tuple[int, ...], kind: str) -> int | None:
    """Which axis of the value is that of the features, or of time; None if it has one place only."""
    if kind not in view.order:
        return None
    return [at for at, size in enumerate(shape) if size != 1][view.order.index(kind)]
