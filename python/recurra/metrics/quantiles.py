"""Coverage of prediction intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from recurra.common.typing import Lengths, Rows
from recurra.losses import Quantile
from recurra.metrics.metric import Ratio


class Coverage(Ratio):
    """The fraction of targets between the predictions of the lowest and the highest quantile.

    For quantiles 0.1 and 0.9 it should be near 0.8: lower means that intervals are too narrow, higher too wide.
    Predictions are (N, T, F * Q) or (N, F * Q), targets (N, T, F) or (N, F), as for `losses.Quantile`.

    Args:
        quantiles: Q quantiles from 0 to 1, at least two of them different.
        name: by default "coverage".

    Example:
        >>> metric = rc.metrics.Coverage((0.1, 0.9))
        >>> metric.update(np.array([[0.0, 2.0], [0.0, 2.0]]), np.array([[1.0], [4.0]]))
        >>> metric.result()
        0.5
    """

    mode = "max"

    def __init__(self, quantiles: npt.ArrayLike = (0.1, 0.5, 0.9), name: str | None = None) -> None:
        reader = Quantile(quantiles)
        self.quantiles = reader.quantiles
        if len(set(self.quantiles)) < 2:
            raise ValueError(
                f"{type(self).__name__}: got quantiles={quantiles!r}, expected at least two different ones, the ends "
                "of an interval; add one"
            )
        super().__init__(name, "coverage", reader)

    def update(
        self, predictions: Any, targets: Rows, lengths: Lengths = None, weights: npt.ArrayLike | None = None
    ) -> None:
        """Add a batch."""
        x, t, each = self._valid(predictions, targets, lengths, weights)
        by_quantile = x.reshape(*t.shape, len(self.quantiles))
        low, high = (by_quantile[..., index] for index in (np.argmin(self.quantiles), np.argmax(self.quantiles)))
        self._add((low <= t) & (t <= high), each)
