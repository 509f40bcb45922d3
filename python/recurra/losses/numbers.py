"""Losses of real targets: of point predictions, quantiles and distributions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from recurra import _core
from recurra.common import checks
from recurra.common.typing import Array
from recurra.losses.step_loss import StepLoss, as_numbers


class RealTargets(StepLoss):
    """A loss whose targets are finite numbers."""

    def convert(self, operation: str, name: str, targets: Array, dtype: np.dtype[Any]) -> Array:
        """Targets in the predictions' dtype."""
        return as_numbers(targets, dtype)

    def _check_values(self, operation: str, name: str, valid: Array, features: int) -> None:
        if not np.isfinite(valid).all():
            raise ValueError(
                f"{operation}: got NaN or infinity in {name}, expected finite numbers; fill gaps in, give lengths, or "
                "exclude them with a weight of 0"
            )


class MeanSquaredError(RealTargets):
    """(x - t)^2, summed over elements; the mean is over elements, as PyTorch's. Targets have the predictions' shape.

    Example:
        >>> loss = rc.losses.MeanSquaredError()
        >>> value = loss(np.zeros((2, 5, 3), np.float32), np.ones((2, 5, 3)))
        >>> round(value.mean, 3), value.gradient.shape
        (1.0, (2, 5, 3))
    """

    def _sum(
        self, predictions: Array, targets: Array, lengths: Array | None, weights: Array | None, gradient: bool
    ) -> tuple[float, Array | None]:
        return _core.mean_squared_error(predictions, targets, lengths, weights, gradient)


class L1(RealTargets):
    """`|x - t|`, summed over elements; the mean is over elements, as PyTorch's. Targets have the predictions' shape.

    Example:
        >>> loss = rc.losses.L1()
        >>> value = loss(np.zeros((2, 5, 3), np.float32), np.full((2, 5, 3), 2.0))
        >>> round(value.mean, 3), value.gradient.shape
        (2.0, (2, 5, 3))
    """

    def _sum(
        self, predictions: Array, targets: Array, lengths: Array | None, weights: Array | None, gradient: bool
    ) -> tuple[float, Array | None]:
        return _core.absolute_error(predictions, targets, lengths, weights, gradient)


class Huber(RealTargets):
    """`(x - t)^2 / 2` where `|x - t| <= delta`, else `delta (|x - t| - delta / 2)`, summed over elements.

    The mean is over elements, as in PyTorch. Targets have the predictions' shape.

    Args:
        delta: the error up to which the loss is quadratic, above 0.

    Example:
        >>> loss = rc.losses.Huber(delta=1.0)
        >>> value = loss(np.zeros((2, 5, 3), np.float32), np.full((2, 5, 3), 2.0))
        >>> round(value.mean, 3), value.gradient.shape
        (1.5, (2, 5, 3))
    """

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = checks.number(type(self).__name__, "delta", delta, math.ulp(0.0))

    def _sum(
        self, predictions: Array, targets: Array, lengths: Array | None, weights: Array | None, gradient: bool
    ) -> tuple[float, Array | None]:
        return _core.huber(predictions, targets, lengths, weights, gradient, self.delta)


class Quantile(RealTargets):
    """The pinball loss max(q (t - x), (q - 1) (t - x)) of predictions x of quantiles q, summed over all predictions.

    Predictions are (N, T, F * Q) or (N, F * Q), the Q quantiles of each target next to each other; targets (N, T, F) or
    (N, F). The mean is over all predictions (Koenker and Bassett 1978).

    Args:
        quantiles: Q quantiles, from 0 to 1.

    Example:
        >>> loss = rc.losses.Quantile((0.1, 0.5, 0.9))
        >>> value = loss(np.zeros((2, 5, 3), np.float32), np.ones((2, 5, 1)))
        >>> round(value.mean, 3), value.gradient.shape
        (0.5, (2, 5, 3))
    """

    def __init__(self, quantiles: npt.ArrayLike = (0.1, 0.5, 0.9)) -> None:
        name = type(self).__name__
        values = checks.numeric(name, "quantiles", quantiles)
        if values.ndim != 1 or not len(values) or not ((values >= 0) & (values <= 1)).all():
            raise ValueError(
                f"{name}: got quantiles={quantiles!r}, expected one or more numbers from 0 to 1; change quantiles"
            )
        self.quantiles = tuple(float(value) for value in values)

    def _target_shape(self, operation: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        each = len(self.quantiles)
        if not shape[-1] or shape[-1] % each:
            raise ValueError(
                f"{operation}: got predictions of {shape[-1]} features, expected a multiple of {each}, one for each of "
                "a target's quantiles; change the size of the last layer"
            )
        return *shape[:-1], shape[-1] // each

    def _terms(self, shape: tuple[int, ...]) -> int:
        return shape[-1]

    def _sum(
        self, predictions: Array, targets: Array, lengths: Array | None, weights: Array | None, gradient: bool
    ) -> tuple[float, Array | None]:
        return _core.quantile_loss(predictions, targets, lengths, weights, gradient, self.quantiles)


class GaussianNLL(RealTargets):
    """Gaussian negative log likelihood, (t - mu)^2 / (2 v) + log(v) / 2 + log(2 pi) / 2, in nats, summed over targets.

    Predictions are (N, T, 2 F) or (N, 2 F): F means mu, then F logarithms of variances log v; targets (N, T, F) or
    (N, F). The mean is over targets, as in `torch.nn.GaussianNLLLoss(full=True)`.

    Args:
        eps: lower bound of variances; below it the gradient of log v is 0.

    Example:
        >>> loss = rc.losses.GaussianNLL()
        >>> value = loss(np.zeros((2, 5, 2), np.float32), np.ones((2, 5, 1)))
        >>> round(value.mean, 3), value.gradient.shape
        (1.419, (2, 5, 2))
    """

    def __init__(self, eps: float = 1e-6) -> None:
        self.eps = checks.number(type(self).__name__, "eps", eps, 1e-300)

    def _target_shape(self, operation: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        if not shape[-1] or shape[-1] % 2:
            raise ValueError(
                f"{operation}: got predictions of {shape[-1]} features, expected an even number, a mean and the "
                "logarithm of a variance for each target; change the size of the last layer"
            )
        return *shape[:-1], shape[-1] // 2

    def _sum(
        self, predictions: Array, targets: Array, lengths: Array | None, weights: Array | None, gradient: bool
    ) -> tuple[float, Array | None]:
        return _core.gaussian_nll(predictions, targets, lengths, weights, gradient, self.eps)
