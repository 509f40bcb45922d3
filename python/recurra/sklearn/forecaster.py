"""Forecasts of the next steps of a series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import r2_score
from sklearn.utils.validation import check_is_fitted

from recurra.common import checks
from recurra.common.docstrings import with_inherited_arguments
from recurra.common.typing import Array
from recurra.data import windows
from recurra.losses import Loss, MeanSquaredError, Quantile
from recurra.sklearn import rows, series
from recurra.sklearn.backtest import Backtest
from recurra.sklearn.base import SequenceEstimator, Split

if TYPE_CHECKING:
    from typing_extensions import Self


@with_inherited_arguments
@dataclass(kw_only=True, eq=False, repr=False)
class Forecaster(SequenceEstimator):
    """Forecasts the next `horizon` steps of a series at once, from its last `window` steps.

    `fit(X)` takes the series itself: (T,), (T, F) for F features, all of which are forecast, or several series as an
    array (N, T, F) or a list of arrays (T_n,) or (T_n, F). There is no y: the targets are the steps after each window.
    The series need no scaling.

    The network learns the residual of a naive forecast, the value one season (`season` steps) before, for season=1 the
    last value. It reads each window relative to its last value, so that a trend continues beyond the values seen in
    training. season=None forecasts the values themselves: better for a series that reverts to one level.

    Args:
        window: steps that a forecast is based on.
        horizon: steps to forecast.
        quantiles: levels between 0 and 1 to forecast, trained with the pinball loss; 0.5, the median, is always
            included. None forecasts the mean, trained with the squared error, without intervals.
        season: steps of a season, see above; at most `window`.

    Attributes are those of `SequenceEstimator` and `quantiles_`, (Q,), the levels forecast, empty without quantiles.
    validation_fraction holds out the last windows of each series.
    """

    window: int = 24
    horizon: int = 1
    quantiles: Sequence[float] | None = (0.1, 0.5, 0.9)
    season: int | None = 1

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803
        """Train from scratch on every window of the series X (see the class); y is ignored.

        Raises:
            ValueError, TypeError: X is not a series or too short, or an argument of the constructor is out of range.
        """
        given = series.read(self, X, reset=True)
        window = checks.integer("Forecaster.fit", "window", self.window)
        horizon = checks.integer("Forecaster.fit", "horizon", self.horizon)
        if self.season is not None:
            checks.integer("Forecaster.fit", "season", self.season, 1, window)
        given.check_steps("Forecaster.fit", window + horizon, f"window={window} and horizon={horizon}")
        self._window, self._horizon, self._season = window, horizon, self.season
        self.quantiles_, loss = self._targets()
        cut = windows(given.each, window + horizon)
        context, future = cut[:, :window], cut[:, window:]
        self._mean = np.concatenate(given.each).mean(0)
        inputs, residuals = context - self._origin(context), future - self._baseline(context)
        self._input_scale, self._residual_scale = self._magnitude(inputs), self._magnitude(residuals)
        features, seed = context.shape[-1], self._seed()
        model = self._network(features, horizon * features * max(1, len(self.quantiles_)), False, seed)
        x = (inputs / self._input_scale).astype(np.float32)
        targets = (residuals / self._residual_scale).astype(np.float32).reshape(len(x), -1)
        split = self._last_windows([len(one) - window - horizon + 1 for one in given.each], horizon)
        self._train(model, x, targets, loss, seed, split=split)
        self._end = series.Series([one[-window:].copy() for one in given.each], given.axes)
        return self

    def predict(self, X: Any = None) -> Array:  # noqa: N803
        """Forecast the next steps: the median, or the mean without quantiles.

        Args:
            X: series to continue, of at least `window` steps, in any of the forms of fit; None for the series of fit.

        Returns:
            (horizon,) for a series (T,), (horizon, F) for (T, F), (N, horizon, F) for several.
        """
        given = self._given("predict", X)
        return given.like_given(self._middle(self._forecast(self._ends(given))))

    def predict_quantiles(self, X: Any = None) -> Array:  # noqa: N803
        """Forecast the next steps' quantiles, in the order of `quantiles_`: as from predict, with a last axis of Q."""
        given = self._given("predict_quantiles", X)
        self._check_quantiles("predict_quantiles")
        return given.like_given(self._forecast(self._ends(given)))

    def predict_interval(self, X: Any = None, coverage: float | None = None) -> tuple[Array, Array]:  # noqa: N803
        """The lower and the upper bounds of a prediction interval for the next steps, each shaped as from predict.

        Args:
            X: as in predict.
            coverage: nominal coverage, such as 0.8 for the quantiles 0.1 and 0.9; None for the lowest and highest
                quantile.

        Raises:
            ValueError: the forecaster lacks the quantiles for this coverage.
        """
        given = self._given("predict_interval", X)
        self._check_quantiles("predict_interval")
        lower, upper = 0, len(self.quantiles_) - 1
        if coverage is not None:
            share = checks.number("Forecaster.predict_interval", "coverage", coverage, 0.0, 1.0)
            ends = [np.flatnonzero(np.isclose(self.quantiles_, (1.0 + sign * share) / 2.0)) for sign in (-1, 1)]
            if not all(len(end) for end in ends):
                raise ValueError(
                    f"Forecaster.predict_interval: got coverage={share:g}, expected quantiles {(1 - share) / 2:g} and "
                    f"{(1 + share) / 2:g} among {self.quantiles_.tolist()}; make the forecaster with them"
                )
            lower, upper = (int(end[0]) for end in ends)
        quantiles = self._forecast(self._ends(given))
        return given.like_given(quantiles[..., lower]), given.like_given(quantiles[..., upper])

    def backtest(self, X: Any, *, start: int | None = None, stride: int = 1) -> Backtest:  # noqa: N803
        """Forecast from many origins within a series and compare with its actual values; nothing is trained.

        Args:
            X: series in any of the forms of fit.
            start: the first step to forecast; earlier steps only serve as context. To test on unseen steps, give the
                whole series as X, and as start the number of steps given to fit. None for `window`.
            stride: steps between neighbouring origins.

        Raises:
            ValueError: X is too short for one forecast.
        """
        given = self._given("backtest", X)
        window, horizon = self._window, self._horizon
        start = window if start is None else checks.integer("Forecaster.backtest", "start", start, window)
        stride = checks.integer("Forecaster.backtest", "stride", stride)
        given.check_steps(
            "Forecaster.backtest", start + horizon, f"start={start} (window={window}) and horizon={horizon}"
        )
        cut = windows([one[start - window :] for one in given.each], window + horizon, stride=stride)
        context, actual = cut[:, :window], cut[:, window:]
        quantiles = self._forecast(context)
        naive = series.naive(context, horizon, self._season or 1)
        ends = (quantiles[..., 0], quantiles[..., -1]) if len(self.quantiles_) else None
        return Backtest.compare(actual, self._middle(quantiles), naive, ends)

    def score(self, X: Any, y: Any = None) -> float:  # noqa: N803
        """R^2 of the forecasts from every origin within the series X, as for scikit-learn's regressors; y is ignored.

        With `GridSearchCV(cv=TimeSeriesSplit())`, the folds must be longer than window + horizon.
        """
        result = self.backtest(X)
        features = result.actual.shape[-1]
        return float(r2_score(result.actual.reshape(-1, features), result.forecast.reshape(-1, features)))

    def _targets(self) -> tuple[Array, Loss]:
        """The levels in order (empty for the mean) and the loss."""
        if self.quantiles is None:
            return np.zeros(0), MeanSquaredError()
        given = checks.numeric("Forecaster.fit", "quantiles", self.quantiles)
        if given.ndim != 1 or not ((given > 0) & (given < 1)).all():
            raise ValueError(
                f"Forecaster.fit: got quantiles={self.quantiles!r}, expected numbers between 0 and 1, or None; change "
                "quantiles"
            )
        levels = np.unique([*given.astype(np.float64), 0.5])
        return levels, Quantile(levels)

    def _origin(self, context: Array) -> Array:
        """The offset subtracted from a window, (K, 1, F) or (F,)."""
        return self._mean if self._season is None else context[:, -1:]

    def _baseline(self, context: Array) -> Array:
        """The forecast to which the network's output is added, (K, horizon, F) or (F,)."""
        return self._mean if self._season is None else series.naive(context, self._horizon, self._season)

    def _magnitude(self, values: Array) -> Array:
        """Root mean squares, (F,); 1 for a constant feature."""
        return rows.divisor(np.sqrt(np.square(values).mean((0, 1))), self._mean)

    def _last_windows(self, counts: list[int], horizon: int) -> Split:
        """The indices of the training and of the held-out, last windows; None without early stopping."""
        if not self._stops_early():
            return None
        kept, out = series.split_in_time(counts, self.validation_fraction, horizon)
        if not len(kept):
            raise ValueError(
                f"Forecaster.fit: got early_stopping=True and series with {max(counts)} windows at most, expected "
                "enough to hold some out; give longer series, or use early_stopping=False"
            )
        return kept, out

    def _given(self, method: str, X: Any) -> series.Series:  # noqa: N803
        check_is_fitted(self, "model_")
        if X is None and method != "backtest":
            return self._end
        given = series.read(self, X, reset=False)
        given.check_steps(f"Forecaster.{method}", self._window, f"the window={self._window}")
        return given

    def _ends(self, given: series.Series) -> Array:
        """The last window of each series, (N, window, F)."""
        return np.stack([one[-self._window :] for one in given.each])

    def _forecast(self, context: Array) -> Array:
        """Forecasts, (K, horizon, F, Q), for windows (K, window, F); Q is 1 without quantiles."""
        outputs = self._run(((context - self._origin(context)) / self._input_scale).astype(np.float32))
        shape = (len(context), self._horizon, context.shape[-1], max(1, len(self.quantiles_)))
        residuals = np.sort(outputs.reshape(shape).astype(np.float64), axis=-1)  # sorted, as quantiles may cross
        baseline = np.asarray(self._baseline(context))
        forecasts: Array = residuals * self._residual_scale[:, None] + baseline[..., None]
        return forecasts

    def _middle(self, forecasts: Array) -> Array:
        """The median, or the mean, without the axis of quantiles."""
        middle: Array = forecasts[..., int(np.searchsorted(self.quantiles_, 0.5))]
        return middle

    def _check_quantiles(self, method: str) -> None:
        if not len(self.quantiles_):
            raise ValueError(
                f"Forecaster.{method}: got a forecaster with quantiles=None, expected quantiles; make it with "
                "quantiles=(0.1, 0.9), for example"
            )
