"""Streams: sequences processed step by step or chunk by chunk, with carried state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from recurra import _core
from recurra.common import checks
from recurra.common.structure import Structure
from recurra.common.typing import Array, State
from recurra.graph.graph import Graph, pack
from recurra.running.state import StateLayout

if TYPE_CHECKING:
    from recurra.running.runs import Run


class StreamPiece(Protocol):
    """The stream of one run of a graph: `_core.Stream`, or its counterpart for a layer written in Python."""

    @property
    def batch_size(self) -> int: ...
    def step(self, x: Any, reset: Array | None = None) -> Any: ...
    def process(self, x: Any, reset: Array | None = None) -> Any: ...
    def reset(self, rows: Array | None = None) -> None: ...
    def state(self) -> list[Array]: ...
    def load_state(self, state: Sequence[Array]) -> None: ...
    def fork(self, copies: int) -> StreamPiece: ...


class Stream:
    """The carried state of N sequences. Changes to the parameters take effect at the next step.

    Feeding a sequence in any steps and chunks gives the bits of one call over the whole. A stream must not be used by
    two threads at once; each thread takes its own, all on one model.
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
        natives = [piece for piece, _run in pieces if isinstance(piece, _core.Stream)]
        self._whole = natives[0] if graph.all_native else None  # a single native run
        self._together = _core.Together(owner, natives, graph.all_parameters)
        if self._whole and self._inputs.names is None and self._outputs.names is None:
            self.step = self._whole.step  # type: ignore[method-assign] # saves a Python call
            self.process = self._whole.process  # type: ignore[method-assign]

    @property
    def batch_size(self) -> int:
        """N, the number of sequences."""
        return self._pieces[0][0].batch_size

    def step(self, x: Any, reset: Array | None = None, out: Any = None) -> Any:
        """One step of every sequence.

        Args:
            x: (N, features), or (N,) tokens; for a model with several inputs, one each, in the structure that a call
                takes.
            reset: (N,) bool, true to zero a row's state before this step.
            out: (N, output features), written and returned if given; for a model with several outputs, one each. It may
                be the array x.

        Returns:
            (N, output features).

        Raises:
            ValueError, TypeError: arrays do not fit, or another thread is using the stream. After these, and after an
                exception from a layer written in Python or from Ctrl-C, the state is as before the step.
        """
        return self._run("step", x, reset, out)

    def process(self, x: Any, reset: Array | None = None, out: Any = None) -> Any:
        """The next t steps of every sequence: x (N, t, features) or (N, t) tokens, reset (N, t) -> (N, t, features).
        `out` and errors are as in `step`."""
        return self._run("process", x, reset, out)

    def _run(self, method: str, x: Any, reset: Array | None, out: Any) -> Any:
        operation = f"{self._owner}.stream"
        given = self._inputs.spread(operation, "x", x)
        targets = self._outputs.spread_optional(operation, "out", out)
        if self._whole and all(one is not None for one in targets):
            getattr(self._whole, method)(pack(given), reset, pack(targets))
            return self._outputs.join(targets)
        if reset is not None:
            reset = checks.array(operation, "reset", reset).copy()  # all runs must see the same array
        return self._together(self._run_pieces, operation, method, given, reset, targets)

    def _run_pieces(
        self, operation: str, method: str, x: Sequence[Any], reset: Array | None, targets: Sequence[Any]
    ) -> Any:
        values: dict[int, Any] = dict(enumerate(x))
        for piece, run in self._pieces:
            values.update(run.made(getattr(piece, method)(pack([values[value] for value in run.inputs]), reset)))
        return self._outputs.join(self._written(operation, [values[value] for value in self._graph.outputs], targets))

    def _written(self, operation: str, made: Sequence[Array], targets: Sequence[Any]) -> list[Array]:
        """The outputs, copied into the caller's arrays where given."""
        given = [(self._outputs.label("out", index), out) for index, out in enumerate(targets) if out is not None]
        for (name, out), y in zip(
            given, [y for y, out in zip(made, targets, strict=True) if out is not None], strict=True
        ):
            if not isinstance(out, np.ndarray) or out.dtype != y.dtype:
                got = out.dtype if isinstance(out, np.ndarray) else type(out).__name__
                raise TypeError(
                    f"{operation}: got {name} of {got}, expected an array of {y.dtype}; allocate it with that dtype"
                )
            if out.shape != y.shape or not out.flags.writeable:
                raise ValueError(
                    f"{operation}: got {name} of shape {out.shape}, writable={out.flags.writeable}, expected "
                    f"{y.shape}, writable; allocate such an array"
                )
        for index, (name, out) in enumerate(given):
            for before, other in given[:index]:
                if np.shares_memory(out, other):
                    raise ValueError(
                        f"{operation}: got {before} and {name} that share memory, expected arrays that do not overlap; "
                        "give a copy of one"
                    )
        # A layer may have returned x itself, which may overlap `out`.
        whole = [y.copy() if any(np.may_share_memory(y, out) for _name, out in given) else y for y in made]
        for y, out in zip(whole, targets, strict=True):
            if out is not None:
                out[...] = y
        return [y if out is None else out for y, out in zip(whole, targets, strict=True)]

    def reset(self, rows: npt.ArrayLike | None = None) -> None:
        """Zero the state of these rows (an index, a list of indices, or a bool for every row); None for all."""
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

        def reset() -> None:
            for piece, _run in self._pieces:
                piece.reset(chosen)

        self._together(reset)

    def state(self) -> State:
        """A copy of the state, structured as a call of the layer or model returns it."""
        return self._layout.nest(self._together(lambda: [a for piece, _run in self._pieces for a in piece.state()]))

    def load_state(self, state: State) -> None:
        """Continue from `state`, structured as `state()` returns it; zeros where it is None."""
        flat = self._layout.fill(self._layout.arrays(f"{self._owner}.load_state", state), self.batch_size)
        if flat is None:
            self.reset()
            return

        def load() -> None:
            for piece, run in self._pieces:
                if part := run.pick(flat):
                    piece.load_state(part)

        self._together(load)

    def fork(self, copies: int) -> Stream:
        """A stream of N * copies sequences: row r becomes rows r * copies ... r * copies + copies - 1."""
        copies = checks.integer(f"{self._owner}.fork", "copies", copies)
        twins = self._together(lambda: [(piece.fork(copies), run) for piece, run in self._pieces])
        return Stream(self._owner, self._graph, twins, self._layout, self._structures)
