"""The area under the receiver operating characteristic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from recurra.common import checks
from recurra.common.typing import Array, Lengths, Rows
from recurra.data.rows import one_array
from recurra.losses import BinaryCrossEntropy, CrossEntropy, Loss
from recurra.metrics.correct import binary
from recurra.metrics.metric import Read


class AUC(Read):
    """The area under the ROC curve: the probability that a positive has a larger score than a negative.

    Equal scores count half (Mann and Whitney 1947). The area is exact, by ranks, so all scores are kept until
    `reset()`.

    Targets 0 or 1 in the shape of the predictions, logits (N, T, F) or (N, F), give the mean over the F features.
    Integer labels (N, T) or (N,) for logits (N, T, C) or (N, C) give the mean over classes, each class against all
    others by its softmax probability. Features and classes without positives or without negatives are left out.

    Args:
        ignore_index: a label whose steps do not count.
        name: by default "auc".

    Example:
        >>> metric = rc.metrics.AUC()
        >>> metric.update(np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]), np.array([0, 1, 1]))
        >>> metric.result()
        0.75
    """

    mode = "max"

    def __init__(self, ignore_index: int | None = None, name: str | None = None) -> None:
        self.ignore_index = ignore_index
        self._labels = CrossEntropy(ignore_index=ignore_index)
        super().__init__(name, "auc", self._labels)

    def reset(self) -> None:
        """Reset to no batches."""
        self._scores: list[Array] = []
        self._positive: list[Array] = []
        self._weights: list[Array] = []

    def update(
        self, predictions: Any, targets: Rows, lengths: Lengths = None, weights: npt.ArrayLike | None = None
    ) -> None:
        """Add a batch."""
        own = type(self).__name__
        predictions, targets, lengths, weights = one_array(own, predictions, targets, lengths, weights)
        targets = checks.numeric(own, "targets", targets)
        by_label = targets.ndim < np.ndim(predictions)
        valid = self._valid(predictions, targets, lengths, weights, self.reads(targets.ndim, np.ndim(predictions)))
        if self._scores:
            self._same_size("features", valid.predictions.shape[-1], self._scores[0].shape[-1])
        if by_label and self.ignore_index is not None:
            valid = valid.chosen(valid.targets != self.ignore_index)
        x, wanted, each = valid
        if by_label:
            positive = wanted[:, None] == np.arange(x.shape[-1])
            scores = _log_softmax(x.astype(np.float64))
        else:
            positive, scores = binary(own, wanted), x.astype(np.float64)
        self._scores = [*self._scores, scores]  # a new list, as a `state_dict()` may hold the old one
        self._positive = [*self._positive, positive]
        self._weights = [*self._weights, np.ones(len(x)) if each is None else each.copy()]

    def reads(self, targets: int, predictions: int) -> Loss:
        """Cross-entropy for labels, which have one axis fewer than the predictions; else binary cross-entropy."""
        return self._labels if targets < predictions else BinaryCrossEntropy()

    def result(self) -> float:
        """The area, 0 to 1, 0.5 for random scores; NaN without both positives and negatives, or if a score is NaN."""
        if not self._scores:
            return math.nan
        scores, positive, weights = (np.concatenate(one) for one in (self._scores, self._positive, self._weights))
        if np.isnan(scores).any():
            return math.nan
        areas = [
            _area(one, chosen, weights)
            for one, chosen in zip(scores.T, positive.T, strict=True)
            if 0 < chosen.sum() < len(chosen)
        ]
        return float(np.mean(areas)) if areas else math.nan


def _area(scores: Array, positive: Array, weights: Array) -> float:
    """The area, from the weight of negatives below each positive's score; equal scores count half."""
    _, place = np.unique(scores, return_inverse=True)
    above, below = (np.bincount(place.ravel(), weights * one) for one in (positive, ~positive))
    return float((above * (np.cumsum(below) - below / 2)).sum() / (above.sum() * below.sum()))


def _log_softmax(x: Array) -> Array:
    with np.errstate(invalid="ignore"):  # infinite logits give NaN
        shifted = x - x.max(-1, keepdims=True, initial=-math.inf)
        result: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result
