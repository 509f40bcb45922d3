"""Edit distances of label sequences, and of CTC's best paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from recurra import _core
from recurra.common import checks
from recurra.common.typing import Array, Lengths, Rows
from recurra.losses import CTC
from recurra.metrics.metric import Ratio


class EditDistance(Ratio):
    """The number of insertions, deletions and substitutions that turn the labels of CTC's best path into the targets.

    Predictions are logits (N, T, C); targets are as for `losses.CTC`: a list of N integer arrays, or (N, S) padded with
    -1. The best path is that of `ctc.greedy`, where a NaN has the lowest probability.

    Args:
        blank: the class of the blank.
        normalize: whether to divide the sum of distances by the number of target labels, which gives the label error
            rate (for letters, the character error rate); else by the number of rows.
        name: by default "edit_distance".

    Example:
        >>> metric = rc.metrics.EditDistance()
        >>> metric.update(10 * np.eye(3)[[[0, 1, 1, 0, 2]]], [[1, 2, 2]])
        >>> round(metric.result(), 3)
        0.333
    """

    mode = "min"

    def __init__(self, blank: int = 0, normalize: bool = True, name: str | None = None) -> None:
        self.normalize = checks.flag(type(self).__name__, "normalize", normalize)
        self._reader = CTC(checks.integer(type(self).__name__, "blank", blank, 0))
        super().__init__(name, "edit_distance", self._reader)

    def update(
        self, predictions: Any, targets: Rows, lengths: Lengths = None, weights: npt.ArrayLike | None = None
    ) -> None:
        """Add a batch."""
        x, labels, valid, each = self._loss.read(type(self).__name__, predictions, targets, lengths, weights)
        if each is not None:
            used = each > 0
            x, labels, valid, each = x[used], labels[used], None if valid is None else valid[used], each[used]
        said = [row for row, _ in _core.ctc_greedy(x, valid, self._reader.blank)]
        wanted = (labels != self._loss.padding).sum(-1)
        distances = _distances(*_padded(said), labels, wanted)
        counts = wanted if self.normalize else np.ones(len(labels), int)
        self._sum += float(distances.sum() if each is None else each @ distances)
        self._count += int(counts.sum()) if each is None else float(each @ counts)


def edit_distance(one: Sequence[npt.ArrayLike], other: Sequence[npt.ArrayLike]) -> Array:
    """(N,) Levenshtein distances between the rows of two lists: insertions, deletions and substitutions of labels.

    Args:
        one, other: lists of N integer arrays (labels,), such as the results of `ctc.beam_search` and the targets.

    Raises:
        ValueError, TypeError: arguments that are not lists of integer arrays, or of different lengths.

    Example:
        >>> rc.metrics.edit_distance([[1, 2, 3], [4]], [[1, 3], [4]]).tolist()
        [1, 0]
    """
    rows = [_rows(name, lists) for name, lists in (("one", one), ("other", other))]
    if len(rows[0]) != len(rows[1]):
        raise ValueError(
            f"edit_distance: got {len(rows[0])} and {len(rows[1])} rows, expected the same number; give two lists of "
            "rows"
        )
    return _distances(*_padded(rows[0]), *_padded(rows[1]))


def _rows(name: str, rows: Sequence[npt.ArrayLike]) -> list[Array]:
    if isinstance(rows, str | bytes) or not hasattr(rows, "__len__") or not hasattr(rows, "__iter__"):
        raise TypeError(
            f"edit_distance: got {name} of type {type(rows).__name__}, expected a list of arrays of labels; put the "
            "rows into a list"
        )
    arrays = [checks.array("edit_distance", f"{name}[{index}]", row) for index, row in enumerate(rows)]
    for index, array in enumerate(arrays):
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ValueError(
                f"edit_distance: got {name}[{index}] of shape {array.shape} and {array.dtype}, expected integers "
                f"(labels,); give a list with an array of labels for each row"
            )
    return arrays


def _padded(rows: Sequence[Array]) -> tuple[Array, Array]:
    """The rows padded to (N, S), and their lengths (N,)."""
    lengths = np.array([len(row) for row in rows], np.int64)
    padded = np.zeros((len(rows), lengths.max(initial=0)), np.int64)
    padded[checks.steps_within(lengths, padded.shape[1])] = np.concatenate([*rows, np.zeros(0, np.int64)])
    return padded, lengths


def _distances(one: Array, ones: Array, other: Array, others: Array) -> Array:
    """(N,) distances from rows (N, A) of lengths `ones` to rows (N, B) of lengths `others` (Wagner and Fischer 1974).

    After i labels of `one`, `row` holds the distances to all prefixes of `other`, minus the prefix length: so
    insertions cost nothing, and a running minimum computes a whole row.
    """
    row = np.zeros((len(one), other.shape[1] + 1), np.int64)
    for i in range(one.shape[1]):
        below = row + 1
        replaced = row[:, :-1] - (one[:, i : i + 1] == other)
        np.minimum(below[:, 1:], replaced, out=below[:, 1:])
        row = np.where((i < ones)[:, None], np.minimum.accumulate(below, axis=1), row)
    result: Array = np.take_along_axis(row, others[:, None], 1)[:, 0] + others
    return result
