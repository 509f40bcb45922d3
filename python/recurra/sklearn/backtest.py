"""The accuracy of past forecasts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from recurra.common.typing import Array


@dataclass(frozen=True)
class Backtest:
    """Forecasts from K origins and the actual values.

    Attributes: actual (NaN where missing), forecast and naive, (K, horizon, F), where naive repeats the values one
    season before; mae and rmse, the mean absolute and root mean squared error over all of them; naive_mae, the mae of
    naive; skill, 1 - mae /
    naive_mae: 1 is perfect, 0 as good as naive; coverage, the share of actual values between the lowest and highest
    quantile (None without quantiles).

    Example:
        >>> from recurra.sklearn import Forecaster
        >>> series = np.sin(np.arange(100) / 3)
        >>> model = Forecaster(window=12, horizon=4, max_iter=2).fit(series[:80])
        >>> result = model.backtest(series, start=80)
        >>> result.actual.shape == result.forecast.shape
        True
    """

    actual: Array
    forecast: Array
    naive: Array
    mae: float
    rmse: float
    naive_mae: float
    skill: float
    coverage: float | None

    @classmethod
    def compare(cls, actual: Array, forecast: Array, naive: Array, interval: tuple[Array, Array] | None) -> Backtest:
        """A backtest from arrays of one shape; `interval` has the bounds of the prediction intervals. Missing actual
        values do not count."""
        seen = ~np.isnan(actual)
        if not seen.any():
            raise ValueError("Forecaster.backtest: got X without values to compare with, expected some; check start")
        known = actual[seen]
        mae, naive_mae = (float(np.abs(guess[seen] - known).mean()) for guess in (forecast, naive))
        inside = None if interval is None else (interval[0][seen] <= known) & (known <= interval[1][seen])
        return cls(
            actual=actual,
            forecast=forecast,
            naive=naive,
            mae=mae,
            rmse=float(np.sqrt(np.square(forecast[seen] - known).mean())),
            naive_mae=naive_mae,
            skill=1.0 - mae / naive_mae if naive_mae else (1.0 if mae == 0.0 else -math.inf),
            coverage=None if inside is None else float(inside.mean()),
        )
