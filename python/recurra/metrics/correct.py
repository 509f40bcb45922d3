"""Accuracies: the fraction of predictions that are right."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from recurra.common import checks
from recurra.common.typing import Array, Lengths, Rows
from recurra.losses import BinaryCrossEntropy, CrossEntropy
from recurra.losses.step_loss import counted_steps, spread
from recurra.metrics.metric import Ratio, choose


class Accuracy(Ratio):
    """The fraction of labels whose class has the largest logit, or one of the `top_k` largest.

    Predictions are logits (N, T, C) or (N, C), targets labels (N, T) or (N,). Among equal logits the lower class ranks
    first. A step with a NaN is wrong.

    Args:
        top_k: a label is right if its class is among the first top_k.
        ignore_index: a label whose steps do not count.
        name: by default "accuracy", or for top_k=5 "top_5_accuracy".

    Example:
        >>> metric = rc.metrics.Accuracy()
        >>> metric.update(np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]), np.array([0, 1, 1]))
        >>> round(metric.result(), 3)
        0.667
    """

    mode = "max"

    def __init__(self, top_k: int = 1, ignore_index: int | None = None, name: str | None = None) -> None:
        self.top_k = checks.integer(type(self).__name__, "top_k", top_k)
        self.ignore_index = ignore_index
        default = "accuracy" if self.top_k == 1 else f"top_{self.top_k}_accuracy"
        super().__init__(name, default, CrossEntropy(ignore_index=ignore_index))

    def update(
        self, predictions: Any, targets: Rows, lengths: Lengths = None, weights: npt.ArrayLike | None = None
    ) -> None:
        """Add a batch."""
        valid = self._valid(predictions, targets, lengths, weights)
        classes = valid.predictions.shape[-1]
        if self.top_k > classes:
            raise ValueError(
                f"{type(self).__name__}: got top_k={self.top_k} for predictions of {classes} classes, expected at most "
                f"as many; lower top_k"
            )
        if self.ignore_index is not None:
            valid = valid.chosen(valid.targets != self.ignore_index)
        self._add(self._right(valid.predictions, valid.targets), valid.weights)

    def _right(self, x: Array, labels: Array) -> Array:
        if self.top_k == 1:
            chosen: Array = choose(x) == labels
            return chosen
        own = np.take_along_axis(x, labels[:, None], -1)
        before = (x > own) | ((x == own) & (np.arange(x.shape[-1]) < labels[:, None]))
        right: Array = (before.sum(-1) < self.top_k) & ~np.isnan(x).any(-1)
        return right


class SequenceAccuracy(Ratio):
    """The fraction of rows in which every label has the largest logit.

    Predictions are logits (N, T, C), targets labels (N, T). A row without labels does not count. The weight of a row is
    the mean weight of its steps. With `TruncatedBPTT`, and in batches that carry state, the part of a row in one window
    or batch counts as a row.

    Args:
        ignore_index: a label whose steps do not count.
        name: by default "sequence_accuracy".

    Example:
        >>> metric = rc.metrics.SequenceAccuracy()
        >>> metric.update(np.eye(3)[[[0, 1], [2, 2]]], np.array([[0, 1], [2, 1]]))
        >>> metric.result()
        0.5
    """

    mode = "max"

    def __init__(self, ignore_index: int | None = None, name: str | None = None) -> None:
        self.ignore_index = ignore_index
        super().__init__(name, "sequence_accuracy", CrossEntropy(ignore_index=ignore_index))

    def update(
        self, predictions: Any, targets: Rows, lengths: Lengths = None, weights: npt.ArrayLike | None = None
    ) -> None:
        """Add a batch."""
        batch = self._loss.read(type(self).__name__, predictions, targets, lengths, weights)
        labels = batch.targets if batch.targets.ndim == 2 else batch.targets[:, None]
        steps = counted_steps(batch.predictions.shape, batch.lengths, batch.weights)
        counted = np.ones(labels.shape, bool) if steps is None else steps.reshape(labels.shape)
        if self.ignore_index is not None:
            counted = counted & (labels != self.ignore_index)
        right = ~(counted & (choose(batch.predictions).reshape(labels.shape) != labels)).any(-1)
        used, each = counted.any(-1), None
        if batch.weights is not None:
            counted = counted[used]
            each = (spread(batch.weights, labels.shape)[used] * counted).sum(-1) / counted.sum(-1)
        self._add(right[used], each)


class BinaryAccuracy(Ratio):
    """The fraction of targets, 0 or 1, predicted rightly: as 1 if the probability is above `threshold`, else as 0.

    Predictions are logits in the shape of the targets, (N, T, F) or (N, F). A NaN is wrong.

    Args:
        threshold: a probability, from 0 to 1.
        name: by default "binary_accuracy".

    Example:
        >>> metric = rc.metrics.BinaryAccuracy()
        >>> metric.update(np.array([[2.0], [-1.0]]), np.array([[1], [1]]))
        >>> metric.result()
        0.5
    """

    mode = "max"

    def __init__(self, threshold: float = 0.5, name: str | None = None) -> None:
        self.threshold = checks.number(type(self).__name__, "threshold", threshold, 0.0, 1.0)
        super().__init__(name, "binary_accuracy", BinaryCrossEntropy())

    def update(
        self, predictions: Any, targets: Rows, lengths: Lengths = None, weights: npt.ArrayLike | None = None
    ) -> None:
        """Add a batch."""
        x, wanted, each = self._valid(predictions, targets, lengths, weights)
        positive = binary(type(self).__name__, wanted)
        self._add((exceeds(x, self.threshold) == positive) & ~np.isnan(x), each)


def binary(operation: str, targets: Array) -> Array:
    """A mask of the targets that are 1; refuses targets other than 0 and 1."""
    positive: Array = targets == 1
    if not (positive | (targets == 0)).all():
        raise ValueError(
            f"{operation}: got targets between 0 and 1, expected 0 or 1; write (targets > 0.5) if they are "
            "probabilities"
        )
    return positive


def exceeds(logits: Array, threshold: float) -> Array:
    """A mask of the logits whose probability is above `threshold`."""
    least = math.inf if threshold == 1.0 else math.log(threshold / (1.0 - threshold)) if threshold else -math.inf
    above: Array = logits > least
    return above
