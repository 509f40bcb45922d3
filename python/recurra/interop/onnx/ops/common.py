"""Shared by the operators: arguments that were attributes in older versions, size checks before allocation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from recurra.common.typing import Array
from recurra.interop.onnx.graph import Node

Arrays = Sequence[Any]
Operator = Callable[[Node, Arrays, int], list[Array]]


def given(inputs: Arrays, index: int) -> Any:
    """The input `index`, or None."""
    return inputs[index] if index < len(inputs) else None


def argument(node: Node, inputs: Arrays, index: int, name: str, default: Any = None) -> Any:
    """An input that is an attribute in older operator sets."""
    found = given(inputs, index)
    return node.attributes.get(name, default) if found is None else found


def integers(value: Any) -> list[int]:
    """An array of sizes or axes as a list."""
    return [int(one) for one in np.atleast_1d(value)]


def axis_of(node: Node, rank: int, default: int) -> int:
    """The attribute `axis`, made non-negative."""
    axis = int(node.attributes.get("axis", default))
    if not -rank <= axis < max(rank, 1):
        raise ValueError(f"got axis {axis} of a value of {rank} axes")
    return axis % max(rank, 1)


def room(shape: Sequence[int], limit: int) -> None:
    """Raise if a result of this shape has more than `limit` numbers."""
    if math.prod(shape) > limit:
        raise ValueError(f"got a result of shape {tuple(shape)}, expected at most {limit} numbers")
