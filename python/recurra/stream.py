"""Sequences fed step by step, or chunk by chunk, as they arrive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from recurra import checks
from recurra.graph import Graph, pack
from recurra.state import StateLayout
from recurra.structure import Structure
from recurra.typing import Array, State

if TYPE_CHECKING:
    from recurra.runner import Run


class StreamPiece(Protocol):
    """The stream of one run of a graph: `_core.Stream`, or its twin for a layer written in Python."""

    @property
    def batch_size(self) -> int: ...
    def step(self, x: Any, reset: Array | None = None, out: Any = None) -> Any: ...
    def process(self, x: Any, reset: Array | None = None, out: Any = None) -> Any: ...
    def reset(self, rows: Array | None = None) -> None: ...
    def state(self) -> list[Array]: ...
    def load_state(self, state: Sequence[Array]) -> None: ...
    def fork(self, copies: int) -> StreamPiece: ...


class Stream:
    """The state of N sequences under way. It follows changes of the parameters; the layers know nothing of it.

    Feeding a sequence in any steps and chunks gives the bits of one call over the whole. Not to be used by two threads at
    once; each thread takes its own, all on one model.
    """

    def __init__(
        self,
        owner: str,
        graph: Graph,
        pieces: Sequence[tuple[StreamPiece, Run]],
        layout: StateLayout,
        structures: tuple[Structure, Structure],
    ) -> None:
        self._owner, self._graph, self._pieces, self._layout = owner, graph, pieces, layout
        self._structures = self._inputs, self._outputs = structures
        if len(pieces) == 1 and self._inputs.names is None and self._outputs.names is None:
            piece = pieces[0][0]  # a single native run: its own methods, a call less on the way
            self.step = piece.step  # type: ignore[method-assign]
            self.process = piece.process  # type: ignore[method-assign]

    @property
    def batch_size(self) -> int:
        """N, the number of sequences."""
        return self._pieces[0][0].batch_size

    def step(self, x: Any, reset: Array | None = None, out: Any = None) -> Any:
        """One step of every sequence.

        Args:
            x: (N, features), or (N,) tokens; of a model with several inputs as many of them, as a call takes them.
            reset: (N,) bool; true means that the state before this step is zero.
            out: (N, output features), written and returned if given; of a model with several outputs as many of them.

        Returns:
            (N, output features).
        """
        return self._run("step", x, reset, out)

    def process(self, x: Any, reset: Array | None = None, out: Any = None) -> Any:
        """The next t steps of every sequence: x (N, t, features) or (N, t) tokens, reset (N, t) -> (N, t, features)."""
        return self._run("process", x, reset, out)

    def _run(self, method: str, x: Any, reset: Array | None, out: Any) -> Any:
        operation = f"{self._owner}.stream"
        values: dict[int, Any] = dict(enumerate(self._inputs.spread(operation, "x", x)))
        given = dict(zip(self._graph.outputs, self._outputs.spread_optional(operation, "out", out), strict=True))
        for piece, run in self._pieces:
            ready = [given.get(value) for value in run.outputs]
            # A native run with several outputs takes arrays for all of them or none.
            direct = all(one is not None for one in ready)
            taken = [values[value] for value in run.inputs]
            y = getattr(piece, method)(pack(taken), reset, pack(ready) if direct else None)
            for (value, array), target in zip(run.made(y), ready, strict=True):
                if target is not None and not direct:
                    target[...] = array
                values[value] = array if target is None else target
        return self._outputs.join([values[value] for value in self._graph.outputs])

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
        for piece, _run in self._pieces:
            piece.reset(chosen)

    def state(self) -> State:
        """A copy of the state, as a call of the layer or model returns it."""
        return self._layout.nest([array for piece, _run in self._pieces for array in piece.state()])

    def load_state(self, state: State) -> None:
        """Go on from `state`, built as `state()` returns it; zeros where it is None."""
        flat = self._layout.fill(self._layout.flatten(f"{self._owner}.load_state", state), self.batch_size)
        if flat is None:
            self.reset()
            return
        for piece, run in self._pieces:
            if part := run.pick(flat):
                piece.load_state(part)

    def fork(self, copies: int) -> Stream:
        """A stream of N * copies sequences: row r becomes rows r * copies ... r * copies + copies - 1."""
        copies = checks.integer(f"{self._owner}.fork", "copies", copies)
        twins = [(piece.fork(copies), run) for piece, run in self._pieces]
        return Stream(self._owner, self._graph, twins, self._layout, self._structures)
