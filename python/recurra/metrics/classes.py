"""Precision, recall and F1 score."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recurra.common import checks
from recurra.common.docstrings import with_inherited_arguments
from recurra.common.typing import Array, Lengths, Rows
from recurra.losses import BinaryCrossEntropy, CrossEntropy
from recurra.metrics.correct import binary, exceeds
from recurra.metrics.metric import Read, Valid, choose


class ClassScore(Read):
    """A score of classes, from how often each was predicted, was the target, and was both.

    With `threshold`, predictions are logits as for `losses.BinaryCrossEntropy`, targets are 0 or 1 in the same shape,
    and the only class is that of targets 1. Else predictions are logits (N, T, C) or (N, C), and targets labels (N, T)
    or (N,).

    Args:
        average: "macro", the mean over classes; "weighted", the mean weighted by how often each class is the target;
            "micro", the score of the counts summed over classes.
        labels: the classes to average over, such as all but a "none" class; None for those that occur in predictions or
            targets.
        ignore_index: a label whose steps do not count.
        threshold: elements with a probability above it are predicted as 1.
        name: by default the class name in lower case.

    Example:
        >>> metric = rc.metrics.Recall("micro", labels=[1])  # of class 1 alone
        >>> metric.update(np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]), np.array([0, 1, 1]))
        >>> metric.result()
        0.5
    """

    mode = "max"

    def __init__(
        self,
        average: str = "macro",
        *,
        labels: Sequence[int] | None = None,
        ignore_index: int | None = None,
        threshold: float | None = None,
        name: str | None = None,
    ) -> None:
        own = type(self).__name__
        self.average = checks.choice(own, "average", average, ("macro", "weighted", "micro"))
        self.ignore_index = ignore_index
        self.threshold = None if threshold is None else checks.number(own, "threshold", threshold, 0.0, 1.0)
        if threshold is not None and (labels is not None or ignore_index is not None):
            raise ValueError(
                f"{own}: got threshold={threshold!r} with labels or ignore_index, expected threshold for targets that "
                "are 0 or 1, the other two for classes; leave one of them out"
            )
        self.labels: tuple[int, ...] | None = None
        if labels is not None:
            values = checks.array(own, "labels", labels)
            if values.ndim != 1 or values.dtype.kind not in "iu" or not len(values) or (values < 0).any():
                raise ValueError(
                    f"{own}: got labels={labels!r}, expected one or more classes, integers of at least 0; change labels"
                )
            self.labels = tuple(dict.fromkeys(values.tolist()))
        loss = CrossEntropy(ignore_index=ignore_index) if threshold is None else BinaryCrossEntropy()
        super().__init__(name, own.lower(), loss)

    def reset(self) -> None:
        """Reset to no batches."""
        self._counts: Array | None = None  # (3, C) right, predicted, wanted; integers without weights

    def update(
        self, predictions: Any, targets: Rows, lengths: Lengths = None, weights: npt.ArrayLike | None = None
    ) -> None:
        """Add a batch."""
        valid = self._valid(predictions, targets, lengths, weights)
        if self.threshold is not None:
            positive = binary(type(self).__name__, valid.targets)
            above = exceeds(valid.predictions, self.threshold)
            each = 1 if valid.weights is None else valid.weights[:, None]
            counts = np.array([[(one * each).sum()] for one in (above & positive, above, positive)])
        else:
            counts = self._count_classes(valid)
        if self._counts is not None:
            self._same_size("classes", counts.shape[1], self._counts.shape[1])
            counts = counts + self._counts
        self._counts = counts

    def _count_classes(self, valid: Valid) -> Array:
        classes = valid.predictions.shape[-1]
        if self.labels is not None and max(self.labels) >= classes:
            raise ValueError(
                f"{type(self).__name__}: got the class {max(self.labels)} in labels, expected 0 to {classes - 1}, as "
                f"the predictions have {classes} classes; change labels"
            )
        if self.ignore_index is not None:
            valid = valid.chosen(valid.targets != self.ignore_index)
        chosen, wanted = choose(valid.predictions), valid.targets
        parts = ((chosen, chosen == wanted), (chosen, chosen >= 0), (wanted, wanted >= 0))  # `chosen` is -1 for NaN
        return np.stack(
            [
                np.bincount(part[which], None if valid.weights is None else valid.weights[which], classes)
                for part, which in parts
            ]
        )

    def per_class(self) -> Array:
        """(C,) the score of each class, float64; NaN for classes that were neither predicted nor targets."""
        if self._counts is None:
            return np.zeros(0)
        occurs = self._counts[1:].any(0)
        return np.where(occurs, self._score(*self._counts), np.nan)

    def result(self) -> float:
        """The average; NaN if there is nothing to average. A score divided by 0 is 0, as in scikit-learn."""
        if self._counts is None or not self._counts[1:].any():
            return math.nan
        counts = self._counts[:, self._counts[1:].any(0) if self.labels is None else list(self.labels)]
        if self.average == "micro":
            return float(self._score(*counts.sum(1, keepdims=True))[0])
        scores = self._score(*counts)
        if self.average == "macro":
            return float(scores.mean())
        return float((scores * counts[2]).sum() / counts[2].sum()) if counts[2].any() else 0.0

    @abstractmethod
    def _score(self, right: Array, predicted: Array, wanted: Array) -> Array:
        """The score of each class, from its counts."""


def _divided(one: Array, other: Array) -> Array:
    return np.divide(one, other, out=np.zeros(np.shape(other)), where=other > 0)


@with_inherited_arguments
class Precision(ClassScore):
    """The fraction of the predictions of a class that are right.

    Example:
        >>> metric = rc.metrics.Precision("macro")
        >>> metric.update(np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]), np.array([0, 1, 1]))
        >>> round(metric.result(), 3)
        0.75
    """

    def _score(self, right: Array, predicted: Array, wanted: Array) -> Array:
        return _divided(right, predicted)


@with_inherited_arguments
class Recall(ClassScore):
    """The fraction of the targets of a class that were predicted.

    Example:
        >>> metric = rc.metrics.Recall("macro")
        >>> metric.update(np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]), np.array([0, 1, 1]))
        >>> round(metric.result(), 3)
        0.75
    """

    def _score(self, right: Array, predicted: Array, wanted: Array) -> Array:
        return _divided(right, wanted)


@with_inherited_arguments
class F1(ClassScore):
    """The harmonic mean of precision and recall, 2 right / (predicted + wanted).

    Example:
        >>> metric = rc.metrics.F1("macro")
        >>> metric.update(np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]), np.array([0, 1, 1]))
        >>> round(metric.result(), 3)
        0.667
    """

    def _score(self, right: Array, predicted: Array, wanted: Array) -> Array:
        return _divided(2 * right, predicted + wanted)
