"""Streams: sequences processed step by step or chunk by chunk, with carried state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol

import numpy as np
import numpy.typing as npt

from recurra import _core
from recurra.common import checks
from recurra.common.structure import Structure
from recurra.common.typing import Array, Output, State
from recurra.graph.graph import Graph, pack
from recurra.running.arguments import converted
from recurra.running.state import StateLayout

if TYPE_CHECKING:
    from recurra.running.runs import Run

#: An index, indices, or a bool for every row.
Rows = npt.ArrayLike


class StreamPiece(Protocol):
    """The stream of one run of a graph: `_core.Stream`, or its counterpart for a layer written in Python."""

    @property
    def batch_size(self) -> int: ...
    def step(self, x: Any, reset: Array | None = None, out: Any = None, rows: Rows | None = None) -> Any: ...
    def process(self, x: Any, reset: Array | None = None, out: Any = None, rows: Rows | None = None) -> Any: ...
    def reset(self, rows: Rows | None = None) -> None: ...
    def state(self, rows: Rows | None = None) -> list[Array]: ...
    def load_state(self, state: Sequence[Array], rows: Rows | None = None) -> None: ...
    def copy_rows(self, source: Rows, target: Rows) -> None: ...
    def fork(self, copies: int, rows: Rows | None = None) -> StreamPiece: ...


class Streamed(Protocol):
    """The layer or model that a stream runs."""

    def stream(self, batch_size: int) -> Stream[Any]: ...


class Stream(Generic[Output]):
    """The carried state of N sequences. Changes to the parameters take effect at the next step.

    Feeding a sequence in any steps and chunks gives the bits of one call over the whole. A stream must not be used by
    two threads at once; each thread takes its own, all on one model.

    `rows`, where a method takes it, are the rows that it is about: an index, a list of indices, or a bool for every
    row. Row i of x, `reset` and the output is then the i-th of them, in the list's order. The other rows keep their
    state, and a row's bits do not depend on which others go with it. So a service's callers can share one stream, a row
    each, and whoever has something new steps.

    Streams can be pickled and copied, with their state: `copy.copy` goes on beside the original on the same model,
    `copy.deepcopy` and pickle copy the model too.

    Example:
        >>> model = rc.Sequential(rc.GRU(3, 8), rc.Linear(8, 2))
        >>> stream = model.stream(batch_size=4)
        >>> stream.step(np.ones((4, 3), np.float32)).shape
        (4, 2)
        >>> stream.step(np.ones((1, 3), np.float32), rows=[2]).shape  # the third alone
        (1, 2)
        >>> stream.reset(rows=[2])
    """

    def __init__(
        self,
        owner: str,
        model: Streamed,
        graph: Graph,
        pieces: Sequence[tuple[StreamPiece, Run]],
        layout: StateLayout,
        structures: tuple[Structure, Structure],
    ) -> None:
        self._owner, self._model, self._graph, self._pieces, self._layout = owner, model, graph, pieces, layout
        self._structures = self._inputs, self._outputs = structures
        natives = [piece for piece, _run in pieces if isinstance(piece, _core.Stream)]
        self._whole = natives[0] if graph.all_native else None  # a single native run
        self._together = _core.Together(owner, natives, graph.all_parameters)
        if self._whole and self._inputs.names is None and self._outputs.names is None:
            self.step, self.process = self._whole.step, self._whole.process  # type: ignore[method-assign] # saves a call

    @property
    def batch_size(self) -> int:
        """N, the number of sequences."""
        return self._pieces[0][0].batch_size

    def step(self, x: Any, reset: npt.ArrayLike | None = None, out: Any = None, rows: Rows | None = None) -> Output:
        """One step of every sequence, or of those in `rows`.

        Args:
            x: (N, features), or (N,) tokens; for a model with several inputs, one each, in the structure that a call
                takes.
            reset: (N,) bool, true to zero a row's state before this step.
            out: (N, output features), written and returned if given; for a model with several outputs, one each. It may
                be the array x.
            rows: those that step, each once, 0 or more; N is their number in the arrays above. None for all.

        Returns:
            (N, output features).

        Raises:
            ValueError, TypeError: arrays or rows do not fit, or another thread is using the stream. After these, and
                after an exception from a layer written in Python or from Ctrl-C, the state is as before the step.
        """
        result: Output = self._run("step", x, reset, out, rows)
        return result

    def process(self, x: Any, reset: npt.ArrayLike | None = None, out: Any = None, rows: Rows | None = None) -> Output:
        """The next t steps of every sequence: x (N, t, features) or (N, t) tokens, reset (N, t) -> (N, t, features).
        `out`, `rows` and errors are as in `step`."""
        result: Output = self._run("process", x, reset, out, rows)
        return result

    def _run(self, method: str, x: Any, reset: npt.ArrayLike | None, out: Any, rows: Rows | None) -> Any:
        operation = f"{self._owner}.stream"
        given = self._inputs.spread(operation, "x", x)
        targets = self._outputs.spread_optional(operation, "out", out)
        if self._whole and all(one is not None for one in targets):
            getattr(self._whole, method)(pack(given), reset, pack(targets), rows)
            return self._outputs.join(targets)
        if not self._whole:
            given = converted(operation, self._graph, self._inputs, given)
        if reset is not None:
            reset = checks.array(operation, "reset", reset).copy()  # all runs must see the same array
        return self._together(self._run_pieces, operation, method, given, reset, targets, self._listed(rows, True))

    def _listed(self, rows: Rows | None, once: bool = False) -> Array | None:
        """The numbers of the rows, for all runs the same."""
        if rows is None:
            return None
        rows = checks.array(f"{self._owner}.stream", "rows", rows)
        return _core.listed_rows(self._owner, rows, self.batch_size, once)

    def _run_pieces(
        self,
        operation: str,
        method: str,
        x: Sequence[Any],
        reset: Array | None,
        targets: Sequence[Any],
        rows: Array | None,
    ) -> Any:
        values: dict[int, Any] = dict(enumerate(x))
        for piece, run in self._pieces:
            given = pack([values[value] for value in run.inputs])
            values.update(run.made(getattr(piece, method)(given, reset, None, rows)))
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

    def reset(self, rows: Rows | None = None) -> None:
        """Zero the state of these rows; None for all."""
        chosen = self._listed(rows)

        def reset() -> None:
            for piece, _run in self._pieces:
                piece.reset(chosen)

        self._together(reset)

    def state(self, rows: Rows | None = None) -> State:
        """A copy of the state, of all rows or of these, structured as a call of the layer or model returns it."""
        chosen = self._listed(rows)
        return self._layout.nest(
            self._together(lambda: [a for piece, _run in self._pieces for a in piece.state(chosen)])
        )

    def load_state(self, state: State, rows: Rows | None = None) -> None:
        """Continue from `state`, structured as `state()` returns it; zeros where it is None. With `rows`, only these
        get a state, in the list's order."""
        chosen = self._listed(rows, True)
        count = self.batch_size if chosen is None else len(chosen)
        flat = self._layout.fill(self._layout.arrays(f"{self._owner}.load_state", state), count)
        if flat is None:
            self.reset(chosen)
            return

        def load() -> None:
            for piece, run in self._pieces:
                if part := run.pick(flat):
                    piece.load_state(part, chosen)

        self._together(load)

    def copy_rows(self, source: Rows, target: Rows) -> None:
        """Give the rows `target` the state of the rows `source`, as many, or one for all; they may overlap."""
        given, taken = self._listed(source), self._listed(target, True)
        if given is None or taken is None:
            raise TypeError(f"{self._owner}.copy_rows: got None, expected the rows to copy from and to; name them")
        if len(given) not in (1, len(taken)):
            raise ValueError(
                f"{self._owner}.copy_rows: got {len(given)} rows as source and {len(taken)} as target, expected as "
                "many, or one source; list a source for each target"
            )
        given = np.broadcast_to(given, taken.shape)

        def copy() -> None:
            for piece, _run in self._pieces:
                piece.copy_rows(given, taken)

        self._together(copy)

    def fork(self, copies: int = 1, rows: Rows | None = None) -> Stream[Output]:
        """A stream of N * copies sequences, on the same model: row r becomes rows r * copies ... r * copies + copies -
        1. With `rows`, N is their number, and r counts them."""
        copies = checks.integer(f"{self._owner}.fork", "copies", copies)
        chosen = self._listed(rows)
        twins = self._together(lambda: [(piece.fork(copies, chosen), run) for piece, run in self._pieces])
        return Stream(self._owner, self._model, self._graph, twins, self._layout, self._structures)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._model, self.batch_size, self.state())


def _rebuild(model: Streamed, batch_size: int, state: State) -> Stream[Any]:
    """A pickled or copied stream."""
    stream = model.stream(batch_size)
    stream.load_state(state)
    return stream
