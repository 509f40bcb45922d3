"""Losses of labels: softmax and binary cross-entropy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from recurra import _core
from recurra.common import checks
from recurra.common.typing import Array
from recurra.losses import probabilities
from recurra.losses.of_logits import OfLogits
from recurra.losses.step_loss import StepLoss, as_numbers, count_steps, counted_steps, spread


class LabelLoss(StepLoss):
    """A loss with an integer label at every step, from 0 to the number of features - 1.

    Attributes: ignore_index, a label whose steps do not count; class_weights, the weight of each label in the count.
    """

    class_weights: Array | None = None

    def __init__(self, ignore_index: int | None) -> None:
        self.ignore_index = ignore_index
        if ignore_index is not None:
            self.ignore_index = checks.integer(type(self).__name__, "ignore_index", ignore_index, -checks.LARGEST)

    def convert(self, operation: str, name: str, targets: Array, dtype: np.dtype[Any]) -> Array:
        """Labels as int64."""
        if targets.dtype.kind not in "iu":
            raise TypeError(
                f"{operation}: got {name} of {targets.dtype}, expected integer labels for {type(self).__name__}; "
                f"{_as_labels(name, targets)}"
            )
        return checks.int64(targets)

    def _target_shape(self, operation: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[:-1]

    def _hint(self, name: str, got: tuple[int, ...], expected: tuple[int, ...], shape: tuple[int, ...]) -> str:
        one_hot = got == shape and got[-1] > 1
        return f"write {name}.argmax(-1) if they are one-hot" if one_hot else super()._hint(name, got, expected, shape)

    def _check_values(self, operation: str, name: str, valid: Array, features: int) -> None:
        if self.ignore_index is not None:
            valid = valid[valid != self.ignore_index]
        if not valid.size:
            return
        low, high = int(valid.min()), int(valid.max())
        if low < 0 or high >= features:
            raise ValueError(
                f"{operation}: got labels from {low} to {high} in {name}, expected 0 to {features - 1}, as the "
                f"predictions have {features} class{'es' if features > 1 else ''}; "
                f"{_in_range(name, low, high, features)}"
            )

    def _count(
        self, operation: str, shape: tuple[int, ...], targets: Array, lengths: Array | None, weights: Array | None
    ) -> float:
        if self.class_weights is None and self.ignore_index is None:
            return count_steps(shape[:-1], lengths, weights)
        counted = counted_steps(shape, lengths, weights)
        used = np.ones(targets.shape, bool) if counted is None else counted
        if self.ignore_index is not None:
            used = used & (targets != self.ignore_index)
        if self.class_weights is None and weights is None:
            return int(np.count_nonzero(used))
        each: Any = 1.0 if self.class_weights is None else self.class_weights[targets[used]]
        if weights is not None:
            each = each * spread(weights, targets.shape)[used]
        return float(np.sum(each))


class CrossEntropy(OfLogits, LabelLoss):
    """Softmax cross-entropy, -log softmax(logits)[label], in nats, summed over the labels.

    Predictions are logits (N, T, C) or (N, C): the outputs of a last layer without softmax, which the loss applies
    itself. Targets are integer labels (N, T) or (N,), from 0 to C - 1. Options and mean are those of
    `torch.nn.CrossEntropyLoss`: with class weights the count is the sum of the labels' weights, a float, else the
    number of labels.

    Args:
        label_smoothing: e from 0 to 1: the target is 1 - e at the label plus e / C at each of the C classes.
        ignore_index: a label, of any value, whose steps do not count, and have the gradient 0.
        class_weights: (C,) w, finite and at least 0: the term -log p_c of class c in the target is multiplied by w_c.
        from_logits: False if predictions are probabilities p, of a model that ends in a softmax: -log(p_c / sum of p).
            This is less exact, as p is rounded: p below the dtype's epsilon is clipped to it, with the gradient 0.

    Example:
        >>> loss = rc.losses.CrossEntropy(ignore_index=-100)
        >>> value = loss(np.zeros((2, 5, 4), np.float32), np.full((2, 5), 3))
        >>> round(value.mean, 3), value.gradient.shape
        (1.386, (2, 5, 4))
    """

    activation = "softmax"
    _as_logits = staticmethod(probabilities.log)

    def __init__(
        self,
        label_smoothing: float = 0.0,
        ignore_index: int | None = None,
        class_weights: npt.ArrayLike | None = None,
        from_logits: bool = True,
    ) -> None:
        name = type(self).__name__
        self.from_logits = checks.flag(name, "from_logits", from_logits)
        self.label_smoothing = checks.number(name, "label_smoothing", label_smoothing, 0.0, 1.0)
        super().__init__(ignore_index)
        self.class_weights = None
        if class_weights is not None:
            weights = np.array(checks.numeric(name, "class_weights", class_weights), np.float64)
            if weights.ndim != 1 or not (np.isfinite(weights) & (weights >= 0)).all():
                raise ValueError(
                    f"{name}: got class_weights={class_weights!r}, expected a finite number of at least 0 for each "
                    "class; change class_weights"
                )
            self.class_weights = weights

    def _target_shape(self, operation: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.class_weights is not None and len(self.class_weights) != shape[-1]:
            raise ValueError(
                f"{operation}: got predictions of {shape[-1]} classes, expected {len(self.class_weights)}, as "
                "class_weights has; give a weight for each class"
            )
        return shape[:-1]

    def _sum_of_logits(
        self, predictions: Array, targets: Array, lengths: Array | None, weights: Array | None, gradient: bool
    ) -> tuple[float, Array | None]:
        if self.class_weights is None and self.ignore_index is None and not self.label_smoothing:
            return _core.softmax_cross_entropy(predictions, targets, lengths, weights, gradient)
        classes = None if self.class_weights is None else self.class_weights.astype(predictions.dtype)
        return _core.softmax_cross_entropy(
            predictions, targets, lengths, weights, gradient, classes, self.label_smoothing, self.ignore_index
        )

    def probabilities(self, predictions: Array) -> Array:
        """(..., C) the probability of each class, from the predictions of a model trained with this loss."""
        if not self.from_logits:
            return predictions
        shifted = np.exp(predictions - predictions.max(-1, keepdims=True, initial=-np.inf))
        made: Array = shifted / shifted.sum(-1, keepdims=True)
        return made


def _as_labels(name: str, targets: Array) -> str:
    """A hint how to convert non-integer targets to labels."""
    if targets.dtype.kind == "b":
        return f"write {name}.astype(np.int64), or use BinaryCrossEntropy for one logit each"
    if targets.ndim > 1 and np.isin(targets, (0, 1)).all() and (targets.sum(-1) == 1).all():
        return f"write {name}.argmax(-1), as they are one-hot"
    if (targets == np.round(targets)).all():
        return f"write {name}.astype(np.int64)"
    return "for real numbers use a loss such as MeanSquaredError"


def _in_range(name: str, low: int, high: int, features: int) -> str:
    """A hint how to bring labels into the range of the classes."""
    if low < 0:
        return (
            f"number the labels from 0; where {low} stands for no label, give lengths, or use "
            f"CrossEntropy(ignore_index={low})"
        )
    if features == 1:
        return (
            f"for one logit use BinaryCrossEntropy, as metric BinaryAccuracy, with {name}[..., None] of 0 and 1; or "
            f"make the last layer give {high + 1} features"
        )
    return f"number the labels from 0, or make the last layer give {high + 1} features"


class BinaryCrossEntropy(OfLogits):
    """-w t log sigmoid(x) - (1 - t) log(1 - sigmoid(x)), in nats, summed over all elements.

    Predictions are logits x: the outputs of a last layer without sigmoid, which the loss applies itself. Targets t,
    from 0 to 1 (or bool), have the same shape. The mean is over elements, as in `torch.nn.BCEWithLogitsLoss`.

    Args:
        pos_weight: w, the weight of positive targets: a number, or one for each feature, (F,); None for 1. The ratio of
            negatives to positives balances the two.
        from_logits: False if predictions are probabilities p = sigmoid(x), of a model that ends in a sigmoid. This is
            less exact, as p is rounded: p within the dtype's epsilon of 0 or 1 is clipped, with the gradient 0.

    Example:
        >>> loss = rc.losses.BinaryCrossEntropy(pos_weight=3.0)
        >>> value = loss(np.zeros((2, 5, 1), np.float32), np.ones((2, 5, 1)))
        >>> round(value.mean, 3), value.gradient.shape
        (2.079, (2, 5, 1))
    """

    activation = "sigmoid"
    _as_logits = staticmethod(probabilities.logit)

    def __init__(self, pos_weight: npt.ArrayLike | None = None, *, from_logits: bool = True) -> None:
        name = type(self).__name__
        self.from_logits = checks.flag(name, "from_logits", from_logits)
        self.pos_weight: float | Array | None = None
        if pos_weight is not None:
            weight = np.array(checks.numeric(name, "pos_weight", pos_weight), np.float64)
            if weight.ndim > 1 or not (np.isfinite(weight) & (weight >= 0)).all():
                raise ValueError(
                    f"{name}: got pos_weight={pos_weight!r}, expected a finite number of at least 0, or one for each "
                    "feature; change pos_weight"
                )
            self.pos_weight = weight if weight.ndim else float(weight)

    def _target_shape(self, operation: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        if isinstance(self.pos_weight, np.ndarray) and len(self.pos_weight) != shape[-1]:
            raise ValueError(
                f"{operation}: got predictions of {shape[-1]} features, expected {len(self.pos_weight)}, as pos_weight "
                "has; give one number per feature, or one for all"
            )
        return shape

    def convert(self, operation: str, name: str, targets: Array, dtype: np.dtype[Any]) -> Array:
        """Targets in the predictions' dtype."""
        return as_numbers(targets, dtype)

    def _check_values(self, operation: str, name: str, valid: Array, features: int) -> None:
        low, high = float(valid.min()), float(valid.max())
        if not (low >= 0.0 and high <= 1.0):  # written so that NaN is refused too
            raise ValueError(
                f"{operation}: got values from {low:g} to {high:g} in {name}, expected 0 to 1 for BinaryCrossEntropy; "
                f"scale them, or use CrossEntropy for several classes"
            )

    def _sum_of_logits(
        self, predictions: Array, targets: Array, lengths: Array | None, weights: Array | None, gradient: bool
    ) -> tuple[float, Array | None]:
        if self.pos_weight is None:
            return _core.binary_cross_entropy(predictions, targets, lengths, weights, gradient)
        # e (-s log sigmoid(x) - (1 - s) log(1 - sigmoid(x))) with weights e = w t + 1 - t and targets s = w t / e;
        # every element is passed as a step.
        shape, features = predictions.shape, predictions.shape[-1]
        rows = (shape[0], math.prod(shape[1:]))
        positive = self.pos_weight * targets.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):  # targets of weight 0 may be NaN
            each = positive + 1 - targets
            shares = np.where(each > 0, positive / each, 0)
        if weights is not None:
            steps = spread(weights, shape[:-1])[..., None]
            each = np.where(steps > 0, steps * each, 0)
        if lengths is not None:
            each = np.where(checks.steps_within(lengths, shape[1])[..., None], each, 0)
        total, own = _core.binary_cross_entropy(
            np.ascontiguousarray(predictions).reshape(*rows, 1),
            shares.astype(predictions.dtype).reshape(*rows, 1),
            None if lengths is None else lengths * features,
            each.reshape(rows),
            gradient,
        )
        return total, None if own is None else own.reshape(shape)

    def probabilities(self, predictions: Array) -> Array:
        """The probability of each element, from the predictions of a model trained with this loss."""
        if not self.from_logits:
            return predictions
        with np.errstate(over="ignore"):
            made: Array = 1 / (1 + np.exp(-predictions))
        return made
