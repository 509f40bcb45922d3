"""Series in the forms that a forecaster accepts, and their windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import check_array

from recurra.common.typing import Array
from recurra.sklearn import rows


@dataclass(frozen=True)
class Series:
    """Several series, (T_n, F) each; `axes` tells the form given: 1 for (T,), 2 for (T, F), 3 for several series."""

    each: list[Array]
    axes: int

    def like_given(self, forecasts: Array) -> Array:
        """The array (N, horizon, F, ...) as (horizon, ...), (horizon, F, ...) or unchanged, to match `axes`."""
        if self.axes == 3:
            return forecasts
        result: Array = forecasts[0] if self.axes == 2 else forecasts[0, :, 0]
        return result

    def check_steps(self, operation: str, least: int, why: str) -> None:
        """Raise if a series is too short."""
        for index, series in enumerate(self.each):
            if len(series) < least:
                which = f"series {index}" if self.axes == 3 else "a series"
                raise ValueError(
                    f"{operation}: got {which} of n_samples={len(series)} steps, expected at least {least}, "
                    f"{why}; give a longer series, or make the forecaster with less"
                )


def read(estimator: Any, X: Any, *, reset: bool) -> Series:  # noqa: N803
    """X in float64: (T,), (T, F), or several series, an array (N, T, F) or a list of arrays (T_n,) or (T_n, F)."""
    if _is_vector(X):
        if not reset and estimator.n_features_in_ != 1:
            raise ValueError(
                f"{rows.name_of(estimator)}: got a vector X of shape {np.shape(X)}, expected (T, "
                f"{estimator.n_features_in_}) as in fit. Reshape your data: X[None] if it is one step"
            )
        vector = check_array(
            X, dtype=np.float64, ensure_2d=False, ensure_all_finite="allow-nan", estimator=estimator, input_name="X"
        )
        found = Series([vector[:, None]], 1)
    elif getattr(X, "ndim", 2) == 3:
        found = Series(list(rows.array_rows(estimator, X, np.float64)), 3)
    elif rows.has_rows(X, table_wanted=True):
        found = Series(rows.list_rows(estimator, X, np.float64), 3)
    else:
        return Series([rows.table(estimator, X, reset, np.float64)], 2)
    rows.see_features(estimator, found.each[0].shape[1], reset)
    return found


def split_in_time(counts: list[int], fraction: float, horizon: int) -> tuple[Array, Array]:
    """The indices of training and held-out windows, for series with `counts` windows: the last of each are held out.

    Windows whose targets overlap those of held-out windows are in neither, so that training never sees held-out
    targets.
    """
    kept: list[int] = []
    out: list[int] = []
    first = 0
    for count in counts:
        held = max(1, round(count * fraction))
        kept += range(first, first + count - held - horizon + 1)
        out += range(first + count - held, first + count)
        first += count
    return np.array(kept, np.int64), np.array(out, np.int64)


def naive(context: Array, horizon: int, season: int) -> Array:
    """The naive forecast, (K, horizon, F): the last season of the context (K, steps, F), repeated."""
    last = context[:, context.shape[1] - season :]
    values: Array = last[:, np.arange(horizon) % season]
    return values


def _is_vector(X: Any) -> bool:  # noqa: N803
    """Whether X has a single number for each step."""
    if isinstance(X, list | tuple):
        return bool(len(X)) and all(np.ndim(value) == 0 for value in X)
    if getattr(X, "ndim", 0) != 1:
        return False
    array = np.asarray(X)
    return array.dtype != object or all(np.ndim(value) == 0 for value in array)
