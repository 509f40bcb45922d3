"""The area under the receiver operating characteristic."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from recurra.common import checks
from recurra.common.typing import Array, Lengths, Rows
from recurra.losses import BinaryCrossEntropy, CrossEntropy, Loss
from recurra.metrics.correct import binary
from recurra.metrics.metric import Read


class AUC(Read):
    """The area under the ROC curve: how often something positive has a larger score than something negative.

    An equal score counts half (Mann and Whitney 1947). It is exact, by ranks, and so keeps all scores until `reset()`.

    Targets that are 0 or 1 and have the shape of the predictions, logits (N, T, F) or (N, F), give the mean over the F
    features. Integer labels (N, T) or (N,) for logits (N, T, C) or (N, C) give the mean over classes, of the softmax
    probability of each against all others. What lacks positives or negatives is left out of the mean.

    Args:
        ignore_index: a label whose steps do not count.
        name: by default "auc".
    """

    mode = "max"

    def __init__(self, ignore_index: int | None = None, name: str | None = None) -> None:
        self.ignore_index = ignore_index
        self._labels = CrossEntropy(ignore_index=ignore_index)
        super().__init__(name, "auc", self._labels)

    def reset(self) -> None:
        """Forget all batches."""
        self._scores: list[Array] = []
        self._positive: list[Array] = []
        self._weights: list[Array] = []

    def update(
        self, predictions: Array, targets: Rows, lengths: Lengths = None, weights: npt.ArrayLike | None = None
    ) -> None:
        """Add a batch."""
        own = type(self).__name__
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
        self._scores = [*self._scores, scores]  # a new list: a `state_dict()` keeps its own
        self._positive = [*self._positive, positive]
        self._weights = [*self._weights, np.ones(len(x)) if each is None else each.copy()]

    def reads(self, targets: int, predictions: int) -> Loss:
        """Labels have an axis less than the predictions."""
        return self._labels if targets < predictions else BinaryCrossEntropy()

    def result(self) -> float:
        """From 0 to 1, 0.5 for scores that say nothing; NaN without positives and negatives, or if a score is NaN."""
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
    """By the weight of the negatives below each score, of equal ones half."""
    _, place = np.unique(scores, return_inverse=True)
    above, below = (np.bincount(place.ravel(), weights * one) for one in (positive, ~positive))
    return float((above * (np.cumsum(below) - below / 2)).sum() / (above.sum() * below.sum()))


def _log_softmax(x: Array) -> Array:
    with np.errstate(invalid="ignore"):  # NaN where infinite logits leave nothing to compare
        shifted = x - x.max(-1, keepdims=True, initial=-math.inf)
        result: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result
