"""Metrics that are means of losses."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy.typing as npt

from recurra.common import checks
from recurra.common.typing import Lengths, Rows
from recurra.losses import L1, CrossEntropy, Loss, Quantile
from recurra.losses import MeanSquaredError as SquaredError
from recurra.metrics.metric import Ratio


class LossMean(Ratio):
    """The mean of a loss: its sum over all batches divided by its count.

    `find` makes one from a loss, so that `metrics=[rc.losses.Huber()]` works.

    Args:
        loss: a loss, such as one of `recurra.losses`.
        name: by default the loss's name, such as "huber".

    Example:
        >>> metric = rc.metrics.LossMean(rc.losses.Huber())
        >>> metric.update(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]))
        >>> round(metric.result(), 3)
        0.75
    """

    mode = "min"

    def __init__(self, loss: Loss, name: str | None = None) -> None:
        checks.kind(type(self).__name__, "loss", loss, Loss, "recurra.losses")
        words = re.findall(r"[A-Z0-9]+(?![a-z])|[A-Z][a-z]+", type(loss).__name__)
        super().__init__(name, "_".join(words).lower(), loss)

    def update(
        self, predictions: Any, targets: Rows, lengths: Lengths = None, weights: npt.ArrayLike | None = None
    ) -> None:
        """Add a batch, with arguments as the loss takes them."""
        value = self._loss.value(type(self).__name__, predictions, targets, lengths, weights)
        self._sum += value.sum
        self._count += value.count


class Perplexity(LossMean):
    """exp of the labels' mean cross-entropy: the number of equally probable classes that would be as uncertain.

    Predictions are logits (N, T, C) or (N, C), targets labels (N, T) or (N,).

    Args:
        ignore_index: a label whose steps do not count.
        name: by default "perplexity".

    Example:
        >>> metric = rc.metrics.Perplexity()
        >>> metric.update(np.zeros((1, 6, 8)), np.ones((1, 6), int))
        >>> round(metric.result(), 3)
        8.0
    """

    def __init__(self, ignore_index: int | None = None, name: str | None = None) -> None:
        super().__init__(CrossEntropy(ignore_index=ignore_index), "perplexity" if name is None else name)

    def result(self) -> float:
        """The perplexity, at least 1; infinity if too large for a float."""
        try:
            return math.exp(super().result())
        except OverflowError:
            return math.inf


class MeanAbsoluteError(LossMean):
    """The mean of `|x - t|` over all elements. Targets have the predictions' shape.

    Args:
        name: by default "mean_absolute_error".

    Example:
        >>> metric = rc.metrics.MeanAbsoluteError()
        >>> metric.update(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]))
        >>> round(metric.result(), 3)
        1.0
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(L1(), "mean_absolute_error" if name is None else name)


class MeanSquaredError(LossMean):
    """The mean of (x - t)^2 over all elements. Targets have the predictions' shape.

    Args:
        name: by default "mean_squared_error".

    Example:
        >>> metric = rc.metrics.MeanSquaredError()
        >>> metric.update(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]))
        >>> round(metric.result(), 3)
        2.0
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(SquaredError(), "mean_squared_error" if name is None else name)


class RootMeanSquaredError(LossMean):
    """The square root of the mean of (x - t)^2 over all elements of all batches. Targets have the predictions' shape.

    Args:
        name: by default "root_mean_squared_error".

    Example:
        >>> metric = rc.metrics.RootMeanSquaredError()
        >>> metric.update(np.array([[1.0], [2.0]]), np.array([[1.0], [4.0]]))
        >>> round(metric.result(), 3)
        1.414
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__(SquaredError(), "root_mean_squared_error" if name is None else name)

    def result(self) -> float:
        """The error, in the unit of the targets."""
        return math.sqrt(super().result())


class Pinball(LossMean):
    """The mean pinball loss of quantiles, `losses.Quantile`: predictions (N, T, F * Q), targets (N, T, F), or without
    T.

    Args:
        quantiles: Q quantiles from 0 to 1, as in the loss.
        name: by default "pinball".

    Example:
        >>> metric = rc.metrics.Pinball((0.1, 0.9))
        >>> metric.update(np.zeros((2, 2)), np.array([[1.0], [4.0]]))
        >>> round(metric.result(), 3)
        1.25
    """

    def __init__(self, quantiles: npt.ArrayLike = (0.1, 0.5, 0.9), name: str | None = None) -> None:
        super().__init__(Quantile(quantiles), "pinball" if name is None else name)
