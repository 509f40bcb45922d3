"""What all losses are: the sum over the valid elements, their count and the gradient of the sum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from recurra import checks
from recurra.typing import Array, Lengths, Rows


@dataclass(frozen=True)
class LossValue:
    """A loss over a batch.

    Attributes: sum, over the valid elements; count, how many they are, or, where they have weights, the sum of these;
    gradient, of the sum with respect to the predictions, of their shape, 0 past the lengths (None if not asked for).
    """

    sum: float
    count: float
    gradient: Array | None

    @property
    def mean(self) -> float:
        """sum / count; 0 if there is nothing to count."""
        return self.sum / self.count if self.count else 0.0


class Loss(ABC):
    """`loss(predictions, targets, lengths=None)`, with predictions (N, T, F), or (N, F) without a time axis."""

    #: Whether a row's targets are as long as they are, not one for each step: a list of them is padded with `padding`.
    unaligned: ClassVar[bool] = False
    padding: ClassVar[int] = 0

    def __call__(
        self, predictions: Array, targets: Rows, lengths: Lengths = None, *, gradient: bool = True
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
        array = self._read(name, "targets", targets, predictions.dtype)
        self.check(name, "targets", predictions.shape, array, valid)
        return LossValue(*self._compute(predictions, array, valid, gradient))

    def _read(self, operation: str, name: str, targets: Rows, dtype: np.dtype[Any]) -> Array:
        return self.convert(operation, name, checks.numeric(operation, name, targets), dtype)

    @abstractmethod
    def convert(self, operation: str, name: str, targets: Array, dtype: np.dtype[Any]) -> Array:
        """The targets in the dtype that the loss reads; `dtype` is that of the predictions."""

    def check(
        self, operation: str, name: str, shape: tuple[int, ...], targets: Array, lengths: Array | None = None
    ) -> None:
        """Refuse converted targets that do not fit predictions of `shape`."""
        expected = self._target_shape(operation, shape)
        if targets.shape != expected:
            hint = self._hint(name, targets.shape, expected, len(shape) == 3)
            raise ValueError(
                f"{operation}: got {name} of shape {targets.shape}, expected {expected} for predictions of shape {shape}; "
                f"{hint}"
            )
        valid = targets if lengths is None else targets[np.arange(shape[1]) < lengths[:, None]]
        if valid.size:
            self._check_values(operation, name, valid, shape[-1])

    def _target_shape(self, operation: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The targets' shape for predictions of `shape`, which are refused if they cannot be right."""
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
    ) -> tuple[float, float, Array | None]:
        """The native call."""
