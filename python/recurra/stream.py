"""Sequences fed step by step, or chunk by chunk, as they arrive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from recurra import checks
from recurra.state import StateLayout
from recurra.typing import Array, State


class StreamPiece(Protocol):
    """The stream of one run of a chain: `_core.Stream`, or its twin for a layer written in Python."""

    @property
    def batch_size(self) -> int: ...
    def step(self, x: Array, reset: Array | None = None, out: Array | None = None) -> Array: ...
    def process(self, x: Array, reset: Array | None = None, out: Array | None = None) -> Array: ...
    def reset(self, rows: Array | None = None) -> None: ...
    def state(self) -> list[Array]: ...
    def load_state(self, state: Sequence[Array]) -> None: ...
    def fork(self, copies: int) -> StreamPiece: ...


class Stream:
    """The state of N sequences under way. It follows changes of the parameters; the layers know nothing of it.

    Feeding a sequence in any steps and chunks gives the bits of one call over the whole. Not to be used by two threads at
    once; each thread takes its own, all on one model.
    """

    def __init__(self, owner: str, pieces: Sequence[tuple[StreamPiece, slice]], layout: StateLayout) -> None:
        self._owner, self._pieces, self._layout = owner, pieces, layout
        *self._first, self._last = [piece for piece, _states in pieces]
        if not self._first:  # a single native run: its own methods, a call less on the way
            self.step = self._last.step  # type: ignore[method-assign]
            self.process = self._last.process  # type: ignore[method-assign]

    @property
    def batch_size(self) -> int:
        """N, the number of sequences."""
        return self._last.batch_size

    def step(self, x: Array, reset: Array | None = None, out: Array | None = None) -> Array:
        """One step of every sequence.

        Args:
            x: (N, features), or (N,) tokens.
            reset: (N,) bool; true means that the state before this step is zero.
            out: (N, output features), written and returned if given.

        Returns:
            (N, output features).
        """
        for piece in self._first:
            x = piece.step(x, reset)
        return self._last.step(x, reset, out)

    def process(self, x: Array, reset: Array | None = None, out: Array | None = None) -> Array:
        """The next t steps of every sequence: x (N, t, features) or (N, t) tokens, reset (N, t) -> (N, t, features)."""
        for piece in self._first:
            x = piece.process(x, reset)
        return self._last.process(x, reset, out)

    def reset(self, rows: npt.ArrayLike | None = None) -> None:
        """Start these rows (an index, a list of indices, or a bool for every row) anew; None: all of them."""
        chosen = None if rows is None else np.atleast_1d(checks.array(f"{self._owner}.reset", "rows", rows))
        if chosen is not None and chosen.dtype == bool:
            if chosen.shape != (self.batch_size,):
                raise ValueError(
                    f"{self._owner}.reset: got a mask of shape {chosen.shape}, expected ({self.batch_size},); "
                    f"give one bool for every row, or the indices of the rows"
                )
            chosen = np.flatnonzero(chosen)
        if chosen is not None and not chosen.size:
            return
        for piece in [*self._first, self._last]:
            piece.reset(chosen)

    def state(self) -> State:
        """A copy of the state, as a call of the layer or model returns it."""
        return self._layout.nest([array for piece, _states in self._pieces for array in piece.state()])

    def load_state(self, state: State) -> None:
        """Go on from `state`, built as `state()` returns it; zeros where it is None."""
        flat = self._layout.fill(self._layout.flatten(f"{self._owner}.load_state", state), self.batch_size)
        if flat is None:
            self.reset()
            return
        for piece, states in self._pieces:
            if part := flat[states]:
                piece.load_state(part)

    def fork(self, copies: int) -> Stream:
        """A stream of N * copies sequences: row r becomes rows r * copies ... r * copies + copies - 1."""
        copies = checks.integer(f"{self._owner}.fork", "copies", copies)
        return Stream(self._owner, [(piece.fork(copies), states) for piece, states in self._pieces], self._layout)
