"""The base classes of metrics."""

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

    A custom metric derives from this class and defines `update`, `result` and `reset`, which its `__init__` calls at
    the end; `name` and `mode` may be class attributes. For `weighted_metrics`, `update` must also take `weights=None`,
    as the metrics of this module do.

    Attributes: name, the key in the history; mode, "max" if higher values are better, "min" if lower ones are.

    Example:
        >>> metric = rc.metrics.Accuracy()
        >>> metric.update(np.array([[2.0, 1.0]]), np.array([0]))
        >>> metric.update(np.array([[2.0, 1.0]]), np.array([1]))
        >>> metric.result()
        0.5
    """

    name: str
    mode: str

    def check_model(self, operation: str, model: Layer) -> None:  # noqa: B027 - most have nothing to ask for
        """Refuse a model that the metric does not fit."""

    @abstractmethod
    def update(self, predictions: Any, targets: Rows, lengths: Lengths = None) -> None:
        """Add a batch.

        Args:
            predictions: (N, T, F) or (N, F), float32 or float64, as for a loss: logits, not probabilities; or a list of
                arrays (T_n, F), as `predict` returns them.
            targets: as for the loss.
            lengths: (N,) valid steps of each row; steps past them do not count. Only with a time axis.

        Raises:
            ValueError, TypeError: targets that do not fit the predictions.
        """

    @abstractmethod
    def result(self) -> float:
        """The metric over all batches added; NaN where it is undefined, as without any batch."""

    @abstractmethod
    def reset(self) -> None:
        """Reset to no batches."""

    def fresh(self) -> Self:
        """A new metric with the same options and no batches."""
        twin = copy.copy(self)
        twin.reset()
        return twin

    def state_dict(self) -> dict[str, Any]:
        """The accumulated state, for a checkpoint in the middle of an epoch: all attributes whose names begin with _,
        except losses. They must be arrays and plain data."""
        return {
            name: value for name, value in vars(self).items() if name.startswith("_") and not isinstance(value, Loss)
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state from a `state_dict()` of a metric with the same options."""
        own = self.state_dict()
        if state.keys() != own.keys():
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: got {', '.join(state)}, expected {', '.join(own)}; give a "
                "state_dict() of a metric with the same options"
            )
        vars(self).update(state)

    def config(self) -> dict[str, Any]:
        """Class and options as plain data: all attributes whose names do not begin with _, and the options of
        losses."""
        public = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        losses = {name: vars(value) for name, value in vars(self).items() if isinstance(value, Loss)}
        return {"class": type(self).__name__, **plain(public), **plain(losses)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r})"


class Valid(NamedTuple):
    """The M steps of a batch that count, concatenated: predictions (M, F); targets (M,) or (M, F); weights (M,), all
    above 0, or None if all are 1."""

    predictions: Array
    targets: Array
    weights: Array | None

    def chosen(self, which: Array) -> Valid:
        """The steps where the mask `which` is true."""
        return Valid(
            self.predictions[which], self.targets[which], None if self.weights is None else self.weights[which]
        )


class Read(Metric):
    """A metric that takes the arguments of a loss, with the loss's checks."""

    def __init__(self, name: str | None, default: str, loss: Loss) -> None:
        self.name = default if name is None else checked_name(type(self).__name__, name)
        self._loss = loss
        self.reset()

    @abstractmethod
    def update(
        self, predictions: Any, targets: Rows, lengths: Lengths = None, weights: npt.ArrayLike | None = None
    ) -> None:
        """Add a batch.

        Args:
            predictions, targets, lengths: as in `Metric.update`.
            weights: (N,), or (N, T) with a target at every step, finite and at least 0: how often a row or step counts.
                Targets of weight 0 are not read, and may be missing (NaN).
        """

    def check_model(self, operation: str, model: Layer) -> None:
        """Refuse a model that the loss does not fit."""
        self._loss.check_model(operation, model)

    def reads(self, targets: int, predictions: int) -> Loss:
        """The loss whose arguments the metric takes, given the number of axes of targets and predictions."""
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
        if not isinstance(targets, list | tuple):  # a copy, as another thread may write to them after the checks
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
        """Refuse a batch whose size differs from the batches before."""
        if size != before:
            raise ValueError(
                f"{type(self).__name__}: got predictions of {size} {what}, expected {before}, as in the batches "
                "before; call reset() first, or use fresh() for another model"
            )


class Ratio(Read):
    """A metric that is a sum divided by a count."""

    def reset(self) -> None:
        """Reset to no batches."""
        self._sum, self._count = 0.0, 0.0

    def _add(self, terms: Array, weights: Array | None) -> None:
        """Add terms (M, ...), multiplied by the weights (M,)."""
        if weights is None:
            self._sum += float(terms.sum())
            self._count += terms.size
        else:
            self._sum += float(np.tensordot(weights, terms, 1).sum())
            self._count += float(weights.sum()) * math.prod(terms.shape[1:])

    def result(self) -> float:
        """The sum divided by the count; NaN if the count is 0."""
        return self._sum / self._count if self._count else math.nan


def checked_name(operation: str, name: str) -> str:
    """`name`, if it is a non-empty string."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"{operation}: got name={name!r}, expected a string; write name='accuracy', or leave it out")
    return name


def choose(logits: Array) -> Array:
    """(...,) the class of the largest logit, the first of equal ones; -1 where a logit is NaN."""
    best = logits.argmax(-1)  # the index of a NaN, if there is one
    sick = np.isnan(np.take_along_axis(logits, best[..., None], -1)[..., 0])
    chosen: Array = np.where(sick, -1, best)
    return chosen
