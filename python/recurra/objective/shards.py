"""The gradient of a step as a sum over shards of its batches, by a fixed tree: the same bits wherever each shard is
computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from recurra.common.typing import State
from recurra.layers.normalisation import StatisticsNorm
from recurra.losses import LossValue
from recurra.objective.recorder import Recorded, Recorder
from recurra.running.gradients import FlatGradients
from recurra.running.state import joined, rows_of

if TYPE_CHECKING:
    from recurra.objective.goal import Goal
    from recurra.objective.metric_group import MetricGroup
    from recurra.objective.pieces import Piece
    from recurra.objective.trainable import Trainable

_Part = TypeVar("_Part")


def bounds(rows: int, shards: int) -> list[tuple[int, int]]:
    """The rows of each shard of a batch: contiguous, as equal as can be, some empty if there are more shards than
    rows."""
    ends = [rows * index // shards for index in range(shards + 1)]
    return list(pairwise(ends))


def tree_sum(parts: Sequence[_Part], add: Callable[[_Part, _Part], _Part]) -> _Part:
    """The sum of the first half (the smaller one of an odd number), which is such a sum, and of the second."""
    if len(parts) == 1:
        return parts[0]
    half = len(parts) // 2
    return add(tree_sum(parts[:half], add), tree_sum(parts[half:], add))


def check_shardable(model: Trainable) -> None:
    """Refuse a model that computes something from all rows of a batch together."""
    for prefix, layer in model.leaves:
        if isinstance(layer, StatisticsNorm) and layer.is_trainable:
            raise ValueError(
                f"fit: got shards for a model with {layer.label} (layer {prefix.rstrip('.')}), expected none, as it "
                "normalises over all rows of a batch and a shard has a part of them; use LayerNorm, set trainable = "
                "False on it, or leave shards out"
            )


class ShardedRecorder:
    """A `Recorder` for each shard, with gradients of its own, used as one.

    Attributes: counts, state, done, as those of a Recorder.
    """

    def __init__(
        self,
        model: Trainable,
        goal: Goal,
        metrics: MetricGroup | None,
        memory_budget: int | None,
        shards: Sequence[FlatGradients],
    ) -> None:
        check_shardable(model)  # a callback may have changed `trainable`
        self._model, self._shards = model, shards
        for grads in shards:
            grads.zero()
        self._recorders = [Recorder(model, goal, metrics, memory_budget, grads) for grads in shards]
        self._outputs = len(model.output_infos())
        self.state: State = None
        self.done: list[Recorded] = []

    @property
    def counts(self) -> list[float]:
        """What each output's loss counted in all pieces so far."""
        return tree_sum([recorder.counts for recorder in self._recorders], _add_each)

    def totals(self, pieces: Sequence[Piece]) -> list[float] | None:
        """What each output's loss will count in all pieces; None where it need not be known in advance."""
        if self._outputs == 1:
            return None
        cut = [[piece.shard(*part) for part in bounds(piece.rows, len(self._shards))] for piece in pieces]
        counts = [recorder.counted(own) for recorder, own in zip(self._recorders, zip(*cut, strict=True), strict=True)]
        return tree_sum(counts, _add_each)

    def record(self, piece: Piece, state: State, seed: int, totals: Sequence[float] | None = None) -> list[LossValue]:
        """Add the gradients of a piece whose initial state is `state`; returns the values of its losses."""
        rows, states = piece.rows, []
        found: list[list[LossValue]] = []
        for index, (recorder, (begin, end)) in enumerate(
            zip(self._recorders, bounds(rows, len(self._shards)), strict=True)
        ):
            if begin == end and (rows or index):
                found.append([LossValue(0.0, 0.0, None)] * self._outputs)
                continue
            own = rows_of(state, begin, end)
            found.append(recorder.record(piece.shard(begin, end), own, seed, totals, begin))
            states.append(recorder.state)
            self.done.append(recorder.done[-1])
        self.state = joined(states)
        if not piece.learn:
            return []
        return [tree_sum(parts, _add_values) for parts in zip(*found, strict=True)]

    def finish(self) -> None:
        """Add the sum over the shards to the model's gradients."""
        self._model.grads.add(tree_sum(self._shards, _add_gradients))


def make_recorder(
    model: Trainable,
    goal: Goal,
    metrics: MetricGroup | None,
    memory_budget: int | None,
    shards: Sequence[FlatGradients],
) -> Recorder | ShardedRecorder:
    """The recorder of a step; without shards, one that adds to the model's own gradients."""
    if not shards:
        return Recorder(model, goal, metrics, memory_budget)
    return ShardedRecorder(model, goal, metrics, memory_budget, shards)


def _add_each(one: list[float], other: list[float]) -> list[float]:
    return [first + second for first, second in zip(one, other, strict=True)]


def _add_values(one: LossValue, other: LossValue) -> LossValue:
    return LossValue(one.sum + other.sum, one.count + other.count, None, one.left_out + other.left_out)


def _add_gradients(one: Any, other: Any) -> Any:
    one.add(other)
    return one
