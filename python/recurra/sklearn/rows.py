"""Reads sequences in the forms that users of scikit-learn hold them in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.utils import assert_all_finite, check_array, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from recurra.common import checks
from recurra.common.typing import Array
from recurra.data.rows import is_list

#: A table (N, T), an array (N, T, F), or a list of N arrays (T_n, F).
Rows: TypeAlias = "Array | list[Array]"

#: The dtypes that are kept; others become the first.
FLOATS = (np.float64, np.float32)


def read(estimator: Any, X: Any, *, reset: bool, dtype: Any = np.float32) -> Rows:  # noqa: N803 - scikit-learn's name
    """X, checked: numeric, finite, with at least one row, and unless `reset`, matching the X of `fit`.

    A table (N, T) is a 2-D array, DataFrame or list of equally long lists of numbers; `n_features_in_` is T. X with an
    array for each row holds sequences: an array (N, T, F), or a list (or array of objects) of (T_n, F), or of (T_n,)
    for steps with one feature; `n_features_in_` is F.

    Raises:
        ValueError, TypeError: X has none of these forms, or does not match the X of `fit`.
    """
    table_fitted = not reset and estimator._table
    if getattr(X, "ndim", 2) == 3:
        rows: Rows = array_rows(estimator, X, dtype)
    elif has_rows(X, table_wanted=reset or table_fitted):
        rows = list_rows(estimator, X, dtype)
    else:
        if not reset and not table_fitted and getattr(X, "ndim", 2) == 2:
            raise ValueError(
                f"{name_of(estimator)}: got X of shape {np.shape(X)}, expected sequences (N, T, "
                f"{estimator.n_features_in_}) as in fit; write X[None] if it is one sequence, X[..., None] if a step "
                "has one feature"
            )
        found = table(estimator, X, reset, dtype)
        if reset:
            estimator._table = True
        return found
    if reset:
        estimator._table = False
    see_features(estimator, rows[0].shape[-1], reset, 1 if table_fitted else None)
    return rows


def see_features(estimator: Any, features: int, reset: bool, expected: int | None = None) -> None:
    """With `reset`, store the number of features; else raise unless it is `expected`, or for None that of `fit`."""
    if reset:
        estimator.n_features_in_ = features
        if hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
        return
    expected = estimator.n_features_in_ if expected is None else expected
    if features != expected:
        name = name_of(estimator)
        raise ValueError(
            f"{name}: X has {features} features, but {name} is expecting {expected} features as input, as in fit; "
            "give the same features"
        )


def steps(rows: Rows) -> Rows:
    """The rows with a feature axis; those of a table become T steps with one feature."""
    return rows[..., None] if isinstance(rows, np.ndarray) and rows.ndim == 2 else rows


def take(rows: Any, chosen: Array) -> Any:
    """The `chosen` rows of an array or a list, or of each in a tuple."""
    if isinstance(rows, tuple):
        return tuple(take(one, chosen) for one in rows)
    return [rows[index] for index in chosen] if isinstance(rows, list) else rows[chosen]


def check_length(name: str, x: Any, y: Any) -> None:
    """Raise unless x and y have the same number of rows."""
    if len(x) != len(y):
        raise ValueError(f"{name}: got y of {len(y)} rows, expected {len(x)}, as X has; give a target for each row")


def labels(name: str, y: Any) -> Array:
    """The vector of labels y, checked as in scikit-learn."""
    if y is None:
        raise ValueError(f"{name}.fit: requires y to be passed, but the target y is None; give a label for each row")
    if is_aligned(y):
        raise ValueError(
            f"{name}.fit: got y with an array of labels in each row, expected one label, as y should be a 1d array; "
            "use SequenceTagger for labels of every step"
        )
    array: Array = column_or_1d(y, warn=True)
    assert_all_finite(array, input_name="y")
    check_classification_targets(array)
    return array


def is_aligned(y: Any) -> bool:
    """Whether y has an array of labels, rather than one label, for each row."""
    if is_list(y):
        return bool(len(y) and np.ndim(y[0]))
    shape = np.asarray(y).shape
    return len(shape) == 2 and shape[1] != 1


def number_classes(name: str, y: Array) -> tuple[Array, Array]:
    """The classes in order, and the class index of each label."""
    classes, numbers = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        got = f"one class, {classes.tolist()[0]!r}" if len(classes) else "no labels"
        raise ValueError(f"{name}.fit: got y with {got}, expected at least two classes; check how y was made or split")
    return classes, numbers.astype(np.int64)


def known_classes(name: str, before: Array | None, classes: Any) -> Array:
    """The classes of `partial_fit`: those of the calls before, or for the first call those given."""
    if before is None and classes is None:
        raise ValueError(
            f"{name}: classes must be passed on the first call to partial_fit; give all labels that will come"
        )
    if before is None or classes is not None:
        given = np.unique(classes)
        if before is not None and not np.array_equal(given, before):
            raise ValueError(
                f"{name}: got classes={given.tolist()}, expected {before.tolist()}, as in the first call; leave "
                f"classes out"
            )
        return number_classes(name, given)[0]
    return before


def refuse_balanced(name: str, class_weight: Any) -> None:
    """Refuse weights that would follow from the rows of one call alone."""
    if class_weight == "balanced":
        raise ValueError(
            f"{name}: got class_weight={class_weight!r}, expected None or a dict, as one part of the data does not "
            f"tell how "
            "frequent the classes are; compute them from all, with sklearn.utils.class_weight.compute_class_weight"
        )


def number_known(name: str, classes: Array, y: Array) -> Array:
    """The class index of each label."""
    strange = np.setdiff1d(y, classes)
    if len(strange):
        raise ValueError(
            f"{name}: got the label {strange[0]!r}, expected one of {classes.tolist()!r:.100}; name all in the first "
            f"call's classes"
        )
    return np.searchsorted(classes, y).astype(np.int64)


def divisor(deviation: Array, mean: Array) -> Array:
    """The divisor that standardises: `deviation`, or 1 where it is only rounding error of a constant feature."""
    constant = deviation <= 100 * np.finfo(np.float64).eps * np.abs(mean)
    return np.where(constant, 1.0, deviation)


def softmax(logits: Array) -> Array:
    """The softmax over the last axis, in float64."""
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(-1, keepdims=True))
    probabilities: Array = powers / powers.sum(-1, keepdims=True)
    return probabilities


def is_numbers(row: Any) -> bool:
    """Whether `row` is a plain list of numbers, rather than of steps."""
    return isinstance(row, list | tuple) and not (len(row) and np.ndim(row[0]))


def is_listed(X: Any) -> bool:  # noqa: N803
    """Whether X is a list, or an array of objects, with at least one item."""
    return (isinstance(X, list | tuple) or (getattr(X, "ndim", 0) == 1 and X.dtype == object)) and len(X) > 0


def has_rows(X: Any, table_wanted: bool) -> bool:  # noqa: N803
    """Whether X has an array for each row; with `table_wanted`, equally long lists of numbers are a table instead."""
    if not is_listed(X):
        return False
    if not all(is_numbers(row) for row in X):
        return all(isinstance(row, list | tuple) or np.ndim(row) for row in X)
    return not table_wanted or len({len(row) for row in X}) > 1


def table(estimator: Any, X: Any, reset: bool, dtype: Any) -> Array:  # noqa: N803
    """X as a 2-D array, checked as in scikit-learn."""
    if getattr(X, "ndim", 2) > 3:
        raise ValueError(
            f"{name_of(estimator)}: got X of shape {X.shape}, expected (N, T, F); join the axes of a step's features"
        )
    finite = "allow-nan" if _allows_gaps(estimator) else True
    array: Array = validate_data(estimator, X, reset=reset, dtype=dtype, ensure_all_finite=finite)
    return array


def array_rows(estimator: Any, X: Any, dtype: Any) -> Array:  # noqa: N803
    """X as an array (N, T, F), checked."""
    array: Array = check_array(X, dtype=dtype, allow_nd=True, ensure_all_finite=False, estimator=estimator)
    _check_finite(estimator, "X", array)
    if not all(array.shape[1:]):
        raise ValueError(
            f"{name_of(estimator)}: got X of shape {array.shape}, expected (N, T, F) with steps and features; check "
            "how X was made"
        )
    return array


def list_rows(estimator: Any, X: Sequence[Any], dtype: Any) -> list[Array]:  # noqa: N803
    """X as a list of arrays (T_n, F), checked; items may be (T_n,)."""
    name = name_of(estimator)
    rows: list[Array] = []
    for index, item in enumerate(X):
        array = checks.numeric(name, f"X[{index}]", item)
        if array.ndim == 1:
            array = array[:, None]
        if array.ndim != 2 or not array.shape[1] or array.shape[1] != (rows or [array])[0].shape[1]:
            wanted = f"(steps, {rows[0].shape[1]})" if rows else "(steps, features)"
            raise ValueError(
                f"{name}: got X[{index}] of shape {np.shape(item)}, expected {wanted}; give every row the same "
                "features, steps first"
            )
        with np.errstate(over="ignore"):  # infinities are refused below
            rows.append(_as(array, dtype))
        _check_finite(estimator, f"X[{index}]", rows[-1])
    return rows


def _check_finite(estimator: Any, name: str, array: Array) -> None:
    wrong = np.isinf(array) if _allows_gaps(estimator) else ~np.isfinite(array)
    if wrong.any():
        raise ValueError(
            f"{name_of(estimator)}: got {name} that contains NaN or infinity, or numbers too large for {array.dtype}, "
            "expected finite ones; fill gaps, and give rows of several lengths as a list, without padding"
        )


def _allows_gaps(estimator: Any) -> bool:
    """Whether X may contain NaN, for missing values."""
    return bool(estimator.__sklearn_tags__().input_tags.allow_nan)


def _as(array: Array, dtype: npt.DTypeLike | tuple[npt.DTypeLike, ...]) -> Array:
    """The array in `dtype`; of several, in the first unless it already has one of them."""
    if isinstance(dtype, tuple):
        return array if array.dtype in dtype else array.astype(dtype[0])
    return array.astype(dtype, copy=False)


def name_of(estimator: Any) -> str:
    """The estimator's name in messages."""
    return type(estimator).__name__
