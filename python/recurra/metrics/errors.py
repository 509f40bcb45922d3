"""Errors of real predictions that are not means of losses: relative to targets, their variance or a naive forecast."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recurra.common import checks
from recurra.common.typing import Array, Lengths, Rows
from recurra.losses import MeanSquaredError
from recurra.metrics.metric import Ratio, Read


class R2(Read):
    """R^2 = 1 - sum (x - t)^2 / sum (t - mean t)^2: 1 is perfect, 0 as good as predicting the mean of all targets.

    The mean over features, as in scikit-learn's `r2_score`; a feature whose targets are all equal counts 1 if they are
    predicted exactly, else 0. Predictions and targets are (N, T, F) or (N, F).

    Args:
        name: by default "r2".

    Example:
        >>> metric = rc.metrics.R2()
        >>> metric.update(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]))
        >>> round(metric.result(), 3)
        0.111
    """

    mode = "max"

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name, "r2", MeanSquaredError())

    def reset(self) -> None:
        """Reset to no batches."""
        self._count, self._rows = 0.0, 0  # total weight and number of targets
        self._mean, self._spread, self._missed = np.zeros(0), np.zeros(0), np.zeros(0)

    def update(
        self, predictions: Any, targets: Rows, lengths: Lengths = None, weights: npt.ArrayLike | None = None
    ) -> None:
        """Add a batch."""
        valid = self._valid(predictions, targets, lengths, weights)
        x, t = valid.predictions.astype(np.float64), valid.targets.astype(np.float64)
        if not len(t):
            return
        each = np.ones((len(t), 1)) if valid.weights is None else valid.weights[:, None]
        own = float(each.sum())
        mean = (each * t).sum(0) / own
        if not self._rows:
            self._mean = self._spread = self._missed = np.zeros_like(mean)
        self._same_size("features", len(mean), len(self._mean))
        # Merging the means and sums of squares of parts avoids differences of large numbers (Chan et al. 1979).
        total = self._count + own
        apart = mean - self._mean
        self._spread = self._spread + (each * (t - mean) ** 2).sum(0) + apart**2 * (self._count * own / total)
        self._mean = self._mean + apart * (own / total)
        self._missed = self._missed + (each * (x - t) ** 2).sum(0)
        self._count, self._rows = total, self._rows + len(t)

    def result(self) -> float:
        """R^2, at most 1; NaN for fewer than two targets."""
        if self._rows < 2:
            return math.nan
        flat = self._spread == 0
        scores = 1 - self._missed / np.where(flat, 1.0, self._spread)
        return float(np.where(flat & (self._missed > 0), 0.0, scores).mean())


class ElementMean(Ratio):
    """The mean of `_terms` over all elements."""

    mode = "min"

    def __init__(self, name: str | None, default: str) -> None:
        super().__init__(name, default, MeanSquaredError())

    def update(
        self, predictions: Any, targets: Rows, lengths: Lengths = None, weights: npt.ArrayLike | None = None
    ) -> None:
        """Add a batch."""
        valid = self._valid(predictions, targets, lengths, weights)
        terms = self._terms(valid.predictions.astype(np.float64), valid.targets.astype(np.float64))
        self._add(terms, valid.weights)

    @abstractmethod
    def _terms(self, x: Array, t: Array) -> Array:
        """The errors (M, F) of predictions x and targets t of the same shape."""


class MeanAbsolutePercentageError(ElementMean):
    """The mean of `|x - t| / |t|` as a fraction, as in scikit-learn: 0.1 is ten per cent.

    Where t is 0, the error is divided by 2.2e-16 instead, so a single such target dominates the mean;
    `SymmetricMeanAbsolutePercentageError` and `MeanAbsoluteScaledError` avoid this.

    Args:
        name: by default "mean_absolute_percentage_error".

    Example:
        >>> metric = rc.metrics.MeanAbsolutePercentageError()
        >>> metric.update(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]))
        >>> round(metric.result(), 3)
        0.25
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name, "mean_absolute_percentage_error")

    def _terms(self, x: Array, t: Array) -> Array:
        terms: Array = np.abs(x - t) / np.maximum(np.abs(t), np.finfo(np.float64).eps)
        return terms


class SymmetricMeanAbsolutePercentageError(ElementMean):
    """The mean of `2 |x - t| / (|x| + |t|)`, a fraction from 0 to 2; 0 where both are 0 (Makridakis 1993).

    Args:
        name: by default "symmetric_mean_absolute_percentage_error".

    Example:
        >>> metric = rc.metrics.SymmetricMeanAbsolutePercentageError()
        >>> metric.update(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]))
        >>> round(metric.result(), 3)
        0.333
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name, "symmetric_mean_absolute_percentage_error")

    def _terms(self, x: Array, t: Array) -> Array:
        size = np.abs(x) + np.abs(t)
        terms: Array = 2 * np.abs(x - t) / np.where(size == 0, 1.0, size)
        return terms


class MeanAbsoluteScaledError(ElementMean):
    """The mean of `|x - t|`, divided by the mean error of the seasonal naive forecast on the training series.

    Below 1 is better than repeating the value of one season ago, one step ahead (Hyndman and Koehler 2006).

    Args:
        series: the training series: (T,) or (T, F) numbers, or a list of such arrays. Each of F features has its own
            scale; a single feature scales all.
        season: number of steps of a season; 1 compares with the previous value.
        name: by default "mean_absolute_scaled_error".

    Example:
        >>> metric = rc.metrics.MeanAbsoluteScaledError(np.arange(10.0))
        >>> metric.update(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]))
        >>> round(metric.result(), 3)
        1.0
    """

    def __init__(
        self, series: npt.ArrayLike | Sequence[npt.ArrayLike], season: int = 1, name: str | None = None
    ) -> None:
        own = type(self).__name__
        self.season = checks.integer(own, "season", season)
        parts = series if isinstance(series, list) and any(np.ndim(one) for one in series) else [series]
        total, count = np.zeros(1), 0
        for one in parts:
            values = checks.numeric(own, "series", one).astype(np.float64)
            values = values[:, None] if values.ndim == 1 else values
            if values.ndim != 2 or not np.isfinite(values).all() or (count and values.shape[1] != len(total)):
                raise ValueError(
                    f"{own}: got a series of shape {values.shape}, expected finite numbers (T,) or (T, F), with the "
                    f"same features in all series; reshape it, or fill gaps in"
                )
            apart = np.abs(values[self.season :] - values[: -self.season])
            total, count = total + apart.sum(0), count + len(apart)
        self.scale = total / max(count, 1)
        if not (self.scale > 0).all():
            raise ValueError(
                f"{own}: got a series that does not change over {self.season} steps, or is not longer, expected one "
                "that changes; give a longer series, or another season"
            )
        super().__init__(name, "mean_absolute_scaled_error")

    def _terms(self, x: Array, t: Array) -> Array:
        if len(self.scale) not in (1, x.shape[-1]):
            raise ValueError(
                f"{type(self).__name__}: got predictions of {x.shape[-1]} features, expected {len(self.scale)}, as the "
                f"series has; give a series of those features"
            )
        terms: Array = np.abs(x - t) / self.scale
        return terms
