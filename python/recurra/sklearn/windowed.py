"""Windows of series as a forecaster's network reads them, and the network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from recurra.common import checks
from recurra.common.typing import Array
from recurra.data import windows
from recurra.graph.symbolic import Input
from recurra.layers.activation import Activation
from recurra.layers.basic import Linear
from recurra.layers.merge import Concatenate
from recurra.models.model import Model
from recurra.sklearn import covariates, rows, series
from recurra.sklearn.base import SequenceEstimator

if TYPE_CHECKING:
    from recurra.training.model import TrainableModel


class Windows(NamedTuple):
    """K windows without gaps, which of their values are there, the covariates by kind, and the values to forecast."""

    context: Array
    seen: Array
    known: dict[str, Array]
    actual: Array = np.zeros(0)


class WindowedEstimator(SequenceEstimator):
    """The part of a forecaster between series and network. Its attributes are set in `fit`."""

    _window: int
    _horizon: int
    _steps: Array
    _season: int | None
    _has_gaps: bool
    _mean: Array
    _input_scale: Array
    _residual_scale: Array
    _scaler: covariates.Scaler
    quantiles_: Array

    def _origin(self, context: Array) -> Array:
        """The offset subtracted from a window, (K, 1, F) or (F,)."""
        return self._mean if self._season is None else context[:, -1:]

    def _baseline(self, context: Array) -> Array:
        """The forecast to which the network's output is added, (K, horizon, F) or (F,)."""
        if self._season is None:
            return self._mean
        return series.naive(context, self._horizon, self._season)[:, self._steps - 1]

    def _magnitude(self, values: Array) -> Array:
        """Root mean squares of the values that are there, (F,); 1 for a constant feature."""
        squares = np.square(values)
        if not self._has_gaps:
            return rows.divisor(np.sqrt(squares.mean((0, 1))), self._mean)
        seen = ~np.isnan(squares)
        mean = np.where(seen, squares, 0).sum((0, 1)) / np.maximum(seen.sum((0, 1)), 1)
        return rows.divisor(np.sqrt(mean), self._mean)

    def _cut(
        self,
        given: series.Series,
        whole: list[Array],
        known: covariates.Covariates,
        start: int = 0,
        stride: int = 1,
    ) -> Windows:
        """All windows of the series from step `start` on; `whole` are those without gaps."""
        window, width = self._window, self._window + self._horizon
        context = windows([one[start:] for one in whole], width, stride=stride)[:, :window]
        values = windows([one[start:] for one in given.each], width, stride=stride)
        parts = known.cut(window, self._horizon, start, stride)
        if "static" in known.each:
            counts = [(len(one) - start - width) // stride + 1 for one in whole]
            parts["static"] = covariates.repeated(known.each["static"], counts)
        return Windows(context, ~np.isnan(values[:, :window]), parts, values[:, window:][:, self._steps - 1])

    def _seen(self, given: series.Series) -> Array:
        """Which values of the last window of each series are there, (N, window, F)."""
        return np.stack([~np.isnan(one[-self._window :]) for one in given.each])

    def _inputs(self, cut: Windows) -> Any:
        """What the network reads: (K, window, inputs), and, with future or static covariates, beside it (K, known)."""
        columns = [(cut.context - self._origin(cut.context)) / self._input_scale]
        if self._has_gaps:
            columns.append(cut.seen)
        scaled = {kind: self._scaler.scaled(kind, values) for kind, values in cut.known.items()}
        columns += [scaled[kind][:, : self._window] for kind in ("past", "future") if kind in scaled]
        x = np.concatenate(columns, -1).astype(np.float32)
        beside = [scaled["future"][:, self._window :].reshape(len(x), -1)] if "future" in scaled else []
        beside += [scaled["static"]] if "static" in scaled else []
        return (x, np.concatenate(beside, -1).astype(np.float32)) if beside else x

    def _forecasting(self, x: Any, outputs: int, seed: int) -> TrainableModel[Array]:
        """The network. What is known of the future joins the state behind the last step of the window."""
        if not isinstance(x, tuple):
            return self._network(x.shape[-1], outputs, False, seed)
        window, beside = Input(features=x[0].shape[-1]), Input(features=x[1].shape[-1], sequence=False)
        recurrent, between = self._layers(x[0].shape[-1], False)
        h = recurrent(window)
        for layer in between:
            h = layer(h)
        joined = Concatenate()((h, beside))
        hidden = Activation("relu")(Linear(recurrent.output_size + x[1].shape[-1], self.hidden_size)(joined))
        return Model((window, beside), Linear(self.hidden_size, outputs)(hidden), seed=seed)

    def _forecast(self, cut: Windows) -> Array:
        """Forecasts, (K, horizon, F, Q), for K windows; Q is 1 without quantiles."""
        context = cut.context
        outputs = self._run(self._inputs(cut))
        shape = (len(context), len(self._steps), context.shape[-1], max(1, len(self.quantiles_)))
        residuals = np.sort(outputs.reshape(shape).astype(np.float64), axis=-1)  # sorted, as quantiles may cross
        baseline = np.asarray(self._baseline(context))
        forecasts: Array = residuals * self._residual_scale[:, None] + baseline[..., None]
        return forecasts


def steps_ahead(operation: str, horizon: Any) -> Array:
    """The steps to forecast, from 1, in order."""
    if isinstance(horizon, str) or not isinstance(horizon, Sequence | np.ndarray) or not np.ndim(horizon):
        return np.arange(1, checks.integer(operation, "horizon", horizon) + 1)
    steps = [checks.integer(operation, "horizon", step) for step in horizon]
    if not steps or any(one >= two for one, two in pairwise(steps)):
        raise ValueError(
            f"{operation}: got horizon={horizon!r}, expected a number or ascending ones; write horizon=(1, 7)"
        )
    return np.array(steps)
