"""What a forecaster knows beside the series: static, past and future covariates, and windows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurra.common import checks
from recurra.common.typing import Array
from recurra.data import windows
from recurra.sklearn import rows
from recurra.sklearn.series import Series

KINDS = ("static", "past", "future")


@dataclass(frozen=True)
class Covariates:
    """Those of each series: static (S,), past and future (steps, C), by kind; kinds that are not there are left out."""

    each: dict[str, list[Array]]

    @property
    def sizes(self) -> dict[str, int]:
        """The number of features of each kind."""
        return {kind: found[0].shape[-1] for kind, found in self.each.items()}

    def cut(self, window: int, horizon: int, start: int = 0, stride: int = 1) -> dict[str, Array]:
        """Windows of all series from step `start` on: static (K, S), past (K, window, C), future (K, window + horizon,
        C)."""
        found = {}
        for kind, each in self.each.items():
            if kind != "static":
                cut = windows([one[start:] for one in each], window + horizon, stride=stride)
                found[kind] = cut[:, :window] if kind == "past" else cut
        return found

    def ends(self, window: int, horizon: int) -> dict[str, Array]:
        """The last window of each series; future goes on behind it."""
        lengths = {"past": window, "future": window + horizon}
        return {kind: np.stack([one[-lengths[kind] :] for one in each] if kind in lengths else each)
                for kind, each in self.each.items()}  # fmt: skip


def read(operation: str, given: Series, beyond: int = 0, **values: Any) -> Covariates:
    """The arguments `static`, `past` and `future`, None where there are none, for the series `given`. past has its
    steps, future as many and the `beyond` next ones."""
    found = {}
    for kind, value in values.items():
        if value is None:
            continue
        items: Any = [value] if given.axes < 3 else value
        if len(items) != len(given.each):
            raise ValueError(
                f"{operation}: got {kind} of {len(items)} series, expected {len(given.each)}, as X has; give one for "
                f"each"
            )
        found[kind] = [
            _item(
                operation,
                kind if given.axes < 3 else f"{kind}[{index}]",
                item,
                kind,
                len(series) + beyond * (kind == "future"),
            )
            for index, (item, series) in enumerate(zip(items, given.each, strict=True))
        ]
        if len({one.shape[-1] for one in found[kind]}) > 1:
            raise ValueError(
                f"{operation}: got {kind} with several numbers of features, expected the same for each series; give "
                f"them all"
            )
    return Covariates(found)


def _item(operation: str, name: str, value: Any, kind: str, steps: int) -> Array:
    array = checks.numeric(operation, name, value).astype(np.float64)
    if kind == "static":
        array, wanted = np.atleast_1d(array), "(features,)"
        fits = array.ndim == 1
    else:
        array = array[:, None] if array.ndim == 1 else array
        wanted, fits = f"({steps}, features)", array.ndim == 2 and len(array) == steps
    if not fits or not array.shape[-1]:
        why = (
            ""
            if kind == "static"
            else ", a step for each of the series"
            if kind == "past"
            else (", a step for each of the series and, beyond fit and backtest, of the horizon")
        )
        raise ValueError(f"{operation}: got {name} of shape {np.shape(value)}, expected {wanted}{why}; change {name}")
    if not np.isfinite(array).all():
        raise ValueError(
            f"{operation}: got {name} that contains NaN or infinity, expected finite numbers; fill the gaps"
        )
    return array


class Scaler:
    """Standardises covariates by their mean and deviation in training."""

    def __init__(self, covariates: Covariates) -> None:
        self._scales = {}
        for kind, each in covariates.each.items():
            flat = np.stack(each) if kind == "static" else np.concatenate(each)
            mean = flat.mean(0)
            self._scales[kind] = mean, rows.divisor(flat.std(0), mean)

    def check(self, operation: str, given: Covariates) -> None:
        """Refuse other kinds, or other numbers of features, than those of training."""
        expected = {kind: len(mean) for kind, (mean, _deviation) in self._scales.items()}
        if given.sizes != expected:
            raise ValueError(
                f"{operation}: got {_named(given.sizes)}, expected {_named(expected)}, as in fit; give the same "
                f"covariates"
            )

    def scaled(self, kind: str, values: Array) -> Array:
        """The values of a kind, standardised."""
        mean, deviation = self._scales[kind]
        result: Array = (values - mean) / deviation
        return result


def _named(sizes: dict[str, int]) -> str:
    return " and ".join(f"{kind} of {count} features" for kind, count in sizes.items()) or "no covariates"


def repeated(each: Sequence[Array], counts: Sequence[int]) -> Array:
    """Static covariates for as many windows of each series."""
    return np.repeat(np.stack(each), counts, axis=0)
