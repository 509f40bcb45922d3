"""Forward and backward through one piece after another, up to an optimiser step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurra.common import seeds
from recurra.common.typing import State
from recurra.losses import LossValue
from recurra.objective.goal import Goal
from recurra.objective.metric_group import MetricGroup
from recurra.objective.pieces import Piece, Segment
from recurra.running.gradients import Gradients
from recurra.running.state import copied
from recurra.running.tape import Tape

if TYPE_CHECKING:
    from recurra.objective.trainable import Trainable


class Recorded(NamedTuple):
    """A piece, with the initial state and the seed it was recorded with."""

    piece: Piece
    state: State
    seed: int
    first_row: int


class Recorder:
    """Accumulates the gradients of several pieces, in `grads` or in the model's own.

    Attributes: counts, what each output's loss counted in all pieces so far; state, the state that the last piece hands
    on; done, the pieces so far.
    """

    def __init__(
        self,
        model: Trainable,
        goal: Goal,
        metrics: MetricGroup | None = None,
        memory_budget: int | None = None,
        grads: Gradients | None = None,
    ) -> None:
        self._model, self._goal, self._metrics, self._budget = model, goal, metrics, memory_budget
        self._grads = grads
        self._inputs, self._outputs = model.structures
        self.counts = [0.0] * len(model.output_infos())
        self.state: State = None
        self.done: list[Recorded] = []

    def totals(self, pieces: Sequence[Piece]) -> list[float] | None:
        """What each output's loss will count in all pieces; None where it need not be known in advance."""
        return None if len(pieces) == 1 or len(self.counts) == 1 else self.counted(pieces)

    def counted(self, pieces: Sequence[Piece]) -> list[float]:
        """What each output's loss will count in all pieces, found without running them."""
        totals = [0.0] * len(self.counts)
        for segment in (one for piece in pieces if piece.learn and piece.rows for one in piece.segments):
            for index, count in enumerate(self._goal.counts(segment)):
                totals[index] += count
        return totals

    def record(
        self, piece: Piece, state: State, seed: int, totals: Sequence[float] | None = None, first_row: int = 0
    ) -> list[LossValue]:
        """Add the gradients of a piece whose initial state is `state`; returns the values of its losses."""
        self.done.append(Recorded(piece, state, seed, first_row))
        if not piece.learn:
            for segment in piece.segments:
                x, lengths, reset = self._given(segment)
                _y, state = self._model(x, state=state, lengths=lengths, reset=reset)
            self.state = state
            return []
        tapes: list[Tape] = []
        values: list[list[LossValue]] = []
        handed_on = state
        for index, segment in enumerate(piece.segments):
            x, lengths, reset = self._given(segment)
            tape = self._model.record(
                x,
                state=handed_on if not index else tapes[-1].state,
                lengths=lengths,
                reset=reset,
                input_grad=False,
                seed=seeds.derive(seed, index),
                memory_budget=self._budget,
                first_row=first_row,
            )
            tapes.append(tape)
            values.append(self._goal.values(self._outputs.spread("fit", "y", tape.y), segment, self._metrics))
        self.state = copied(tapes[0].state) if piece.hand_on else handed_on
        sums = [_total(parts) for parts in zip(*values, strict=True)]
        counts = [value.count for value in sums]
        self.counts = [before + count for before, count in zip(self.counts, counts, strict=True)]
        if any(counts):
            self._backward(tapes, values, counts if totals is None else totals)
        return sums

    def _given(self, segment: Segment) -> tuple[Any, Any, Any]:
        join = self._inputs.join
        return join(segment.x), join(segment.lengths), join(segment.resets)

    def _backward(self, tapes: Sequence[Tape], values: Sequence[Sequence[LossValue]], counts: Sequence[float]) -> None:
        dstate: State = None
        for tape, parts in zip(reversed(tapes), reversed(values), strict=True):
            _dx, dstate = tape.backward(self._outputs.join(self._goal.gradients(parts, counts)), dstate, self._grads)

    def finish(self) -> None:
        """All pieces of a step are recorded; nothing is left to do."""


def _total(parts: Sequence[LossValue]) -> LossValue:
    if len(parts) == 1:
        return parts[0]
    sums, counts, left_out = zip(*((part.sum, part.count, part.left_out) for part in parts), strict=True)
    return LossValue(float(np.sum(sums)), sum(counts), None, sum(left_out))
