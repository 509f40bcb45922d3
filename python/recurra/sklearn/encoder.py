"""Numbers for words, characters and other tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from recurra.common import checks
from recurra.common.typing import Array

if TYPE_CHECKING:
    from typing_extensions import Self


class SequenceEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Numbers the tokens of sequences for estimators with `embedding_dim`: words, characters, or whatever repeats.

    The counterpart of `sklearn.preprocessing.OrdinalEncoder`, which is for tables. X is a list (or an array) of
    sequences: strings, whose tokens are their characters, or lists (or arrays) of tokens, such as words, each a string
    or a number. `transform` gives a list of integer arrays (T_n,). The tokens of `fit` have the numbers from 1, in
    their own order. 0 stands for all others, whose vector is only learnt if `min_frequency` leaves some to `fit`, too.

    Args:
        min_frequency: how often a token must occur in `fit` to have a number.

    Attributes: `vocabulary_`, a dict from token to number.

    Example:
        >>> from recurra.sklearn import SequenceEncoder
        >>> encoder = SequenceEncoder().fit([["the", "cat"], ["the", "old", "dog"]])
        >>> encoder.vocabulary_
        {'cat': 1, 'dog': 2, 'old': 3, 'the': 4}
        >>> [row.tolist() for row in encoder.transform([["the", "new", "cat"]])]
        [[4, 0, 1]]
        >>> [row.tolist() for row in SequenceEncoder().fit_transform(["abba", "cab"])]
        [[1, 2, 2, 1], [3, 1, 2]]
    """

    def __init__(self, *, min_frequency: int = 1) -> None:
        self.min_frequency = min_frequency

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.categorical = True
        tags.input_tags.two_d_array = False
        return tags

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803
        """Number the tokens of X; y is ignored.

        Raises:
            ValueError, TypeError: X does not hold sequences of tokens, or has both strings and numbers.
        """
        name = "SequenceEncoder.fit"
        least = checks.integer(name, "min_frequency", self.min_frequency)
        counts = Counter(token for row in _rows(name, X) for token in row)
        frequent = [token for token, count in counts.items() if count >= least]
        if not frequent:
            raise ValueError(
                f"{name}: got {len(counts)} different tokens, none of them {least} times, expected at least one; check "
                "X, or lower min_frequency"
            )
        try:
            self.vocabulary_ = {token: number for number, token in enumerate(sorted(frequent), 1)}  # type: ignore[type-var]
        except TypeError as error:
            raise TypeError(
                f"{name}: got X with tokens that have no order, expected all strings or all numbers; write str(token) "
                f"for each ({error})"
            ) from error
        return self

    def transform(self, X: Any) -> list[Array]:  # noqa: N803
        """The tokens' numbers: a list of int64 arrays (T_n,), 0 for a token that has none.

        Raises:
            ValueError, TypeError: X does not hold sequences of tokens.
        """
        check_is_fitted(self, "vocabulary_")
        numbers = self.vocabulary_
        found = _rows("SequenceEncoder.transform", X)
        return [np.fromiter((numbers.get(token, 0) for token in row), np.int64, len(row)) for row in found]

    def inverse_transform(self, X: Any) -> list[list[Any]]:  # noqa: N803
        """The lists of tokens for lists of numbers; None for 0.

        Raises:
            ValueError, TypeError: X holds numbers that no token has.
        """
        check_is_fitted(self, "vocabulary_")
        tokens = [None, *self.vocabulary_]
        found = [checks.numeric("SequenceEncoder.inverse_transform", "X", row).tolist() for row in X]
        wrong = [number for row in found for number in row if number not in range(len(tokens))]
        if wrong:
            raise ValueError(
                f"SequenceEncoder.inverse_transform: got the number {wrong[0]}, expected 0 to {len(tokens) - 1}; give "
                "what transform has made"
            )
        return [[tokens[int(number)] for number in row] for row in found]


def _rows(name: str, X: Any) -> list[Sequence[Hashable]]:  # noqa: N803
    """The sequences of tokens in X, each token as Python has it."""
    if isinstance(X, str | bytes) or not np.iterable(X):
        raise TypeError(
            f"{name}: got X={X!r:.50} of type {type(X).__name__}, expected sequences; give a list of strings, or of "
            "lists of tokens"
        )
    if hasattr(X, "ndim"):  # an array, or a DataFrame, which would give its columns one by one
        return _rows(name, np.asarray(X).tolist())
    return [_row(name, f"X[{index}]", row) for index, row in enumerate(X)]


def _row(name: str, label: str, row: Any) -> Sequence[Hashable]:
    if isinstance(row, np.ndarray):
        row = row.tolist()
    if not isinstance(row, str | list | tuple):
        raise TypeError(
            f"{name}: got {label}={row!r:.50} of type {type(row).__name__}, expected a string, or a list of tokens; "
            "give one sequence for each row"
        )
    for token in row:
        if not isinstance(token, str | int | float | np.generic):
            raise TypeError(
                f"{name}: got a token {token!r:.50} of type {type(token).__name__} in {label}, expected a string or a "
                "number; give the tokens of a sequence one after the other"
            )
    return row
