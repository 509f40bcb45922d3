"""The loss of a model's outputs, as `fit` counts it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from recurra import checks, data
from recurra.diagnose.subject import Subject
from recurra.losses import Loss, LossValue
from recurra.typing import Array


class Objective:
    """The sum over the outputs of weight times mean loss."""

    def __init__(self, subject: Subject, y: Any, loss: Any, loss_weights: Any = None) -> None:
        operation, self._subject = subject.operation, subject
        self._structure = structure = subject.model.structures[1]
        count = len(subject.graph.outputs)
        self.losses = [loss] * count if isinstance(loss, Loss) else structure.spread(operation, "loss", loss)
        for one in self.losses:
            checks.kind(operation, "loss", one, Loss, "losses.CrossEntropy")
        weights = [1.0] * count if loss_weights is None else structure.spread(operation, "loss_weights", loss_weights)
        self.weights = [checks.number(operation, "loss_weights", weight) for weight in weights]
        self._targets = [
            _padded(operation, structure.label("y", index), one, own)
            for index, (one, own) in enumerate(zip(structure.spread(operation, "y", y), self.losses, strict=True))
        ]

    def outputs(self, y: Any) -> list[Array]:
        """The model's outputs in order."""
        return self._structure.spread(self._subject.operation, "y", y)

    def lengths(self) -> list[Array | None]:
        """The valid steps of each output; None where all are or there is no time."""
        valid = self._subject.valid()
        return [valid[value] for value in self._subject.graph.outputs]

    def values(self, outputs: Sequence[Array], row: int | None = None) -> list[LossValue]:
        """The loss of each output, or of one of its rows."""
        rows = slice(None) if row is None else slice(row, row + 1)
        return [
            loss(one[rows], target[rows], None if valid is None or one.ndim < 3 else valid[rows])
            for loss, one, target, valid in zip(self.losses, outputs, self._targets, self.lengths(), strict=True)
        ]

    def gradient(self, values: Sequence[LossValue]) -> tuple[list[Array | None], float]:
        """dy for each output, and what it is to be multiplied by: 1 for several, which differ in that."""
        if len(values) == 1:
            return [values[0].gradient], self.weights[0] / (values[0].count or 1.0)
        return [
            None
            if value.gradient is None
            else value.gradient * value.gradient.dtype.type(weight / (value.count or 1.0))
            for value, weight in zip(values, self.weights, strict=True)
        ], 1.0

    def join(self, gradients: Sequence[Array | None]) -> Any:
        """dy as `backward` takes it."""
        return self._structure.join(gradients)


def _padded(operation: str, name: str, y: Any, loss: Loss) -> Any:
    """Targets of ragged rows as one array, but for those that the loss pads itself."""
    if not data.is_list(y) or loss.unaligned:
        return y
    rows = [checks.numeric(operation, f"{name}[{index}]", row) for index, row in enumerate(y)]
    if rows and rows[0].ndim == 0:
        return np.asarray(y)
    return data.ragged(operation, rows).batch(slice(None))[0]
