"""Labelling of each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from recurra import losses
from recurra.common import checks
from recurra.common.docstrings import with_inherited_arguments
from recurra.common.typing import Array
from recurra.data.rows import is_list
from recurra.layers.crf import CRF
from recurra.sklearn import rows
from recurra.sklearn.classifier import class_weights
from recurra.sklearn.token_estimator import TokenEstimator

if TYPE_CHECKING:
    from typing_extensions import Self


@with_inherited_arguments
@dataclass(kw_only=True, eq=False, repr=False)
class SequenceTagger(ClassifierMixin, TokenEstimator):  # type: ignore[misc]
    """Labels every step of sequences.

    X and y are aligned: a list of N arrays (T_n, F) with a list of N arrays (T_n,) of labels, or arrays (N, T, F) and
    (N, T). A table X (N, T) with y (N, T) has steps of one feature. A table X (T, F) with a vector y (T,) is one
    sequence, as in hmmlearn; predict then reads tables in the same way. Outputs have the form of the inputs.

    Words, characters and other tokens take `embedding_dim`:
    `make_pipeline(SequenceEncoder(), SequenceTagger(embedding_dim=16))`; X is then a list of integer arrays (T_n,), or
    a table (N, T).

    `bidirectional` is True by default, so that a label also depends on later steps.

    Args:
        class_weight: None, "balanced", or a dict from class to weight, which multiplies the losses of the steps. Not
            with crf.
        crf: whether the model ends in a conditional random field, `recurra.CRF`, which learns transitions between
            labels: `predict` then gives the most probable label sequence, `predict_proba` each step's marginals.

    Attributes are `classes_`, (C,), and those of `TokenEstimator`.

    Example:
        >>> from recurra.sklearn import SequenceTagger
        >>> rng = np.random.default_rng(0)
        >>> x = [rng.normal(size=(steps, 2)) for steps in (5, 9, 7, 6)]
        >>> tags = [np.where(row[:, 0] > 0, "high", "low") for row in x]
        >>> model = SequenceTagger(max_iter=3, random_state=0).fit(x, tags)
        >>> [len(row) for row in model.predict(x)]
        [5, 9, 7, 6]
    """

    bidirectional: bool = True
    class_weight: Mapping[Any, float] | str | None = None
    crf: bool = False

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Train from scratch.

        Args:
            X, y: the sequences and their labels, numbers or strings; see the class.

        Raises:
            ValueError, TypeError: X or y do not fit, or an argument of the constructor is out of range.
        """
        name = type(self).__name__
        x, aligned = self._read(f"{name}.fit", X, y, reset=True)
        flat = _flat(aligned)
        self.classes_, numbers = rows.number_classes(name, flat)
        targets = self._numbers(x, aligned, numbers)
        if self._stops_early() and len(x) < 2:
            raise ValueError(
                f"{name}.fit: got early_stopping=True and one sequence, expected several, to hold some out; split it, "
                "or use early_stopping=False"
            )
        seed = self._seed()
        last = self._last(name)
        model = self._model(x, len(self.classes_), True, seed, last)
        weights = class_weights(self.class_weight, self.classes_, flat)
        loss = losses.CRF(last[0]) if last else losses.CrossEntropy(class_weights=weights)
        self._train(model, x, targets, loss, seed, split=self._split(len(x), seed))
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:  # noqa: N803
        """Train further, by one pass over the sequences: from scratch, or from what `fit` or earlier calls have
        learnt, whose rows are not needed again, so data may come in parts.

        Args:
            X, y: as in fit.
            classes: all labels that will ever come; needed by the first call, unless it follows `fit`.

        Raises:
            ValueError, TypeError: as in fit; a label that is not among the classes.
        """
        name, first = f"{type(self).__name__}.partial_fit", self._is_new()
        x, aligned = self._read(name, X, y, reset=first, part=True)
        flat = _flat(aligned)
        known = rows.known_classes(name, None if first else self.classes_, classes)
        targets = self._numbers(x, aligned, rows.number_known(name, known, flat))
        self.classes_ = known
        last = self._last(type(self).__name__) if first else []
        self._begin(lambda seed: self._model(x, len(known), True, seed, last))
        end = self.model_.layers[-1]  # type: ignore[attr-defined] # a Sequential
        rows.refuse_balanced(name, self.class_weight)
        weights = class_weights(self.class_weight, known, flat)
        self._pass(x, targets, losses.CRF(end) if isinstance(end, CRF) else losses.CrossEntropy(class_weights=weights))
        return self

    def _read(self, name: str, X: Any, y: Any, *, reset: bool, part: bool = False) -> tuple[Any, list[Array]]:  # noqa: N803
        """The sequences and the labels of each."""
        x = self._given(X, reset=reset, part=part)
        y = y if y is None or is_list(y) else np.asarray(y)
        self._one_sequence = False
        a_table = self.num_embeddings_ is None and isinstance(x, np.ndarray) and x.ndim == 2
        if y is not None and a_table and not rows.is_aligned(y):
            labels = rows.labels(type(self).__name__, y)
            rows.check_length(name, x, labels)
            self._one_sequence = True
            return x[None], [labels]
        steps = self._steps(x)
        return steps, _aligned(name, steps, y)

    @staticmethod
    def _numbers(x: Any, aligned: list[Array], numbers: Array) -> Any:
        """The class index of each label, in the form of x."""
        targets = np.split(numbers, np.cumsum([len(row) for row in aligned])[:-1])
        return np.stack(targets) if isinstance(x, np.ndarray) else targets

    def _last(self, name: str) -> list[CRF]:
        """The layers after the linear layer."""
        if not checks.flag(f"{name}.fit", "crf", self.crf):
            return []
        if self.class_weight is not None:
            raise ValueError(
                f"{name}.fit: got class_weight={self.class_weight!r} with crf=True, expected None, as a CRF's loss is "
                "of whole sequences; leave one of the two out"
            )
        return [CRF(len(self.classes_))]

    def decision_function(self, X: Any) -> Any:  # noqa: N803
        """Scores (without crf: logits) of every step: a list of (T_n, C), or (N, T, C); for two classes without the
        axis C, as in scikit-learn."""
        return self._each(X, lambda logits: logits[..., 1] - logits[..., 0] if len(self.classes_) == 2 else logits)

    def predict_proba(self, X: Any) -> Any:  # noqa: N803
        """Class probabilities of every step, in the order of `classes_`: a list of (T_n, C), or (N, T, C)."""
        return self._each(X, rows.softmax, lambda crf: crf.marginals)

    def predict(self, X: Any) -> Any:  # noqa: N803
        """The most probable label of each step, with crf the most probable sequence: a list of (T_n,), or (N, T)."""
        numbers = self._each(X, lambda logits: logits.argmax(-1), lambda crf: crf.viterbi)
        return [self.classes_[one] for one in numbers] if isinstance(numbers, list) else self.classes_[numbers]

    def score(self, X: Any, y: Any) -> float:  # noqa: N803
        """The accuracy over all steps."""
        predicted = self.predict(X)
        if self._one_sequence and isinstance(predicted, np.ndarray) and predicted.ndim == 1:
            known = rows.labels(type(self).__name__, y)
            rows.check_length("SequenceTagger.score", predicted, known)
            return float(np.mean(predicted == known))
        known = _flat(_aligned("SequenceTagger.score", predicted, y))
        return float(np.mean(np.concatenate(list(predicted)) == known))

    def _each(self, X: Any, formula: Any, by_crf: Any = None) -> Any:  # noqa: N803
        check_is_fitted(self, "model_")
        x = self._given(X, reset=False)
        alone = self._one_sequence and isinstance(x, np.ndarray) and x.ndim == 2
        outputs = self._run(x[None] if alone else self._steps(x))
        last = self.model_.layers[-1]  # type: ignore[attr-defined] # a Sequential
        if by_crf is not None and isinstance(last, CRF):
            decoded = by_crf(last)(outputs)
            return decoded[0] if alone else decoded
        if isinstance(outputs, list):
            return [formula(row.astype(np.float64)) for row in outputs]
        result = formula(outputs.astype(np.float64))
        return result[0] if alone else result


def _aligned(name: str, x: Any, y: Any) -> list[Array]:
    """The labels of each row, one for each step."""
    if y is None:
        raise ValueError(f"{name}: requires y to be passed, but the target y is None; give a label for every step")
    rows.check_length(name, x, y)
    aligned = []
    for index, (row, given) in enumerate(zip(x, y, strict=True)):
        if np.shape(given) != (len(row),):
            raise ValueError(
                f"{name}: got y[{index}] of shape {np.shape(given)}, expected ({len(row)},), a label for every step of "
                f"X[{index}]; align y with X, or use SequenceClassifier for one label a row"
            )
        aligned.append(np.asarray(given))
    rows.labels(name, _flat(aligned))
    return aligned


def _flat(aligned: list[Array]) -> Array:
    """All labels in one array, whose dtype empty rows do not affect."""
    return np.concatenate([row for row in aligned if len(row)] or aligned)
