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
from recurra.losses import Loss, MeanSquaredError, Quantile
from recurra.sklearn import covariates, gaps, series
from recurra.sklearn.backtest import Backtest
from recurra.sklearn.base import Split
from recurra.sklearn.windowed import WindowedEstimator, Windows, steps_ahead

if TYPE_CHECKING:
    from typing_extensions import Self


@with_inherited_arguments
@dataclass(kw_only=True, eq=False, repr=False)
class Forecaster(WindowedEstimator):
    """Forecasts the next `horizon` steps of a series at once, from its last `window` steps.

    `fit(X)` takes the series itself: (T,), (T, F) for F features, all of which are forecast, or several series as an
    array (N, T, F) or a list of arrays (T_n,) or (T_n, F). There is no y: the targets are the steps after each window.
    The series need no scaling. Missing values are NaN: a window sees the last value before them, and which are
    missing, and targets that are missing are left out.

    The network learns the residual of a naive forecast, the value one season (`season` steps) before, for season=1 the
    last value. It reads each window relative to its last value, so that a trend continues beyond the values seen in
    training. season=None forecasts the values themselves: better for a series that reverts to one level.

    Covariates are what is known beside a series: `past`, (T, P), at the same steps, such as the weather; `future`, (T,
    C), also known of the steps to forecast, such as holidays, prices or forecasts of the weather; `static`, (S,), of
    the series as a whole, such as the kind of shop. (T,) stands for one feature, and for several series each is a list
    or an array with one item per series. They need no scaling. What fit was given, predict and the others need, too.

    Args:
        window: steps that a forecast is based on.
        horizon: steps to forecast: the next ones, or, for several horizons such as (1, 7, 30), these alone.
        quantiles: levels between 0 and 1 to forecast, trained with the pinball loss; 0.5, the median, is always
            included. None forecasts the mean, trained with the squared error, without intervals.
        season: steps of a season, see above; at most `window`.

    Attributes are those of `SequenceEstimator` and `quantiles_`, (Q,), the levels forecast, empty without quantiles.
    validation_fraction holds out the last windows of each series.

    Example:
        >>> from recurra.sklearn import Forecaster
        >>> series = np.sin(np.arange(100) / 3)
        >>> model = Forecaster(window=12, horizon=4, max_iter=2).fit(series[:80])
        >>> lower, upper = model.predict_interval(coverage=0.8)
        >>> model.predict().shape, lower.shape
        ((4,), (4,))
    """

    window: int = 24
    horizon: int | Sequence[int] = 1
    quantiles: Sequence[float] | None = (0.1, 0.5, 0.9)
    season: int | None = 1

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: Any, y: Any = None, *, static: Any = None, past: Any = None, future: Any = None) -> Self:  # noqa: N803
        """Train from scratch on every window of the series X (see the class); y is ignored.

        Args:
            X: the series.
            static: (S,) or (N, S); None for none, as for the others.
            past: (T, P), as many steps as the series.
            future: (T, C), as many steps as the series.

        Raises:
            ValueError, TypeError: X is not a series or too short, covariates that do not fit it, or an argument of the
                constructor is out of range.
        """
        name = "Forecaster.fit"
        given = series.read(self, X, reset=True)
        window = checks.integer(name, "window", self.window)
        self._steps = steps_ahead(name, self.horizon)
        horizon = int(self._steps[-1])
        if self.season is not None:
            checks.integer(name, "season", self.season, 1, window)
        given.check_steps(name, window + horizon, f"window={window} and horizon={self.horizon}")
        known = covariates.read(name, given, static=static, past=past, future=future)
        self._window, self._horizon, self._season = window, horizon, self.season
        self.quantiles_, loss = self._targets()
        whole = gaps.filled(name, given.each)
        self._has_gaps = any(np.isnan(one).any() for one in given.each)
        self._mean = np.concatenate(whole).mean(0)
        self._scaler = covariates.Scaler(known)
        cut = self._cut(given, whole, known)
        inputs, residuals = cut.context - self._origin(cut.context), cut.actual - self._baseline(cut.context)
        self._input_scale, self._residual_scale = self._magnitude(inputs), self._magnitude(residuals)
        x, seed = self._inputs(cut), self._seed()
        targets = (residuals / self._residual_scale).astype(np.float32).reshape(len(inputs), -1)
        if self._has_gaps:
            loss = gaps.Observed(self.quantiles_.tolist())
        model = self._forecasting(x, targets.shape[1] * max(1, len(self.quantiles_)), seed)
        split = self._last_windows([len(one) - window - horizon + 1 for one in given.each], horizon)
        self._train(model, x, targets, loss, seed, split=split)
        self._end = series.Series([one[-window:].copy() for one in whole], given.axes)
        self._end_seen = self._seen(given)
        self._end_known = known.ends(window, 0)
        return self

    def predict(
        self,
        X: Any = None,  # noqa: N803
        *,
        static: Any = None,
        past: Any = None,
        future: Any = None,
    ) -> Array:
        """Forecast the next steps: the median, or the mean without quantiles.

        Args:
            X: series to continue, of at least `window` steps, in any of the forms of fit; None for the series of fit.
            static: (S,) or (N, S), of these series. If X is None, those of fit are used, as with past.
            past: (T, P), as many steps as X.
            future: (T + horizon, C), the steps of X and those to forecast; if X is None, (horizon, C).

        Returns:
            (horizon,) for a series (T,), (horizon, F) for (T, F), (N, horizon, F) for several; with several horizons,
            one step for each.
        """
        given, cut = self._continued("predict", X, static, past, future)
        return given.like_given(self._middle(self._forecast(cut)))

    def predict_quantiles(
        self,
        X: Any = None,  # noqa: N803
        *,
        static: Any = None,
        past: Any = None,
        future: Any = None,
    ) -> Array:
        """Forecast the next steps' quantiles, in the order of `quantiles_`: as from predict, with a last axis of Q."""
        given, cut = self._continued("predict_quantiles", X, static, past, future)
        self._check_quantiles("predict_quantiles")
        return given.like_given(self._forecast(cut))

    def predict_interval(
        self,
        X: Any = None,  # noqa: N803
        coverage: float | None = None,
        *,
        static: Any = None,
        past: Any = None,
        future: Any = None,
    ) -> tuple[Array, Array]:
        """The lower and the upper bounds of a prediction interval for the next steps, each shaped as from predict.

        Args:
            X, static, past, future: as in predict.
            coverage: nominal coverage, such as 0.8 for the quantiles 0.1 and 0.9; None for the lowest and highest
                quantile.

        Raises:
            ValueError: the forecaster lacks the quantiles for this coverage.
        """
        given, cut = self._continued("predict_interval", X, static, past, future)
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
        quantiles = self._forecast(cut)
        return given.like_given(quantiles[..., lower]), given.like_given(quantiles[..., upper])

    def backtest(
        self,
        X: Any,  # noqa: N803
        *,
        start: int | None = None,
        stride: int = 1,
        static: Any = None,
        past: Any = None,
        future: Any = None,
    ) -> Backtest:
        """Forecast from many origins within a series and compare with its actual values; nothing is trained.

        Args:
            X: series in any of the forms of fit. Actual values that are missing do not count.
            start: the first step to forecast; earlier steps only serve as context. To test on unseen steps, give the
                whole series as X, and as start the number of steps given to fit. None for `window`.
            stride: steps between neighbouring origins.
            static, past, future: as in fit.

        Raises:
            ValueError: X is too short for one forecast.
        """
        name = "Forecaster.backtest"
        check_is_fitted(self, "model_")
        window, horizon = self._window, self._horizon
        given = series.read(self, X, reset=False)
        given.check_steps(name, window, f"the window={window}")
        start = window if start is None else checks.integer(name, "start", start, window)
        stride = checks.integer(name, "stride", stride)
        given.check_steps(name, start + horizon, f"start={start} (window={window}) and horizon={self.horizon}")
        known = covariates.read(name, given, static=static, past=past, future=future)
        self._scaler.check(name, known)
        cut = self._cut(given, gaps.filled(name, given.each), known, start - window, stride)
        quantiles = self._forecast(cut)
        naive = series.naive(cut.context, horizon, self._season or 1)[:, self._steps - 1]
        ends = (quantiles[..., 0], quantiles[..., -1]) if len(self.quantiles_) else None
        return Backtest.compare(cut.actual, self._middle(quantiles), naive, ends)

    def score(self, X: Any, y: Any = None, *, static: Any = None, past: Any = None, future: Any = None) -> float:  # noqa: N803
        """R^2 of the forecasts from every origin within the series X, as for scikit-learn's regressors; y is ignored.

        With `GridSearchCV(cv=TimeSeriesSplit())`, the folds must be longer than window + horizon.
        """
        result = self.backtest(X, static=static, past=past, future=future)
        features = result.actual.shape[-1]
        actual, forecast = result.actual.reshape(-1, features), result.forecast.reshape(-1, features)
        seen = ~np.isnan(actual).any(1)
        return float(r2_score(actual[seen], forecast[seen]))

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

    def _continued(self, method: str, X: Any, static: Any, past: Any, future: Any) -> tuple[series.Series, Windows]:  # noqa: N803
        """The series to continue, and the last window of each."""
        check_is_fitted(self, "model_")
        name, window, horizon = f"Forecaster.{method}", self._window, self._horizon
        if X is None:
            if static is not None or past is not None:
                raise ValueError(
                    f"{name}: got static or past without X, expected none, as those of fit are used; leave them out"
                )
            beyond = series.Series([one[:0] for one in self._end.each], self._end.axes)
            new = covariates.read(name, beyond, horizon, future=future)
            self._scaler.check(name, covariates.Covariates({**self._known_without_future(), **new.each}))
            parts = dict(self._end_known)
            if "future" in parts:
                parts["future"] = np.concatenate([parts["future"], np.stack(new.each["future"])], 1)
            return self._end, Windows(np.stack(self._end.each), self._end_seen, parts)
        given = series.read(self, X, reset=False)
        given.check_steps(name, window, f"the window={window}")
        known = covariates.read(name, given, horizon, static=static, past=past, future=future)
        self._scaler.check(name, known)
        context = np.stack([one[-window:] for one in gaps.filled(name, given.each)])
        return given, Windows(context, self._seen(given), known.ends(window, horizon))

    def _known_without_future(self) -> dict[str, list[Array]]:
        return {kind: list(found) for kind, found in self._end_known.items() if kind != "future"}

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
