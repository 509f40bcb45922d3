"""Weights of rows, steps and classes of training data."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from recurra.common import checks
from recurra.common.typing import Array
from recurra.data.rows import ArrayRows, RaggedRows, Rows, cut, flat, is_list


def given(operation: str, targets: Rows, weights: Any, steps: bool) -> Rows:
    """sample_weight, checked against the targets: (N,) or, with a target at every step, (N, T) or a list."""
    count = len(targets)
    if is_list(weights) and steps and isinstance(targets, RaggedRows) and len(weights) and np.ndim(weights[0]) == 1:
        if len(weights) != count:
            raise ValueError(
                f"{operation}: got sample_weight with {len(weights)} rows, expected {count}; give weights for every row"
            )
        return RaggedRows(_of_steps(operation, targets, weights))
    array = _checked(operation, "sample_weight", weights)
    allowed = [(count,)]
    if steps and isinstance(targets, ArrayRows):
        allowed.append(targets.array.shape[:2])
    if array.shape not in allowed:
        raise ValueError(
            f"{operation}: got sample_weight of shape {array.shape}, expected {' or '.join(map(str, allowed))}; give a "
            f"weight for every row" + (" or for every step" if len(allowed) > 1 else "")
        )
    return ArrayRows(array)


def _of_steps(operation: str, targets: RaggedRows, weights: Any) -> list[Array]:
    """A weight for each step of each row; checked together, as there may be many short rows."""
    arrays = [checks.array(operation, f"sample_weight[{index}]", one) for index, one in enumerate(weights)]
    for index, (item, target) in enumerate(zip(arrays, targets.items, strict=True)):
        if item.shape != target.shape[:1]:
            raise ValueError(
                f"{operation}: got sample_weight[{index}] of shape {item.shape}, expected {target.shape[:1]}; give a "
                f"weight for every step, or one for every row"
            )
    together = flat(arrays)
    if together is not None:
        with contextlib.suppress(ValueError, TypeError):  # raised again below, with the row
            return cut(_checked(operation, "sample_weight", together), targets.lengths)
    return [_checked(operation, f"sample_weight[{index}]", one) for index, one in enumerate(arrays)]


def _checked(operation: str, name: str, weights: Any) -> Array:
    return _in_range(operation, name, checks.numeric(operation, name, weights).astype(np.float64))


def _in_range(operation: str, name: str, array: Array) -> Array:
    """The weights, if none of them would overflow or underflow a float32 gradient that is multiplied or divided by
    them."""
    least = np.finfo(np.float32).tiny
    if ((checks.not_negative(operation, name, array) < least) & (array > 0)).any():
        raise ValueError(
            f"{operation}: got numbers in {name} between 0 and {least:.2g}, expected 0 or larger numbers; scale them"
        )
    return array


def of_classes(operation: str, weights: Any) -> dict[int, float]:
    """class_weight: a mapping from labels, or one number for each label."""
    if not isinstance(weights, Mapping):
        if isinstance(weights, str):
            raise TypeError(
                f"{operation}: got class_weight={weights!r}, expected {{label: weight}}, or a number for each label; "
                "compute the weights, for instance from the labels' counts"
            )
        array = checks.numeric(operation, "class_weight", weights)
        if array.ndim != 1:
            raise ValueError(
                f"{operation}: got class_weight of shape {array.shape}, expected {{label: weight}}, or a number for "
                f"each label (labels,); write {{0: 1.0, 1: 2.5}}"
            )
        weights = dict(enumerate(array.tolist()))
    return {
        checks.integer(operation, "a label in class_weight", label, -checks.LARGEST): checks.number(
            operation, f"class_weight[{label}]", weight
        )
        for label, weight in weights.items()
    }


def by_class(operation: str, targets: Rows, weights: Rows | None, classes: Mapping[int, float], loss: str) -> Rows:
    """The weights of all targets of a loss by label, times `weights`; labels not in `classes` have weight 1."""

    def of(labels: Array, own: Array | None) -> Array:
        if labels.dtype.kind not in "iu":
            instead = "give sample_weight, the weight of each row or step, instead"
            if loss == "BinaryCrossEntropy":
                instead = "write loss=BinaryCrossEntropy(pos_weight=), the weight of targets that are 1, instead"
            raise TypeError(
                f"{operation}: got class_weight for {loss}, whose targets are numbers, expected a loss of labels, such "
                f"as CrossEntropy; {instead}"
            )
        found, place = np.unique(labels, return_inverse=True)
        table = np.array([classes.get(int(label), 1.0) for label in found])
        result = _in_range(operation, "class_weight", table[place.reshape(labels.shape)])
        if own is None:
            return result
        with np.errstate(over="ignore", under="ignore"):
            result = result * own.reshape(own.shape + (1,) * (result.ndim - own.ndim))
        return _in_range(operation, "sample_weight times class_weight", result)

    if isinstance(targets, ArrayRows):
        return ArrayRows(of(targets.array, weights.array if isinstance(weights, ArrayRows) else None))
    own = None if weights is None else of_flat(targets, weights)
    return RaggedRows(cut(of(np.concatenate(targets.items), own), targets.lengths))


def of_flat(targets: RaggedRows, weights: Rows) -> Array:
    """The weights of all steps of ragged rows, concatenated."""
    if isinstance(weights, RaggedRows):
        return np.concatenate(weights.items)
    return np.repeat(weights.array, targets.lengths)
