"""Losses that are sums over steps, with a target at every step."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from recurra.common import checks
from recurra.common.typing import Array
from recurra.losses.loss import Checked, Loss, LossValue


class StepLoss(Loss):
    """A loss with a target at every step."""

    def check(
        self,
        operation: str,
        name: str,
        shape: tuple[int, ...],
        targets: Array,
        lengths: Array | None = None,
        weights: Array | None = None,
    ) -> None:
        """Refuse converted targets that do not fit predictions of `shape`, unless they do not count."""
        expected = self._target_shape(operation, shape)
        if targets.shape != expected:
            hint = self._hint(name, targets.shape, expected, shape)
            raise ValueError(
                f"{operation}: got {name} of shape {targets.shape}, expected {expected} for predictions of shape "
                f"{shape}; {hint}"
            )
        counted = counted_steps(shape, lengths, weights)
        valid = targets if counted is None else targets[counted]
        if valid.size:
            self._check_values(operation, name, valid, shape[-1])

    def _target_shape(self, operation: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The targets' shape for predictions of `shape`; raises ValueError for an impossible `shape`."""
        return shape

    def _hint(self, name: str, got: tuple[int, ...], expected: tuple[int, ...], shape: tuple[int, ...]) -> str:
        has_time = len(shape) == 3
        if (*got, 1) == expected:
            return f"write {name}[..., None]"
        if got == (*expected, 1):
            return f"write {name}[..., 0]"
        if got == expected[:-1] and len(expected) == len(shape):
            return (
                f"for labels of {shape[-1]} classes use CrossEntropy; for one number each give the last layer fewer "
                f"features, and write {name}[..., None]"
            )
        if has_time and len(got) == len(expected) - 1:
            return "for one target per row, make the last recurrent layer with return_sequences=False"
        if not has_time and len(got) == len(expected) + 1:
            return "for a target at every step, leave return_sequences=True in the recurrent layers"
        return f"reshape {name}, or change the size of the last layer"

    @abstractmethod
    def _check_values(self, operation: str, name: str, valid: Array, features: int) -> None:
        """Refuse targets out of range."""

    def _compute(self, operation: str, batch: Checked, gradient: bool) -> LossValue:
        total, gradients = self._sum(*batch, gradient)
        return LossValue(total, self._count(operation, batch.predictions.shape, *batch[1:]), gradients)

    @abstractmethod
    def _sum(
        self, predictions: Array, targets: Array, lengths: Array | None, weights: Array | None, gradient: bool
    ) -> tuple[float, Array | None]:
        """The native call: the sum and, if requested, its gradient."""

    def _count(
        self, operation: str, shape: tuple[int, ...], targets: Array, lengths: Array | None, weights: Array | None
    ) -> float:
        return self._terms(shape) * count_steps(shape[:-1], lengths, weights)

    def _terms(self, shape: tuple[int, ...]) -> int:
        """The number of terms of each step, for predictions of `shape`."""
        return self._target_shape(type(self).__name__, shape)[-1]


def as_numbers(targets: Array, dtype: np.dtype[Any]) -> Array:
    """Targets as `dtype`; numbers out of its range become infinite, and are refused later if they count."""
    with np.errstate(over="ignore"):
        return targets.astype(dtype, copy=False)


def count_steps(shape: tuple[int, ...], lengths: Array | None, weights: Array | None) -> float:
    """The number of valid steps, (N, T) or (N,), or the sum of their weights."""
    steps = shape[1] if len(shape) > 1 else 1
    if weights is None:
        return shape[0] * steps if lengths is None else int(lengths.sum())
    if weights.ndim == 2:  # 0 at padding
        return float(weights.sum())
    return float((weights * (steps if lengths is None else lengths)).sum())


def spread(weights: Array, lead: tuple[int, ...]) -> Array:
    """The weights of all steps, in the shape `lead`, from weights of steps or rows."""
    return weights if weights.ndim == len(lead) else np.broadcast_to(weights[:, None], lead)


def counted_steps(shape: tuple[int, ...], lengths: Array | None, weights: Array | None) -> Array | None:
    """A mask, (N, T) or (N,), of the steps that count for predictions of `shape`; None if all do."""
    counted = None
    if lengths is not None:
        counted = checks.steps_within(lengths, shape[1])
    if weights is not None and not weights.all():
        used = spread(weights > 0, shape[:-1])
        counted = used if counted is None else counted & used
    return counted
