"""What all metrics are: batches go in, one number comes out."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurra import checks
from recurra.losses import Loss
from recurra.typing import Array, Lengths, Rows

if TYPE_CHECKING:
    from typing_extensions import Self


class Metric(ABC):
    """A number over all batches since the last `reset()`.

    A metric of one's own derives from this and has `update`, `result` and `reset`, which its `__init__` calls at the
    end; `name` and `mode` may be attributes of the class.

    Attributes: name, under which it is found in a history; mode, "max" if more is better, "min" if less is.
    """

    name: str
    mode: str

    @abstractmethod
    def update(self, predictions: Array, targets: Rows, lengths: Lengths = None) -> None:
        """Add a batch.

        Args:
            predictions: (N, T, F) or (N, F), float32 or float64, as a loss takes them: logits, not probabilities.
            targets: as the loss takes them.
            lengths: (N,) valid steps of each row; what lies past them does not count. Only with a time axis.

        Raises:
            ValueError, TypeError: the targets do not fit.
        """

    @abstractmethod
    def result(self) -> float:
        """The metric over all that was added; NaN if it is not defined for that, as for nothing at all."""

    @abstractmethod
    def reset(self) -> None:
        """Forget all batches."""

    def fresh(self) -> Self:
        """A metric with the same options, and no batches."""
        twin = copy.copy(self)
        twin.reset()
        return twin

    def state_dict(self) -> dict[str, Any]:
        """The batches so far, for a checkpoint in the middle of an epoch: all attributes whose names begin with _, but for
        losses. They must be arrays and plain data."""
        return {
            name: value for name, value in vars(self).items() if name.startswith("_") and not isinstance(value, Loss)
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()` of a metric with the same options."""
        vars(self).update(state)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"


class Valid(NamedTuple):
    """The valid steps of a batch, one behind the other: predictions (M, F); targets (M,) or (M, F)."""

    predictions: Array
    targets: Array


class Read(Metric):
    """A metric that reads what a loss reads, with its checks."""

    def __init__(self, name: str | None, default: str, loss: Loss) -> None:
        self.name = default if name is None else checked_name(type(self).__name__, name)
        self._loss = loss
        self.reset()

    def _valid(self, predictions: Array, targets: Rows, lengths: Lengths) -> Valid:
        batch = self._loss.read(type(self).__name__, predictions, targets, lengths)
        shape = batch.predictions.shape
        if batch.lengths is not None:
            valid = checks.steps_within(batch.lengths, shape[1])
            return Valid(batch.predictions[valid], batch.targets[valid])
        lead = math.prod(shape[:-1])
        trail = batch.targets.shape[len(shape) - 1 :]
        return Valid(batch.predictions.reshape(lead, shape[-1]), batch.targets.reshape(lead, *trail))

    def _same_size(self, what: str, size: int, before: int) -> None:
        """Refuse a batch whose size is not that of those before it."""
        if size != before:
            raise ValueError(
                f"{type(self).__name__}: got predictions of {size} {what}, expected {before}, as in the batches before; "
                f"call reset() first, or use fresh() for another model"
            )


class Ratio(Read):
    """A metric that is a sum divided by a count."""

    def reset(self) -> None:
        """Forget all batches."""
        self._sum, self._count = 0.0, 0.0

    def result(self) -> float:
        """The sum divided by the count; NaN if there is nothing to count."""
        return self._sum / self._count if self._count else math.nan


def checked_name(operation: str, name: str) -> str:
    """`name`, a text that is not empty."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"{operation}: got name={name!r}, expected a text; write name='accuracy', or leave it out")
    return name


def choose(logits: Array) -> Array:
    """(...,) the class of the largest logit, the first of equal ones; -1 where one is NaN."""
    best = logits.argmax(-1)  # of a NaN, if there is one
    sick = np.isnan(np.take_along_axis(logits, best[..., None], -1)[..., 0])
    chosen: Array = np.where(sick, -1, best)
    return chosen
