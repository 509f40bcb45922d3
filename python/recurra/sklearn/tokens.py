"""Reads sequences of tokens, the integers that number the vectors of an embedding."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from recurra.common import checks, errors
from recurra.common.typing import Array
from recurra.sklearn import rows

#: The largest number of tokens that is concluded from X; more are rather hashes or identifiers of another kind.
_LARGEST_GUESS = 2**20


def read(estimator: Any, X: Any, *, reset: bool, count: int | None) -> tuple[rows.Rows, int]:  # noqa: N803
    """X, checked, as int64, and the number of tokens: `count`, or one more than the largest in X.

    A table (N, T) is a 2-D array or DataFrame of whole numbers; `n_features_in_` is T. A list (or array of objects) of
    sequences (T_n,), equally long or not, is never a table; `n_features_in_` is 1.

    Raises:
        ValueError, TypeError: X has none of these forms, holds no tokens or one out of range, or is a table of other
            columns than that of `fit`.
    """
    name = rows.name_of(estimator)
    listed = rows.is_listed(X)
    if listed:
        found: Any = [_row(name, f"X[{index}]", row) for index, row in enumerate(X)]
    else:
        same = reset or estimator._table  # after a fit on lists, a table may have any number of steps
        found = _whole(name, "X", validate_data(estimator, X, reset=reset) if same else check_array(X))
    low, high = _range(found)
    if count is None:
        count = _counted(name, high)
    if low < 0:
        raise ValueError(
            f"{name}: Negative values in data passed to X: got the token {low}, expected 0 or more; number the tokens "
            "with SequenceEncoder"
        )
    if high >= count:
        raise ValueError(
            f"{name}: got X with the token {high}, expected 0 to {count - 1}{'' if reset else ' as in fit'}; make the "
            "tokens with SequenceEncoder, which has a number for new ones, or give num_embeddings"
        )
    if reset:
        estimator._table = not listed
        if listed:
            rows.see_features(estimator, 1, True)
    return ([row.astype(np.int64) for row in found] if listed else found.astype(np.int64)), count


def refuse_text(name: str, X: Any) -> None:  # noqa: N803
    """Say what to do with words and characters, which an estimator without an embedding does not take."""
    row = _first_row(X)
    first = row[0] if isinstance(row, list | tuple | np.ndarray) and np.ndim(row) and len(row) else row
    if isinstance(first, str):
        raise ValueError(  # noqa: TRY004 - as scikit-learn does for text
            f"{name}: got X with text, expected numbers; for words or characters, write "
            f"make_pipeline(SequenceEncoder(), {name}(embedding_dim=16))"
        )


def warn_of_whole_numbers(name: str, X: Any) -> None:  # noqa: N803
    """Of sequences (T_n,) of integers, as SequenceEncoder makes, which an estimator without an embedding takes as
    numbers: to it, token 7 lies between 6 and 8."""
    row = _first_row(X)
    if not isinstance(row, list | tuple | np.ndarray):
        return
    given = list(row[:100])
    if given and all(isinstance(one, int | np.integer) and not isinstance(one, bool) for one in given):
        errors.warn(
            f"{name}: got X with sequences of integers, which are taken as amounts, as embedding_dim is None; for "
            f"tokens, such as SequenceEncoder makes, write {name}(embedding_dim=16), and for amounts give floats",
            UserWarning,
        )


def _first_row(X: Any) -> Any:  # noqa: N803
    """None if X is one array."""
    return next(iter(X), None) if rows.is_listed(X) else None


def _row(name: str, label: str, row: Any) -> Array:
    """One sequence of tokens, of any dtype for whole numbers."""
    array = checks.array(name, label, row)
    if array.dtype.kind in "US":
        raise ValueError(f"{name}: got text in {label}, expected tokens; number them with SequenceEncoder")
    if array.ndim != 1:
        raise ValueError(
            f"{name}: got {label} of shape {array.shape}, expected (steps,), a token for each step, as embedding_dim "
            "is given; leave it out for sequences of numbers"
        )
    return _whole(name, label, checks.numeric(name, label, array))


def _whole(name: str, label: str, array: Array) -> Array:
    """The array, if its numbers are whole."""
    if array.dtype.kind == "f" and not (array == np.floor(array)).all():  # infinities are out of range
        raise ValueError(
            f"{name}: got {label} with {array[array != np.floor(array)][0]:g}, expected tokens, which are whole "
            "numbers; leave embedding_dim out for sequences of numbers"
        )
    return array


def _range(found: rows.Rows) -> tuple[int, int]:
    """The smallest and the largest token; 0 and -1 without any."""
    parts = [row for row in (found if isinstance(found, list) else [found]) if row.size]
    try:
        return min((int(row.min()) for row in parts), default=0), max((int(row.max()) for row in parts), default=-1)
    except OverflowError:  # of infinity
        return 0, 2**63


def _counted(name: str, high: int) -> int:
    """The number of tokens, the largest of which is `high`."""
    if high >= _LARGEST_GUESS:
        raise ValueError(
            f"{name}: got X with the token {high} and num_embeddings=None, expected tokens below {_LARGEST_GUESS}; "
            "number them with SequenceEncoder, or give num_embeddings"
        )
    if high < 0:
        raise ValueError(
            f"{name}: got X without any token of 0 or more and num_embeddings=None, expected some; give num_embeddings"
        )
    return high + 1
