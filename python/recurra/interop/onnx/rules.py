"""What rules share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common.typing import Array
from recurra.graph.symbolic import Call, Symbol
from recurra.interop.onnx.graph import Node
from recurra.interop.onnx.values import Value
from recurra.layers.pooling import Pool
from recurra.layers.repeat import RepeatVector

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


def without_time(symbol: Symbol) -> Any:
    """The vector of a sequence of one step."""
    return Pool("last", dtype=_dtype(symbol))(symbol)


def with_time(symbol: Symbol) -> Any:
    """A vector as a sequence of one step."""
    return RepeatVector(1, dtype=_dtype(symbol))(symbol)


def _dtype(symbol: Symbol) -> Any:
    source = symbol.source
    return source.layer.dtype if isinstance(source, Call) else source.dtype
