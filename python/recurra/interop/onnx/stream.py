"""Runs of a graph one after the other, with their states carried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recurra.common import checks
from recurra.common.typing import Array
from recurra.running.state import copied

if TYPE_CHECKING:
    from recurra.interop.onnx.model import OnnxModel


class OnnxStream:
    """The states of a graph between its runs. Not to be used by two threads at once; each takes its own."""

    def __init__(self, model: OnnxModel, batch_size: int) -> None:
        self._model, self._batch_size = model, batch_size
        self._state = model.init_state(batch_size)

    @property
    def batch_size(self) -> int:
        """N, the number of sequences."""
        return self._batch_size

    def step(self, x: Any) -> Any:
        """The outputs of the next run, on arrays as a call of the model takes them; after an error the state is what it was."""
        y, self._state = self._model(x, self._state)
        return y

    def reset(self) -> None:
        """Start anew, from zeros."""
        self._state = self._model.init_state(self._batch_size)

    def state(self) -> list[Array]:
        """A copy of the states, as a call of the model returns them."""
        found: list[Array] = copied(self._state)
        return found

    def load_state(self, state: Sequence[Any] | None) -> None:
        """Go on from `state`; zeros where it is None."""
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
                    f"OnnxStream.load_state: got {one.dtype} {one.shape}, expected {own.dtype} {own.shape}; give what state() gave"
                )
        self._state = copied(given)

    def fork(self) -> OnnxStream:
        """A second stream that goes on from the same states."""
        other = OnnxStream(self._model, self._batch_size)
        other.load_state(self._state)
        return other
