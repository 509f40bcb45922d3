"""How often targets lie where forecasts say."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recurra.common.typing import Array, Lengths, Rows
from recurra.losses import Quantile
from recurra.metrics.metric import Ratio


class Coverage(Ratio):
    """The share of the targets from the prediction of the lowest quantile to that of the highest.

    For quantiles 0.1 and 0.9 it should be near 0.8: less is an interval that promises too much, more a wide one.
    Predictions are (N, T, F * Q) or (N, F * Q), targets (N, T, F) or (N, F), as those of `losses.Quantile`.

    Args:
        quantiles: Q numbers from 0 to 1, two of them different.
        name: by default "coverage".
    """

    mode = "max"

    def __init__(self, quantiles: npt.ArrayLike = (0.1, 0.5, 0.9), name: str | None = None) -> None:
        reader = Quantile(quantiles)
        self.quantiles = reader.quantiles
        if len(set(self.quantiles)) < 2:
            raise ValueError(
                f"{type(self).__name__}: got quantiles={quantiles!r}, expected two or more that differ, the ends of an "
                f"interval; add one"
            )
        super().__init__(name, "coverage", reader)

    def update(
        self, predictions: Array, targets: Rows, lengths: Lengths = None, weights: npt.ArrayLike | None = None
    ) -> None:
        """Add a batch."""
        x, t, each = self._valid(predictions, targets, lengths, weights)
        by_quantile = x.reshape(*t.shape, len(self.quantiles))
        low, high = (by_quantile[..., index] for index in (np.argmin(self.quantiles), np.argmax(self.quantiles)))
        self._add((low <= t) & (t <= high), each)
