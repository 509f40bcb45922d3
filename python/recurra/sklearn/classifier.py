"""A label for each sequence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_is_fitted

from recurra.common.docstrings import with_inherited_arguments
from recurra.common.typing import Array
from recurra.losses import CrossEntropy
from recurra.sklearn import rows
from recurra.sklearn.base import SequenceEstimator, weights

if TYPE_CHECKING:
    from typing_extensions import Self


@with_inherited_arguments
@dataclass(kw_only=True, eq=False, repr=False)
class SequenceClassifier(ClassifierMixin, SequenceEstimator):  # type: ignore[misc]
    """Classifies whole sequences: a recurrent network reads each to its end, a softmax of its last output is the answer.

    X is an array (N, T, F), a list (or array of objects) of N arrays (T_n, F), or a table (N, T) of T steps of one
    feature. Scale it first: `make_pipeline(SequenceScaler(), SequenceClassifier())`. Results for a row do not depend on
    the others.

    Args:
        class_weight: None, "balanced", or a dict of a weight for each class; multiplies the losses, as in scikit-learn.

    Attributes beside `classes_`, (C,), are those of `SequenceEstimator`.
    """

    class_weight: Mapping[Any, float] | str | None = None

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Train anew.

        Args:
            X: the sequences, see the class.
            y: (N,) labels, numbers or texts.
            sample_weight: (N,) numbers of at least 0 that multiply the rows' losses; None for 1 each.

        Raises:
            ValueError, TypeError: X or y do not fit, or an argument of the constructor is out of range.
        """
        name = type(self).__name__
        x = rows.steps(rows.read(self, X, reset=True))
        y = rows.labels(name, y)
        rows.check_length(f"{name}.fit", x, y)
        weight = weights(name, sample_weight, len(y))
        self.classes_, numbers = rows.number_classes(name, y)
        if weight is not None:
            seen = np.flatnonzero(weight)
            x, numbers, weight = rows.take(x, seen), numbers[seen], weight[seen]
            if len(np.unique(numbers)) < 2:
                raise ValueError(
                    f"{name}.fit: got sample_weight above zero for one class only, expected at least two classes; change it"
                )
        seed = self._seed()
        model = self._network(x[0].shape[-1], len(self.classes_), False, seed)
        loss = CrossEntropy(class_weights=class_weights(self.class_weight, self.classes_, y))
        split = self._split(len(numbers), seed, numbers)
        self._train(model, x, numbers, loss, seed, sample_weight=weight, split=split)
        return self

    def decision_function(self, X: Any) -> Array:  # noqa: N803
        """(N, C) logits; for two classes (N,), that of the second minus that of the first."""
        logits = self._logits(X)
        scores: Array = logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits
        return scores

    def predict_proba(self, X: Any) -> Array:  # noqa: N803
        """(N, C) probabilities, in the order of `classes_`."""
        return rows.softmax(self._logits(X))

    def predict_log_proba(self, X: Any) -> Array:  # noqa: N803
        """Their logarithms."""
        return np.log(self.predict_proba(X))

    def predict(self, X: Any) -> Array:  # noqa: N803
        """(N,) the most probable labels."""
        numbers = self._logits(X).argmax(-1)
        labels: Array = self.classes_[numbers]
        return labels

    def _logits(self, X: Any) -> Array:  # noqa: N803
        check_is_fitted(self, "model_")
        x = rows.steps(rows.read(self, X, reset=False))
        return np.stack(list(self._run(x))).astype(np.float64)


def class_weights(given: Mapping[Any, float] | str | None, classes: Array, y: Array) -> Array | None:
    """(C,) weights, or None."""
    if given is None:
        return None
    result: Array = compute_class_weight(given, classes=classes, y=y)
    return result
