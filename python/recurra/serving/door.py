"""What a stream of a pool takes, checked in its caller's thread, so that a bad input is refused alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from recurra.common import checks
from recurra.common.structure import Structure
from recurra.common.typing import Array
from recurra.graph.graph import Port

#: What distinguishes inputs that cannot share a batch: their feature counts and dtypes, where the model takes any.
Key = Any


def seconds(operation: str, timeout: Any) -> float | None:
    """The argument timeout; None for any time."""
    return None if timeout is None else checks.number(operation, "timeout", timeout)


class Given(NamedTuple):
    """A checked input. arrays: one for each of the model's inputs, (features,) or, for tokens, (); for a chunk with a
    leading axis of steps. steps: of the chunk, None for a single step."""

    arrays: tuple[Array, ...]
    steps: int | None
    key: Key

    def copied(self) -> Given:
        """Independent of the caller's arrays, who may use them again."""
        arrays, steps, key = self
        return Given((arrays[0].copy(),) if len(arrays) == 1 else tuple(map(np.copy, arrays)), steps, key)


class Door:
    """The checks of a model's inputs, without a batch axis."""

    def __init__(self, ports: Sequence[Port], structure: Structure, dtype: np.dtype[Any] | None) -> None:
        self._ports, self._structure, self.dtype = ports, structure, dtype
        alone = self._ports[0] if structure.count is None else None
        #: Of a step of a model with one input of a known number of features, for a shortcut; else None.
        self.shape = (alone.size,) if alone is not None and alone.kind == "features" and alone.size else None

    def step(self, x: Any, operation: str = "PoolStream.step") -> Given:
        """One step."""
        if type(x) is np.ndarray and x.shape == self.shape and x.dtype is self.dtype:
            return Given((x,), None, None)
        arrays, key = self._read(operation, x, 0)
        return Given(arrays, None, key)

    def chunk(self, x: Any, operation: str = "PoolStream.process") -> Given:
        """Some steps, 0 or more."""
        arrays, key = self._read(operation, x, 1)
        steps = arrays[0].shape[0]
        for index, array in enumerate(arrays):
            if array.shape[0] != steps:
                raise ValueError(
                    f"{operation}: got {self._structure.label('x', index)} of {array.shape[0]} steps and "
                    f"{self._structure.label('x', 0)} of {steps}, expected as many; cut them to the same length"
                )
        return Given(arrays, steps, key)

    def _read(self, operation: str, x: Any, axes: int) -> tuple[tuple[Array, ...], Key]:
        given = self._structure.spread(operation, "x", x)
        key: list[Any] = []
        arrays = []
        for index, (port, one) in enumerate(zip(self._ports, given, strict=True)):
            array = self._checked(operation, self._structure.label("x", index), port, one, axes)
            if port.kind != "tokens" and port.size is None:
                key.append((array.shape[axes:], array.dtype))
            arrays.append(array)
        return tuple(arrays), tuple(key) or None

    def _checked(self, operation: str, name: str, port: Port, x: Any, axes: int) -> Array:
        array = checks.array(operation, name, x)
        if port.kind == "tokens":
            return _tokens(operation, name, port, array, axes)
        if port.kind == "features" and self.dtype is not None and array.dtype != self.dtype:
            raise TypeError(
                f"{operation}: got {name} of {array.dtype}, expected {self.dtype}; convert it with "
                f"{name}.astype(np.{self.dtype})"
            )
        if port.kind == "any" and array.dtype.kind in "iu" and array.ndim >= axes:
            return array
        width = port.size or "features"
        if array.ndim != axes + 1 or (port.size is not None and array.shape[-1] != port.size):
            expected = f"(t, {width})" if axes else f"({width},)"
            raise ValueError(
                f"{operation}: got {name} of shape {array.shape}, expected {expected}; a pool's stream is one "
                "sequence, without a batch axis"
            )
        return array


def _tokens(operation: str, name: str, port: Port, array: Array, axes: int) -> Array:
    if array.dtype.kind not in "iu":
        raise TypeError(f"{operation}: got {name} of {array.dtype}, expected integers, the numbers of tokens")
    if array.ndim != axes:
        expected = "(t,)" if axes else "one token"
        raise ValueError(
            f"{operation}: got {name} of shape {array.shape}, expected {expected}; a pool's stream is one sequence, "
            "without a batch axis"
        )
    plain = checks.int64(array.copy())  # a copy: another thread may write to the caller's after the check
    wrong = (plain < 0) | (plain >= (port.size or 0))
    if array.size and wrong.any():
        raise ValueError(
            f"{operation}: got token {plain[wrong].flat[0] if axes else plain} in {name}, expected 0 to "
            f"{(port.size or 0) - 1}; map unknown tokens to one of these"
        )
    return plain
