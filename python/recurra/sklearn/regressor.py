"""Regression of sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from recurra.common import checks
from recurra.common.docstrings import with_inherited_arguments
from recurra.common.typing import Array
from recurra.losses import L1, Huber, Loss, MeanSquaredError
from recurra.sklearn import rows
from recurra.sklearn.base import weights
from recurra.sklearn.token_estimator import TokenEstimator

if TYPE_CHECKING:
    from typing_extensions import Self

_LOSSES: dict[str, type[Loss]] = {"squared_error": MeanSquaredError, "absolute_error": L1, "huber": Huber}


@with_inherited_arguments
@dataclass(kw_only=True, eq=False, repr=False)
class SequenceRegressor(RegressorMixin, TokenEstimator):  # type: ignore[misc]
    """Predicts one or more numbers for each sequence from the last output of a recurrent network.

    X is an array (N, T, F), a list (or array of objects) of N arrays (T_n, F), or a table (N, T) of T steps of one
    feature. Scale it first: `make_pipeline(SequenceScaler(), SequenceRegressor())`. The targets need no scaling: they
    are standardised for training, and predictions are scaled back. Losses are in standardised units.

    Words, characters and other tokens take `embedding_dim`:
    `make_pipeline(SequenceEncoder(), SequenceRegressor(embedding_dim=16))`; X is then a list of integer arrays (T_n,),
    or a table (N, T).

    Args:
        loss: "squared_error", "absolute_error", or "huber" with delta 1 (one standard deviation).

    Attributes are those of `TokenEstimator`.

    Example:
        >>> from recurra.sklearn import SequenceRegressor
        >>> rng = np.random.default_rng(0)
        >>> x = [rng.normal(size=(steps, 2)) for steps in (5, 9, 7, 6)]
        >>> model = SequenceRegressor(max_iter=3, random_state=0).fit(x, [1.0, 2.0, 1.0, 3.0])
        >>> model.predict(x).shape
        (4,)
    """

    loss: str = "squared_error"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Train from scratch.

        Args:
            X: the sequences; see the class.
            y: (N,) targets, or (N, K) for K targets a row.
            sample_weight: (N,) non-negative weights of the rows' losses; None for 1 each.

        Raises:
            ValueError, TypeError: X or y do not fit, or an argument of the constructor is out of range.
        """
        name = type(self).__name__
        x = self._steps(self._given(X, reset=True))
        y = self._numbers(f"{name}.fit", y)
        rows.check_length(f"{name}.fit", x, y)
        weight = weights(name, sample_weight, len(y))
        if weight is not None:
            seen = np.flatnonzero(weight)
            x, y, weight = rows.take(x, seen), y[seen], weight[seen]
        self._single = y.ndim == 1
        targets = y.reshape(len(y), -1)
        self._standardise(targets, weight)
        loss = self._loss(f"{name}.fit")
        seed = self._seed()
        model = self._model(x, targets.shape[1], False, seed)
        scaled = ((targets - self._mean) / self._deviation).astype(np.float32)
        self._train(model, x, scaled, loss, seed, sample_weight=weight, split=self._split(len(y), seed))
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Train further, by one pass over the rows: from scratch, or from what `fit` or earlier calls have learnt,
        whose rows are not needed again, so data may come in parts. The targets stay standardised as at first.

        Args:
            X, y, sample_weight: as in fit.

        Raises:
            ValueError, TypeError: as in fit; y of another number of targets.
        """
        name, first = f"{type(self).__name__}.partial_fit", self._is_new()
        x = self._steps(self._given(X, reset=first, part=True))
        y = self._numbers(name, y)
        rows.check_length(name, x, y)
        targets = y.reshape(len(y), -1)
        weight = weights(type(self).__name__, sample_weight, len(y))
        if first:
            self._single = y.ndim == 1
            self._standardise(targets, weight)
        elif targets.shape[1] != len(self._mean):
            raise ValueError(
                f"{name}: got {targets.shape[1]} targets, expected {len(self._mean)}, as in the first call; change y"
            )
        scaled = ((targets - self._mean) / self._deviation).astype(np.float32)
        loss = self._loss(name)
        self._begin(lambda seed: self._model(x, targets.shape[1], False, seed))
        self._pass(x, scaled, loss, weight)
        return self

    def _numbers(self, name: str, y: Any) -> Array:
        """The targets, checked."""
        if y is None:
            raise ValueError(f"{name}: requires y to be passed, but the target y is None; give a number for each row")
        if isinstance(y, list) and len({np.shape(row) for row in y}) > 1:
            raise ValueError(
                f"{name}: got y with rows of several shapes, expected (N,) or (N, K), as many numbers for each "
                "row; a list of arrays is for SequenceTagger"
            )
        array: Array = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y")
        if array.ndim > 2:
            raise ValueError(
                f"{name}: got y of shape {array.shape}, expected (N,) or (N, K), numbers for each row; reshape y"
            )
        return array

    def _standardise(self, targets: Array, weight: Array | None) -> None:
        mean = np.average(targets, axis=0, weights=weight)
        deviation = np.sqrt(np.average((targets - mean) ** 2, axis=0, weights=weight))
        self._mean, self._deviation = mean, rows.divisor(deviation, mean)

    def _loss(self, name: str) -> Loss:
        return _LOSSES[checks.choice(name, "loss", self.loss, tuple(_LOSSES))]()

    def predict(self, X: Any) -> Array:  # noqa: N803
        """The predictions, (N,) or (N, K) as y in fit."""
        check_is_fitted(self, "model_")
        x = self._steps(self._given(X, reset=False))
        outputs = np.stack(list(self._run(x))).astype(np.float64) * self._deviation + self._mean
        predictions: Array = outputs[:, 0] if self._single else outputs
        return predictions
