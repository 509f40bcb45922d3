"""Series with missing values: filled where a network reads them, left out where it learns from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recurra.common.typing import Array
from recurra.data.missing import last_seen
from recurra.losses import CustomLoss


def filled(name: str, each: Sequence[Array]) -> list[Array]:
    """The series with the last value before each gap in it, and the first one after a gap at the beginning."""
    return [_filled(f"{name}: got X" if len(each) == 1 else f"{name}: got X[{n}]", one) for n, one in enumerate(each)]


def _filled(got: str, values: Array) -> Array:
    seen = ~np.isnan(values)
    if seen.all():
        return values
    if not seen.any(0).all():
        raise ValueError(f"{got} with a feature of which all values are missing, expected some; leave it out")
    last = last_seen(seen)
    result: Array = np.take_along_axis(values, np.where(last < 0, seen.argmax(0), last), 0)
    return result


class Observed(CustomLoss):
    """The pinball loss at `levels`, or without any the squared error, of the targets that are not missing (NaN)."""

    def __init__(self, levels: Sequence[float]) -> None:
        self.levels = [float(level) for level in levels]

    def compute(self, predictions: Array, targets: Array) -> tuple[float, Array]:
        """The mean over all elements, with 0 for missing ones, and its gradient."""
        seen = ~np.isnan(targets)
        if not self.levels:
            error = np.where(seen, predictions - targets, 0)
            return float(np.square(error).mean()), 2 * error / error.size
        levels = np.array(self.levels, predictions.dtype)
        error = np.where(seen, targets, 0)[..., None] - predictions.reshape(*targets.shape, -1)
        gradient = (np.where(error > 0, -levels, 1 - levels) * seen[..., None]).astype(predictions.dtype)
        value = float((-gradient * error).mean())
        return value, gradient.reshape(predictions.shape) / error.size
