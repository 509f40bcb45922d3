"""Successive runs of a graph with carried states."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from recurra import _core
from recurra.common import checks
from recurra.common.typing import Array
from recurra.running.state import copied

if TYPE_CHECKING:
    from recurra.interop.onnx.model import OnnxModel

#: An index, indices, or a bool for every row.
Rows = npt.ArrayLike


class OnnxStream:
    """A graph's states between runs. Not thread-safe: use one stream for each thread.

    `rows`, where a method takes it, are the rows that it is about, as of a `recurra.Stream`: an index, a list of
    indices, or a bool for every row; the others keep their states.
    """

    def __init__(self, model: OnnxModel, batch_size: int) -> None:
        self._model, self._batch_size = model, batch_size
        self._state = model.init_state(batch_size)

    @property
    def batch_size(self) -> int:
        """N, the number of sequences."""
        return self._batch_size

    def step(self, x: Any, rows: Rows | None = None) -> Any:
        """The outputs of the next run, with `x` as in a call of the model, of all rows or of these, each once; an error
        leaves the states unchanged."""
        if rows is None:
            model = self._model
            y, self._state = model._continued(model._given(x), self._state)
            return y
        listed = self._listed(rows, once=True)
        y, final = self._model(x, self._taken(listed))
        self._state = self._written(listed, final)
        return y

    def reset(self, rows: Rows | None = None) -> None:
        """Set the states to zero."""
        self.load_state(None, rows)

    def state(self, rows: Rows | None = None) -> list[Array]:
        """A copy of the states, in the form that a call of the model returns."""
        found: list[Array] = copied(self._state) if rows is None else self._taken(self._listed(rows))
        return found

    def load_state(self, state: Sequence[Any] | None, rows: Rows | None = None) -> None:
        """Set the states to `state`; None for zeros."""
        listed = None if rows is None else self._listed(rows, once=state is not None)
        count = self._batch_size if listed is None else len(listed)
        own = self._model.init_state(count)
        if state is None:
            given = own
        else:
            if len(state) != len(own):
                raise ValueError(
                    f"OnnxStream.load_state: got {len(state)} arrays, expected {len(own)}; give what state() gave"
                )
            given = [checks.array("OnnxStream.load_state", "a state", one) for one in state]
            for one, like in zip(given, own, strict=True):
                if one.shape != like.shape or one.dtype != like.dtype:
                    raise ValueError(
                        f"OnnxStream.load_state: got {one.dtype} {one.shape}, expected {like.dtype} {like.shape}; give "
                        "what state() gave"
                    )
        self._state = copied(given) if listed is None else self._written(listed, given)

    def fork(self) -> OnnxStream:
        """A second stream with a copy of the states."""
        other = OnnxStream(self._model, self._batch_size)
        other.load_state(self._state)
        return other

    @cached_property
    def _axes(self) -> list[int]:
        """The axis of rows of each state: the one whose size is the number of rows."""
        found = []
        for name, one, two in zip(
            self._model.state_names, self._model.init_state(1), self._model.init_state(2), strict=True
        ):
            differing = [
                axis for axis, sizes in enumerate(zip(one.shape, two.shape, strict=True)) if sizes[0] != sizes[1]
            ]
            if len(differing) != 1:
                raise ValueError(
                    f"OnnxStream: got rows for a graph whose state {name} has no axis of rows, expected one; step all "
                    f"rows"
                )
            found.append(differing[0])
        return found

    def _listed(self, rows: Rows, once: bool = False) -> Array:
        given = checks.array("OnnxStream", "rows", rows)
        return _core.listed_rows("OnnxStream", given, self._batch_size, once)

    def _taken(self, rows: Array) -> list[Array]:
        return [np.take(one, rows, axis) for one, axis in zip(self._state, self._axes, strict=True)]

    def _written(self, rows: Array, values: Sequence[Array]) -> list[Array]:
        """The states, with those of `rows` replaced."""
        written = []
        for one, axis, value in zip(self._state, self._axes, values, strict=True):
            whole = one.copy()
            whole[(slice(None),) * axis + (rows,)] = value
            written.append(whole)
        return written
