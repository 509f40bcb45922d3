"""The loss of a model's outputs, as `fit` computes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recurra.common.typing import Array
from recurra.inspection.subject import Subject
from recurra.losses import LossValue
from recurra.objective.goal import Goal


class Objective:
    """A goal with the targets of all rows."""

    def __init__(
        self, subject: Subject, y: Any, loss: Any, loss_weights: Any = None, sample_weight: Any = None
    ) -> None:
        operation, self._subject = subject.operation, subject
        self.goal = Goal(operation, subject.model, loss, loss_weights)
        self._targets, self._weights = self.goal.targets(operation, subject.feed, y, sample_weight).batch(slice(None))

    def outputs(self, y: Any) -> list[Array]:
        """The model's outputs in order."""
        return self.goal.structure.spread(self._subject.operation, "y", y)

    def lengths(self) -> list[Array | None]:
        """The lengths of each output; None where every step is valid or there is no time axis."""
        valid = self._subject.valid()
        return [valid[value] for value in self._subject.graph.outputs]

    def values(self, outputs: Sequence[Array], row: int | None = None) -> list[LossValue]:
        """The loss of each output, over all rows or one."""
        rows = slice(None) if row is None else slice(row, row + 1)
        return [
            loss(
                one[rows],
                target[rows],
                None if valid is None or one.ndim < 3 else valid[rows],
                weights=None if weight is None else weight[rows],
            )
            for loss, one, target, weight, valid in zip(
                self.goal.losses, outputs, self._targets, self._weights, self.lengths(), strict=True
            )
        ]

    def gradient(self, values: Sequence[LossValue]) -> tuple[list[Array | None], float]:
        """dy for each output, and the scale to multiply it by."""
        counts = [value.count for value in values]
        return self.goal.gradients(values, counts), self.goal.scale(counts)

    def mean(self, values: Sequence[LossValue]) -> float:
        """The weighted sum of the outputs' mean losses."""
        return self.goal.mean(values).value

    def join(self, gradients: Sequence[Array | None]) -> Any:
        """dy as `backward` takes it."""
        return self.goal.structure.join(gradients)
