"""The base class of custom losses."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from recurra.common import checks
from recurra.common.typing import Array
from recurra.losses.loss import Checked, Loss, LossValue
from recurra.losses.step_loss import count_steps, counted_steps, spread


class CustomLoss(Loss):
    """The base class of custom losses that are a mean over steps.

        >>> class Poisson(rc.losses.CustomLoss):
        ...     def compute(self, predictions, targets):
        ...         rate = np.exp(predictions)
        ...         return (rate - targets * predictions).mean(), (rate - targets) / rate.size
        >>> value = Poisson()(np.zeros((2, 5, 1)), np.ones((2, 5, 1)), lengths=[5, 2])
        >>> value.mean, value.count
        (1.0, 7)

    `compute` gets the valid steps of a batch, concatenated and read-only: predictions (M, F) and targets (M,) or
    (M, ...), without padding and steps of weight 0. The mean over several batches, also ragged ones, is over all their
    steps. Integer and bool targets are converted to int64, others to the predictions' dtype. Store options in
    attributes: a resumed run compares them. All weights above 0 must be equal; for different weights derive from
    `recurra.losses.Loss`.
    """

    @abstractmethod
    def compute(self, predictions: Array, targets: Array) -> tuple[float, Array]:
        """The mean loss over the given steps, and its gradient with respect to the predictions, (M, F)."""

    def convert(self, operation: str, name: str, targets: Array, dtype: np.dtype[Any]) -> Array:
        """Targets as int64 if they are integers or bool, else in the predictions' dtype."""
        return checks.int64(targets) if targets.dtype.kind in "iub" else targets.astype(dtype, copy=False)

    def check(
        self,
        operation: str,
        name: str,
        shape: tuple[int, ...],
        targets: Array,
        lengths: Array | None = None,
        weights: Array | None = None,
    ) -> None:
        """Refuse targets whose rows or steps differ from those of the predictions."""
        if targets.shape[: len(shape) - 1] != shape[:-1]:
            raise ValueError(
                f"{operation}: got {name} of shape {targets.shape}, expected {(*shape[:-1], '...')} for predictions of "
                f"shape {shape}; give a target for each step"
            )

    def _count(
        self, operation: str, shape: tuple[int, ...], targets: Array, lengths: Array | None, weights: Array | None
    ) -> float:
        return count_steps(shape[:-1], lengths, weights)

    def _compute(self, operation: str, batch: Checked, gradient: bool) -> LossValue:
        x, targets, lengths, weights = batch
        counted = counted_steps(x.shape, lengths, weights)
        which = np.ones(x.shape[:-1], bool) if counted is None else counted
        each = 1.0 if weights is None else self._weight(operation, weights, which)
        count = self._count(operation, x.shape, targets, lengths, weights)
        made = np.zeros_like(x)
        if not which.any():
            return LossValue(0.0, count, made if gradient else None)
        seen, wanted = x[which], targets[which]
        for array in (seen, wanted):
            array.flags.writeable = False
        mean, own = self._checked_result(operation, self.compute(seen, wanted), seen)
        made[which] = own * (each * len(seen))
        return LossValue(mean * each * len(seen), count, made if gradient else None)

    def _weight(self, operation: str, weights: Array, which: Array) -> float:
        """The common weight of all steps that count."""
        used = spread(weights, which.shape)[which]
        if used.size and (used != used[0]).any():
            raise ValueError(
                f"{operation}: got different weights for {self._name}, expected equal weights, or 0, as it returns the "
                "mean of all steps; leave the weights out, or derive from recurra.losses.Loss"
            )
        return float(used[0]) if used.size else 0.0

    def _checked_result(self, operation: str, result: Any, predictions: Array) -> tuple[float, Array]:
        said = (
            f"{operation}: got {{}} from {self._name}, expected the pair of a number and its gradient, "
            f"{predictions.shape}"
        )
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise TypeError(self._said_of(operation, result, predictions))
        try:
            mean = float(result[0])
        except (TypeError, ValueError) as error:
            raise TypeError(f"{said.format(f'{result[0]!r:.60} as the mean')}; return a number") from error
        gradient = checks.numeric(operation, f"the gradient of {self._name}", result[1])
        if gradient.shape != predictions.shape:
            raise ValueError(
                f"{said.format(f'a gradient of shape {gradient.shape}')}; return one number for each prediction"
            )
        return mean, gradient.astype(predictions.dtype, copy=False)

    def _said_of(self, operation: str, result: Any, predictions: Array) -> str:
        """Of a result that is no pair."""
        shape, differentiated = np.shape(result), isinstance(result, np.ndarray) and result.ndim
        got = f"one value per element, of shape {shape}," if differentiated else f"{result!r:.60}"
        how = "return mean, gradient"
        if differentiated:
            how = "take the mean over all of them, and return mean, gradient"
        return (
            f"{operation}: got {got} from {self._name}, expected the pair of a number and its gradient, "
            f"{predictions.shape}; {how}{self._else}"
        )

    #: What else may be returned.
    _else = ""

    @property
    def _name(self) -> str:
        return f"{type(self).__name__}.compute"
