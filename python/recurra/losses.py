"""Losses: each gives the sum over the valid elements, their count and the gradient of the sum.

Means are sum / count, so that they are exact over ragged batches, accumulated steps and several workers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from recurra import _core, checks
from recurra.typing import Array, Lengths

__all__ = ["BinaryCrossEntropy", "CrossEntropy", "Loss", "LossValue", "MeanSquaredError"]


@dataclass(frozen=True)
class LossValue:
    """A loss over a batch.

    Attributes: sum, over the valid elements; count, how many they are; gradient, of the sum with respect to the
    predictions, of their shape, 0 past the lengths (None if not asked for).
    """

    sum: float
    count: int
    gradient: Array | None

    @property
    def mean(self) -> float:
        """sum / count; 0 if there is nothing to count."""
        return self.sum / self.count if self.count else 0.0


class Loss(ABC):
    """`loss(predictions, targets, lengths=None)`, with predictions (N, T, F), or (N, F) without a time axis."""

    def __call__(
        self, predictions: Array, targets: npt.ArrayLike, lengths: Lengths = None, *, gradient: bool = True
    ) -> LossValue:
        """The loss of a batch.

        Args:
            predictions: (N, T, F) or (N, F), float32 or float64.
            targets: see the class.
            lengths: (N,) valid steps of each row; what lies past them does not count. Only with a time axis.
            gradient: whether to compute it.

        Raises:
            ValueError, TypeError: the targets do not fit.
        """
        name = type(self).__name__
        predictions = checks.array(name, "predictions", predictions)
        if predictions.dtype not in (np.float32, np.float64):
            raise TypeError(
                f"{name}: got predictions of {predictions.dtype}, expected float32 or float64; "
                f"write predictions.astype(np.float32)"
            )
        if predictions.ndim not in (2, 3) or (lengths is not None and predictions.ndim == 2):
            raise ValueError(
                f"{name}: got predictions of shape {predictions.shape}{'' if lengths is None else ' and lengths'}, expected "
                f"(N, T, F), or (N, F) without lengths; reshape the predictions or leave lengths out"
            )
        valid = None if lengths is None else checks.lengths_within(name, lengths, *predictions.shape[:2])
        array = self.convert(name, "targets", checks.numeric(name, "targets", targets), predictions.dtype)
        self.check(name, "targets", predictions.shape, array, valid)
        return LossValue(*self._compute(predictions, array, valid, gradient))

    @abstractmethod
    def convert(self, operation: str, name: str, targets: Array, dtype: np.dtype[Any]) -> Array:
        """The targets in the dtype that the loss reads; `dtype` is that of the predictions."""

    def check(
        self, operation: str, name: str, shape: tuple[int, ...], targets: Array, lengths: Array | None = None
    ) -> None:
        """Refuse converted targets that do not fit predictions of `shape`."""
        expected = self._target_shape(shape)
        if targets.shape != expected:
            hint = self._hint(name, targets.shape, expected, len(shape) == 3)
            raise ValueError(
                f"{operation}: got {name} of shape {targets.shape}, expected {expected} for predictions of shape {shape}; "
                f"{hint}"
            )
        valid = targets if lengths is None else targets[np.arange(shape[1]) < lengths[:, None]]
        if valid.size:
            self._check_values(operation, name, valid, shape[-1])

    def _target_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def _hint(self, name: str, got: tuple[int, ...], expected: tuple[int, ...], has_time: bool) -> str:
        if (*got, 1) == expected:
            return f"write {name}[..., None]"
        if got == (*expected, 1):
            return f"write {name}[..., 0]"
        if has_time and len(got) == len(expected) - 1:
            return "for one target per row, make the last recurrent layer with return_sequences=False"
        if not has_time and len(got) == len(expected) + 1:
            return "for a target at every step, leave return_sequences=True in the recurrent layers"
        return f"reshape {name}, or change the size of the last layer"

    @abstractmethod
    def _check_values(self, operation: str, name: str, valid: Array, features: int) -> None:
        """Refuse values out of range."""

    @abstractmethod
    def _compute(
        self, predictions: Array, targets: Array, lengths: Array | None, gradient: bool
    ) -> tuple[float, int, Array | None]:
        """The native call."""


class CrossEntropy(Loss):
    """Softmax cross-entropy, -log softmax(logits)[label], in nats, summed over the labels.

    Predictions are logits (N, T, C) or (N, C); targets are integer labels (N, T) or (N,), from 0 to C - 1.
    """

    def convert(self, operation: str, name: str, targets: Array, dtype: np.dtype[Any]) -> Array:
        """int64 labels."""
        if targets.dtype.kind not in "iu":
            raise TypeError(
                f"{operation}: got {name} of {targets.dtype}, expected integer labels for CrossEntropy; write "
                f"{name}.astype(np.int64), or {name}.argmax(-1) if they are one-hot; for real values use MeanSquaredError"
            )
        return targets.astype(np.int64, copy=False)

    def _target_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[:-1]

    def _hint(self, name: str, got: tuple[int, ...], expected: tuple[int, ...], has_time: bool) -> str:
        one_hot = len(got) == len(expected) + 1 and got[:-1] == expected and got[-1] > 1
        return (
            f"write {name}.argmax(-1) if they are one-hot" if one_hot else super()._hint(name, got, expected, has_time)
        )

    def _check_values(self, operation: str, name: str, valid: Array, features: int) -> None:
        low, high = int(valid.min()), int(valid.max())
        if low < 0 or high >= features:
            raise ValueError(
                f"{operation}: got labels from {low} to {high} in {name}, expected 0 to {features - 1}, as the predictions "
                f"have {features} classes; number the labels from 0, or make the last layer give {high + 1} features"
            )

    def _compute(
        self, predictions: Array, targets: Array, lengths: Array | None, gradient: bool
    ) -> tuple[float, int, Array | None]:
        return _core.softmax_cross_entropy(predictions, targets, lengths, gradient)


class BinaryCrossEntropy(Loss):
    """-t log sigmoid(x) - (1 - t) log(1 - sigmoid(x)), in nats, summed over all elements.

    Predictions are logits x; targets t, from 0 to 1 (or bool), have their shape.
    """

    def convert(self, operation: str, name: str, targets: Array, dtype: np.dtype[Any]) -> Array:
        """The predictions' dtype."""
        return targets.astype(dtype, copy=False)

    def _check_values(self, operation: str, name: str, valid: Array, features: int) -> None:
        low, high = float(valid.min()), float(valid.max())
        if not (low >= 0.0 and high <= 1.0):  # so that NaN is refused, too
            raise ValueError(
                f"{operation}: got values from {low:g} to {high:g} in {name}, expected 0 to 1 for BinaryCrossEntropy; "
                f"scale them, or use CrossEntropy for several classes"
            )

    def _compute(
        self, predictions: Array, targets: Array, lengths: Array | None, gradient: bool
    ) -> tuple[float, int, Array | None]:
        return _core.binary_cross_entropy(predictions, targets, lengths, gradient)


class MeanSquaredError(Loss):
    """(x - t)^2, summed over all elements; its mean is over elements, as PyTorch's. Targets have the predictions' shape."""

    def convert(self, operation: str, name: str, targets: Array, dtype: np.dtype[Any]) -> Array:
        """The predictions' dtype."""
        return targets.astype(dtype, copy=False)

    def _check_values(self, operation: str, name: str, valid: Array, features: int) -> None:
        if not np.isfinite(valid).all():
            raise ValueError(
                f"{operation}: got NaN or infinity in {name}, expected finite numbers; fill gaps in, or give lengths"
            )

    def _compute(
        self, predictions: Array, targets: Array, lengths: Array | None, gradient: bool
    ) -> tuple[float, int, Array | None]:
        return _core.mean_squared_error(predictions, targets, lengths, gradient)
