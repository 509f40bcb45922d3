"""Standardisation of sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from recurra.common import checks
from recurra.common.typing import Array
from recurra.sklearn import rows

if TYPE_CHECKING:
    from typing_extensions import Self


class SequenceScaler(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Standardises each feature over all steps of all sequences: (x - mean) / standard deviation.

    The counterpart of `sklearn.preprocessing.StandardScaler`, which is for tables. X is an array (N, T, F), a list (or
    array of objects) of N arrays (T_n, F), or a table (N, T) of T steps of one feature, whose columns share one scale.
    The output has the same form; float32 stays float32.

    Args:
        with_mean: whether to subtract the mean.
        with_std: whether to divide by the standard deviation; a constant feature is divided by 1.

    Attributes: `mean_` and `scale_`, (F,), None if turned off; `n_features_in_`.

    Example:
        >>> from recurra.sklearn import SequenceScaler
        >>> rng = np.random.default_rng(0)
        >>> x = [rng.normal(size=(steps, 2)) for steps in (5, 9, 7, 6)]
        >>> scaled = SequenceScaler().fit_transform(x)
        >>> [row.shape for row in scaled]
        [(5, 2), (9, 2), (7, 2), (6, 2)]
    """

    _table: bool

    def __init__(self, *, with_mean: bool = True, with_std: bool = True) -> None:
        self.with_mean = with_mean
        self.with_std = with_std

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803
        """Compute each feature's mean and standard deviation over all steps; y is ignored.

        Raises:
            ValueError, TypeError: X does not hold sequences, or contains NaN.
        """
        x = rows.steps(rows.read(self, X, reset=True, dtype=rows.FLOATS))
        flat = np.concatenate(x) if isinstance(x, list) else x.reshape(-1, x.shape[-1])
        if not len(flat):
            raise ValueError("SequenceScaler.fit: got only rows without steps, expected at least one step; check X")
        mean = flat.mean(0, dtype=np.float64)
        deviation = np.sqrt(np.square(flat - mean).mean(0))
        name = type(self).__name__
        self.mean_ = mean if checks.flag(f"{name}.fit", "with_mean", self.with_mean) else None
        spread = rows.divisor(deviation, mean)
        self.scale_ = spread if checks.flag(f"{name}.fit", "with_std", self.with_std) else None
        return self

    def transform(self, X: Any) -> Any:  # noqa: N803
        """The scaled sequences, in the form of X."""
        return self._each(X, lambda x, mean, scale: (x - mean) / scale)

    def inverse_transform(self, X: Any) -> Any:  # noqa: N803
        """The original sequences for the scaled sequences X."""
        return self._each(X, lambda x, mean, scale: x * scale + mean)

    def _each(self, X: Any, formula: Any) -> Any:  # noqa: N803
        check_is_fitted(self, "scale_")
        x = rows.read(self, X, reset=False, dtype=rows.FLOATS)
        mean: Any = 0.0 if self.mean_ is None else self.mean_
        scale: Any = 1.0 if self.scale_ is None else self.scale_

        def one(array: Array) -> Array:
            scaled: Array = formula(array, mean, scale)
            return scaled.astype(array.dtype, copy=False)

        return [one(row) for row in x] if isinstance(x, list) else one(x)
