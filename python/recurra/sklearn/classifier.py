"""Classification of sequences."""

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
from recurra.sklearn.base import weights
from recurra.sklearn.token_estimator import TokenEstimator

if TYPE_CHECKING:
    from typing_extensions import Self


@with_inherited_arguments
@dataclass(kw_only=True, eq=False, repr=False)
class SequenceClassifier(ClassifierMixin, TokenEstimator):  # type: ignore[misc]
    """Classifies whole sequences by a softmax of the last output of a recurrent network.

    X is an array (N, T, F), a list (or array of objects) of N arrays (T_n, F), or a table (N, T) of T steps of one
    feature. Scale it first: `make_pipeline(SequenceScaler(), SequenceClassifier())`. A row's results do not depend on
    other rows.

    Words, characters and other tokens take `embedding_dim`:
    `make_pipeline(SequenceEncoder(), SequenceClassifier(embedding_dim=16))`; X is then a list of integer arrays (T_n,),
    or a table (N, T).

    Args:
        class_weight: None, "balanced", or a dict from class to weight, which multiplies the losses, as in scikit-learn.

    Attributes are `classes_`, (C,), and those of `TokenEstimator`.

    Example:
        >>> from recurra.sklearn import SequenceClassifier
        >>> rng = np.random.default_rng(0)
        >>> x = [rng.normal(size=(steps, 2)) for steps in (5, 9, 7, 6)]
        >>> model = SequenceClassifier(max_iter=3, random_state=0).fit(x, ["a", "b", "a", "b"])
        >>> model.predict(x).shape, model.predict_proba(x).shape
        ((4,), (4, 2))
    """

    class_weight: Mapping[Any, float] | str | None = None

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Train from scratch.

        Args:
            X: the sequences; see the class.
            y: (N,) labels, numbers or strings.
            sample_weight: (N,) non-negative weights of the rows' losses; None for 1 each.

        Raises:
            ValueError, TypeError: X or y do not fit, or an argument of the constructor is out of range.
        """
        name = type(self).__name__
        x = self._steps(self._given(X, reset=True))
        y = rows.labels(name, y)
        rows.check_length(f"{name}.fit", x, y)
        weight = weights(name, sample_weight, len(y))
        self.classes_, numbers = rows.number_classes(name, y)
        if weight is not None:
            seen = np.flatnonzero(weight)
            x, numbers, weight = rows.take(x, seen), numbers[seen], weight[seen]
            if len(np.unique(numbers)) < 2:
                raise ValueError(
                    f"{name}.fit: got sample_weight above zero for one class only, expected at least two classes; "
                    "change it"
                )
        seed = self._seed()
        model = self._model(x, len(self.classes_), False, seed)
        loss = CrossEntropy(class_weights=class_weights(self.class_weight, self.classes_, y))
        split = self._split(len(numbers), seed, numbers)
        self._train(model, x, numbers, loss, seed, sample_weight=weight, split=split)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:  # noqa: N803
        """Train further, by one pass over the rows: from scratch, or from what `fit` or earlier calls have learnt,
        whose rows are not needed again, so data may come in parts.

        Args:
            X, y, sample_weight: as in fit.
            classes: all labels that will ever come; needed by the first call, unless it follows `fit`.

        Raises:
            ValueError, TypeError: as in fit; a label that is not among the classes.
        """
        name, first = f"{type(self).__name__}.partial_fit", self._is_new()
        x = self._steps(self._given(X, reset=first, part=True))
        y = rows.labels(type(self).__name__, y)
        rows.check_length(name, x, y)
        weight = weights(type(self).__name__, sample_weight, len(y))
        known = rows.known_classes(name, None if first else self.classes_, classes)
        numbers = rows.number_known(name, known, y)
        self.classes_ = known
        rows.refuse_balanced(name, self.class_weight)
        loss = CrossEntropy(class_weights=class_weights(self.class_weight, known, y))
        self._begin(lambda seed: self._model(x, len(known), False, seed))
        self._pass(x, numbers, loss, weight)
        return self

    def decision_function(self, X: Any) -> Array:  # noqa: N803
        """Logits, (N, C); for two classes, that of the second minus that of the first, (N,)."""
        logits = self._logits(X)
        scores: Array = logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits
        return scores

    def predict_proba(self, X: Any) -> Array:  # noqa: N803
        """Class probabilities, (N, C), in the order of `classes_`."""
        return rows.softmax(self._logits(X))

    def predict_log_proba(self, X: Any) -> Array:  # noqa: N803
        """Logarithms of the class probabilities, (N, C)."""
        return np.log(self.predict_proba(X))

    def predict(self, X: Any) -> Array:  # noqa: N803
        """The most probable labels, (N,)."""
        numbers = self._logits(X).argmax(-1)
        labels: Array = self.classes_[numbers]
        return labels

    def _logits(self, X: Any) -> Array:  # noqa: N803
        check_is_fitted(self, "model_")
        x = self._steps(self._given(X, reset=False))
        return np.stack(list(self._run(x))).astype(np.float64)


def class_weights(given: Mapping[Any, float] | str | None, classes: Array, y: Array) -> Array | None:
    """The class weights, (C,), or None."""
    if given is None:
        return None
    result: Array = compute_class_weight(given, classes=classes, y=y)
    return result
