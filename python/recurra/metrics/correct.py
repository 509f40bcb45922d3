"""Shares of what is right."""

from __future__ import annotations

import math

import numpy as np

from recurra import checks
from recurra.losses import BinaryCrossEntropy, CrossEntropy
from recurra.metrics.metric import Ratio, choose
from recurra.typing import Array, Lengths, Rows


class Accuracy(Ratio):
    """The share of the labels whose class has the largest logit, or one of the `top_k` largest.

    Predictions are logits (N, T, C) or (N, C), targets labels (N, T) or (N,). Of equal logits the lower class comes first.
    A step with a NaN is wrong.

    Args:
        top_k: a label is right if fewer classes than this come before it.
        ignore_index: a label whose steps do not count.
        name: by default "accuracy", or as "top_5_accuracy".
    """

    mode = "max"

    def __init__(self, top_k: int = 1, ignore_index: int | None = None, name: str | None = None) -> None:
        self.top_k = checks.integer(type(self).__name__, "top_k", top_k)
        self.ignore_index = ignore_index
        default = "accuracy" if self.top_k == 1 else f"top_{self.top_k}_accuracy"
        super().__init__(name, default, CrossEntropy(ignore_index=ignore_index))

    def update(self, predictions: Array, targets: Rows, lengths: Lengths = None) -> None:
        """Add a batch."""
        x, labels = self._valid(predictions, targets, lengths)
        if self.top_k > x.shape[-1]:
            raise ValueError(
                f"{type(self).__name__}: got top_k={self.top_k} for predictions of {x.shape[-1]} classes, expected no more "
                f"than there are; lower top_k"
            )
        if self.ignore_index is not None:
            counted = labels != self.ignore_index
            x, labels = x[counted], labels[counted]
        self._sum += float(np.count_nonzero(self._right(x, labels)))
        self._count += len(labels)

    def _right(self, x: Array, labels: Array) -> Array:
        if self.top_k == 1:
            chosen: Array = choose(x) == labels
            return chosen
        own = np.take_along_axis(x, labels[:, None], -1)
        before = (x > own) | ((x == own) & (np.arange(x.shape[-1]) < labels[:, None]))
        right: Array = (before.sum(-1) < self.top_k) & ~np.isnan(x).any(-1)
        return right


class SequenceAccuracy(Ratio):
    """The share of the rows in which every label has the largest logit.

    Predictions are logits (N, T, C), targets labels (N, T). A row without labels does not count.
    In training by `TruncatedBPTT`, and of batches that carry a state, a row is what a window or batch has of it.

    Args:
        ignore_index: a label whose steps do not count.
        name: by default "sequence_accuracy".
    """

    mode = "max"

    def __init__(self, ignore_index: int | None = None, name: str | None = None) -> None:
        self.ignore_index = ignore_index
        super().__init__(name, "sequence_accuracy", CrossEntropy(ignore_index=ignore_index))

    def update(self, predictions: Array, targets: Rows, lengths: Lengths = None) -> None:
        """Add a batch."""
        batch = self._loss.read(type(self).__name__, predictions, targets, lengths)
        labels = batch.targets if batch.targets.ndim == 2 else batch.targets[:, None]
        counted = np.ones(labels.shape, bool)
        if batch.lengths is not None:
            counted = checks.steps_within(batch.lengths, labels.shape[1])
        if self.ignore_index is not None:
            counted = counted & (labels != self.ignore_index)
        wrong = counted & (choose(batch.predictions).reshape(labels.shape) != labels)
        used = counted.any(-1)
        self._sum += float(np.count_nonzero(used & ~wrong.any(-1)))
        self._count += int(np.count_nonzero(used))


class BinaryAccuracy(Ratio):
    """The share of the targets, 0 or 1, that are told from each other by a probability above `threshold`, or not.

    Predictions are logits, targets have their shape: (N, T, F) or (N, F). A NaN is wrong.

    Args:
        threshold: a probability, from 0 to 1.
        name: by default "binary_accuracy".
    """

    mode = "max"

    def __init__(self, threshold: float = 0.5, name: str | None = None) -> None:
        self.threshold = checks.number(type(self).__name__, "threshold", threshold, 0.0, 1.0)
        super().__init__(name, "binary_accuracy", BinaryCrossEntropy())

    def update(self, predictions: Array, targets: Rows, lengths: Lengths = None) -> None:
        """Add a batch."""
        x, wanted = self._valid(predictions, targets, lengths)
        positive = binary(type(self).__name__, wanted)
        right = (exceeds(x, self.threshold) == positive) & ~np.isnan(x)
        self._sum += float(np.count_nonzero(right))
        self._count += right.size


def binary(operation: str, targets: Array) -> Array:
    """Which of the targets, 0 or 1, are 1."""
    positive: Array = targets == 1
    if not (positive | (targets == 0)).all():
        raise ValueError(
            f"{operation}: got targets between 0 and 1, expected 0 or 1; write (targets > 0.5) if they are probabilities"
        )
    return positive


def exceeds(logits: Array, threshold: float) -> Array:
    """Which logits are of a probability above `threshold`."""
    least = math.inf if threshold == 1.0 else math.log(threshold / (1.0 - threshold)) if threshold else -math.inf
    above: Array = logits > least
    return above
