"""Successive runs of a graph with carried states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recurra.common import checks
from recurra.common.typing import Array
from recurra.running.state import copied

if TYPE_CHECKING:
    from recurra.interop.onnx.model import OnnxModel


class OnnxStream:
    """A graph's states between runs. Not thread-safe: use one stream for each thread."""

    def __init__(self, model: OnnxModel, batch_size: int) -> None:
        self._model, self._batch_size = model, batch_size
        self._state = model.init_state(batch_size)

    @property
    def batch_size(self) -> int:
        """N, the number of sequences."""
        return self._batch_size

    def step(self, x: Any) -> Any:
        """The outputs of the next run, with `x` as in a call of the model; an error leaves the state unchanged."""
        y, self._state = self._model(x, self._state)
        return y

    def reset(self) -> None:
        """Set the states to zero."""
        self._state = self._model.init_state(self._batch_size)

    def state(self) -> list[Array]:
        """A copy of the states, in the form that a call of the model returns."""
        found: list[Array] = copied(self._state)
        return found

    def load_state(self, state: Sequence[Any] | None) -> None:
        """Set the states to `state`; None for zeros."""
        if state is None:
            self.reset()
            return
        if len(state) != len(self._state):
            raise ValueError(
                f"OnnxStream.load_state: got {len(state)} arrays, expected {len(self._state)}; give what state() gave"
            )
        given = [checks.array("OnnxStream.load_state", "a state", one) for one in state]
        for one, own in zip(given, self._state, strict=True):
            if one.shape != own.shape or one.dtype != own.dtype:
                raise ValueError(
                    f"OnnxStream.load_state: got {one.dtype} {one.shape}, expected {own.dtype} {own.shape}; give what "
                    "state() gave"
                )
        self._state = copied(given)

    def fork(self) -> OnnxStream:
        """A second stream with a copy of the states."""
        other = OnnxStream(self._model, self._batch_size)
        other.load_state(self._state)
        return other
