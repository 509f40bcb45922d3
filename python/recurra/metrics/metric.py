"""What all metrics are: batches go in, one number comes out."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from recurra.common import checks
from recurra.common.structure import plain
from recurra.common.typing import Array, Lengths, Rows
from recurra.losses import Loss
from recurra.losses.step_loss import counted_steps, spread

if TYPE_CHECKING:
    from typing_extensions import Self

    from recurra.layers.layer import Layer


class Metric(ABC):
    """A number over all batches since the last `reset()`.

    A metric of one's own derives from this and has `update`, `result` and `reset`, which its `__init__` calls at the
    end; `name` and `mode` may be attributes of the class. One for `weighted_metrics` has an `update` that also takes
    `weights=None`, as those of this module.

    Attributes: name, under which it is found in a history; mode, "max" if more is better, "min" if less is.
    """

    name: str
    mode: str

    def check_model(self, operation: str, model: Layer) -> None:  # noqa: B027 - most have nothing to ask for
        """Refuse a model that the metric is not of."""

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
        own = self.state_dict()
        if state.keys() != own.keys():
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: got {', '.join(state)}, expected {', '.join(own)}; give a state_dict() "
                f"of a metric with the same options"
            )
        vars(self).update(state)

    def config(self) -> dict[str, Any]:
        """Class and options as plain data: all attributes whose names do not begin with _, and those of losses."""
        public = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        losses = {name: vars(value) for name, value in vars(self).items() if isinstance(value, Loss)}
        return {"class": type(self).__name__, **plain(public), **plain(losses)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"


class Valid(NamedTuple):
    """The steps of a batch that count, one behind the other: predictions (M, F); targets (M,) or (M, F); weights (M,), all
    above 0, or None where each is 1."""

    predictions: Array
    targets: Array
    weights: Array | None

    def chosen(self, which: Array) -> Valid:
        """Some of the steps."""
        return Valid(
            self.predictions[which], self.targets[which], None if self.weights is None else self.weights[which]
        )


class Read(Metric):
    """A metric that reads what a loss reads, with its checks."""

    def __init__(self, name: str | None, default: str, loss: Loss) -> None:
        self.name = default if name is None else checked_name(type(self).__name__, name)
        self._loss = loss
        self.reset()

    @abstractmethod
    def update(
        self, predictions: Array, targets: Rows, lengths: Lengths = None, weights: npt.ArrayLike | None = None
    ) -> None:
        """Add a batch.

        Args:
            predictions, targets, lengths: as in `Metric.update`.
            weights: (N,), or with a target at every step (N, T), finite and at least 0: how often a row or step counts.
                What has a weight of 0 is not read, so that its target may be missing (NaN).
        """

    def check_model(self, operation: str, model: Layer) -> None:
        """Refuse a model that the loss is not of."""
        self._loss.check_model(operation, model)

    def reads(self, targets: int, predictions: int) -> Loss:
        """The loss whose targets the metric reads, for arrays of so many axes."""
        return self._loss

    def _valid(
        self,
        predictions: Array,
        targets: Rows,
        lengths: Lengths,
        weights: npt.ArrayLike | None,
        loss: Loss | None = None,
    ) -> Valid:
        name = type(self).__name__
        if not isinstance(targets, list | tuple):  # whoever writes there meanwhile does not reach what was checked
            targets = checks.array(name, "targets", targets).copy()
        batch = (loss or self._loss).read(name, predictions, targets, lengths, weights)
        shape = batch.predictions.shape
        each = None if batch.weights is None else spread(batch.weights, shape[:-1])
        counted = counted_steps(shape, batch.lengths, batch.weights)
        if counted is not None:
            return Valid(batch.predictions[counted], batch.targets[counted], None if each is None else each[counted])
        lead = math.prod(shape[:-1])
        trail = batch.targets.shape[len(shape) - 1 :]
        return Valid(
            batch.predictions.reshape(lead, shape[-1]),
            batch.targets.reshape(lead, *trail),
            None if each is None else each.reshape(lead),
        )

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

    def _add(self, terms: Array, weights: Array | None) -> None:
        """Terms (M, ...), each as often as the weights (M,) say."""
        if weights is None:
            self._sum += float(terms.sum())
            self._count += terms.size
        else:
            self._sum += float(np.tensordot(weights, terms, 1).sum())
            self._count += float(weights.sum()) * math.prod(terms.shape[1:])

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
