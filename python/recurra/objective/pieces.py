"""Segments and pieces: the parts of a batch that are recorded at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from recurra.common.typing import Array
from recurra.data.feed import Outputs

if TYPE_CHECKING:
    from recurra.objective.trainable import Trainable


@dataclass(frozen=True)
class Segment:
    """A range of steps of some rows: inputs and targets, as lists with one entry per input or output.

    The first `lead` steps do not count in the loss.
    """

    x: Sequence[Array]
    lengths: Sequence[Array | None]
    resets: Sequence[Array | None]
    targets: Sequence[Array]
    weights: Sequence[Array | None]
    outputs: Outputs
    lead: int = 0
    rows: Array | None = None  # indices of the rows in the data; None if a generator yielded them
    first: int = 0  # number of the first step in the sequence

    @property
    def has_time(self) -> bool:
        """Whether any input has a time axis."""
        return any(rows.has_time for rows in self.outputs.inputs)

    @property
    def steps(self) -> int:
        """The steps of the longest time axis."""
        return max(int(one.shape[1]) for one, rows in zip(self.x, self.outputs.inputs, strict=True) if rows.has_time)

    @property
    def valid_steps(self) -> int:
        """The valid steps of all rows, for the input that has the most."""
        return max(
            int(np.sum(valid)) if valid is not None else len(one) * (one.shape[1] if rows.has_time else 1)
            for one, valid, rows in zip(self.x, self.lengths, self.outputs.inputs, strict=True)
        )

    def cut(self, begin: int, end: int, lead: int) -> Segment:
        """Steps [begin, end) of the segment; all inputs and outputs with a time axis share that axis."""

        def part(array: Array | None, axes: int) -> Array | None:
            return array if array is None or array.ndim < axes else np.ascontiguousarray(array[:, begin:end])

        sequence = [rows.has_time for rows in self.outputs.inputs]
        return replace(
            self,
            x=[one[:, begin:end] if timed else one for one, timed in zip(self.x, sequence, strict=True)],
            lengths=[None if one is None else np.clip(one - begin, 0, end - begin) for one in self.lengths],
            resets=[part(one, 2) for one in self.resets],
            targets=[np.ascontiguousarray(one[:, begin:end]) for one in self.targets],
            weights=[part(one, 2) for one in self.weights],
            lead=lead,
            first=self.first + begin,
        )

    def shard(self, begin: int, end: int) -> Segment:
        """Rows `begin` to `end` of it."""
        rows = None if self.rows is None else self.rows[begin:end]
        return replace(self._each(lambda array: array[begin:end]), rows=rows)

    def own(self) -> Segment:
        """A copy with its own arrays, for sources that overwrite their buffers."""
        return self._each(lambda array: array.copy())

    def _each(self, change: Callable[[Array], Array]) -> Segment:
        """The same of the arrays that change() makes."""

        def changed(arrays: Sequence[Any]) -> list[Any]:
            return [None if one is None else change(one) for one in arrays]

        return replace(
            self,
            x=changed(self.x),
            lengths=changed(self.lengths),
            resets=changed(self.resets),
            targets=changed(self.targets),
            weights=changed(self.weights),
        )

    def output_lengths(self) -> list[Array | None]:
        """The valid steps of each output."""
        if all(one is None for one in self.lengths):  # shortcut: the rest is noticeable for small batches
            return [None] * len(self.targets)
        return self.outputs.lengths(self.outputs.join_inputs(self.lengths))

    @property
    def counting(self) -> Segment:
        """The steps that count in the loss: without the lead."""
        return self.cut(min(self.lead, self.steps), self.steps, 0) if self.lead else self


def check_runs_in_parts(operation: str, what: str, model: Trainable) -> None:
    """Refuse a model whose outputs change when a sequence is run in parts, with the state carried over."""
    try:
        model.stream(1)
    except ValueError as error:
        why = str(error).split(": ", 1)[1]
        raise ValueError(
            f"{operation}: got {what} for a model that cannot continue a sequence from a carried state: {why}"
        ) from error


@dataclass(frozen=True)
class Piece:
    """Consecutive segments through which gradients flow back together."""

    segments: Sequence[Segment]
    carry: bool = False  # start from the state that the piece before handed on, instead of zeros
    learn: bool = True  # False: run forward only, to advance the state
    hand_on: bool = True  # hand on the state after the first segment; False: the state this piece started from

    @property
    def rows(self) -> int:
        """Those of its batch."""
        return len(self.segments[0].x[0])

    def shard(self, begin: int, end: int) -> Piece:
        """Rows `begin` to `end` of it."""
        return replace(self, segments=[one.shard(begin, end) for one in self.segments])

    def own(self) -> Piece:
        """A copy with its own arrays, for sources that overwrite their buffers."""
        return replace(self, segments=[one.own() for one in self.segments])
