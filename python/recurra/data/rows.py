"""Rows of one input or target: an array, or a list of ragged arrays padded batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from recurra.common import checks
from recurra.common.typing import Array

if TYPE_CHECKING:
    from recurra.data.fingerprint import Fingerprint

#: The rows of one input or target.
Rows: TypeAlias = "ArrayRows | RaggedRows"

#: The rows of a batch.
Chosen: TypeAlias = "Array | slice"


@dataclass(frozen=True)
class ArrayRows:
    """The rows of one array, with or without lengths."""

    array: Array
    lengths: Array | None = None

    def __len__(self) -> int:
        return len(self.array)

    @property
    def has_time(self) -> bool:
        """Whether the rows of x are sequences: features have one more axis than tokens."""
        return self.array.ndim > (2 if self.array.dtype.kind == "f" else 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, T), or (N,) without a time axis."""
        return self.array.shape[: 2 if self.has_time else 1]

    def batch(self, rows: Chosen) -> tuple[Array, Array | None]:
        """These rows and their lengths."""
        return self.array[rows], None if self.lengths is None else self.lengths[rows]

    def add_to(self, fingerprint: Fingerprint, rows: slice, lengths: Array | None) -> None:
        """Add these rows to the fingerprint; steps past `lengths`, those of all rows, are padding."""
        fingerprint.add_rows(self.array[rows], None if lengths is None or self.array.ndim < 2 else lengths[rows])

    def split(self, y: Array, lengths: Array | None, sequences: bool) -> Any:
        """The output of a batch in the form of these rows: an array."""
        return y

    def join(self, outputs: list[Any]) -> Any:
        """The outputs of all batches together."""
        return np.concatenate(outputs)


@dataclass(frozen=True)
class RaggedRows:
    """A list of an array (T_n, ...) for each row; in a batch, the shorter ones are padded with `padding`."""

    items: list[Array]
    padding: int = 0
    has_time = True

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def lengths(self) -> Array:
        """The steps of each row."""
        return np.array([len(item) for item in self.items], np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, T), T the steps of the longest row."""
        return len(self), int(self.lengths.max(initial=0))

    def batch(self, rows: Chosen) -> tuple[Array, Array]:
        """These rows, padded to the longest of them, and their lengths."""
        lengths = self.lengths[rows]
        chosen = range(len(self.items))[rows] if isinstance(rows, slice) else rows
        shape = (len(lengths), lengths.max(initial=0), *self.items[0].shape[1:])
        padded = np.full(shape, self.padding, self.items[0].dtype)
        for row, index in enumerate(chosen):
            padded[row, : lengths[row]] = self.items[index]
        return padded, lengths

    def add_to(self, fingerprint: Fingerprint, rows: slice, lengths: Array | None) -> None:
        """Add these rows to the fingerprint."""
        fingerprint.add(self.items[rows])

    def split(self, y: Array, lengths: Array | None, sequences: bool) -> Any:
        """The output of a batch in the form of these rows: a list, or, of outputs without a time axis, an array."""
        if not sequences:
            return y
        if lengths is None:
            return list(y)
        return [row[:steps] for row, steps in zip(y, lengths, strict=True)]

    def join(self, outputs: list[Any]) -> Any:
        """The outputs of all batches together."""
        if all(isinstance(batch, np.ndarray) for batch in outputs):
            return np.concatenate(outputs)
        return [row for batch in outputs for row in batch]


def flat(items: Sequence[Array]) -> Array | None:
    """The rows concatenated, to be checked together; None if they differ in more than their lengths, or if there are
    none."""
    return np.concatenate(items) if _alike(items) else None


def _alike(items: Sequence[Array]) -> bool:
    return len({(item.dtype, item.shape[1:]) for item in items}) == 1 and items[0].ndim > 0


def cut(values: Array, lengths: Array) -> list[Array]:
    """The inverse of `flat`: views of rows of these lengths."""
    bounds = [0, *np.cumsum(lengths).tolist()]
    return [values[begin:end] for begin, end in pairwise(bounds)]


def ragged(operation: str, items: list[Array], padding: int = 0) -> RaggedRows:
    """Rows that may differ only in their first axis."""
    if _alike(items):
        return RaggedRows(items, padding)
    for index, item in enumerate(items):
        first = items[0]
        if item.ndim == 0 or item.shape[1:] != first.shape[1:] or item.dtype != first.dtype:
            raise ValueError(
                f"{operation}: got row {index} of shape {item.shape} and {item.dtype} in a list whose row 0 has shape "
                f"{first.shape} and {first.dtype}, expected them to differ in the first axis only; convert the rows"
            )
    if not items:
        raise ValueError(f"{operation}: got an empty list, expected at least one row; give some data")
    return RaggedRows(items, padding)


def padded(operation: str, name: str, values: Any) -> tuple[Array, Array] | None:
    """Rows of sequences (T_n, F), as `predict` returns them, as one array and the steps of each row; None if `values`
    are not a list of such."""
    if not is_list(values) or not len(values):
        return None
    items = [checks.array(operation, f"{name}[{index}]", row) for index, row in enumerate(values)]
    return ragged(operation, items).batch(slice(None)) if all(item.ndim == 2 for item in items) else None


def one_array(
    operation: str, predictions: Any, targets: Any, lengths: Any, weights: Any, unaligned: bool = False
) -> tuple[Any, Any, Any, Any]:
    """Predictions that are a list of ragged rows as one array with lengths, and what is aligned with them likewise."""
    together = padded(operation, "predictions", predictions)
    if together is None:
        return predictions, targets, lengths, weights
    if lengths is not None:
        raise ValueError(
            f"{operation}: got lengths with a list of predictions, expected none, as each row has its own length; "
            f"leave "
            "lengths out"
        )
    whole, valid = together
    wanted = targets if unaligned else aligned(operation, "targets", targets, valid)
    return whole, wanted, valid, aligned(operation, "weights", weights, valid)


def aligned(operation: str, name: str, values: Any, lengths: Array) -> Any:
    """A list with an array for each row, (T_n,) or (T_n, F), as one array; anything else as it is."""
    if not is_list(values) or not any(np.ndim(row) for row in values):
        return values
    items = [checks.array(operation, f"{name}[{index}]", row) for index, row in enumerate(values)]
    if [len(item) for item in items] != lengths.tolist():
        raise ValueError(
            f"{operation}: got {name} of {[len(item) for item in items]!r:.80} steps, expected "
            f"{lengths.tolist()!r:.80}, as the "
            "predictions have; give one for every step"
        )
    return ragged(operation, items).batch(slice(None))[0]


def is_list(values: Any) -> bool:
    """Whether `values` are ragged rows rather than one array."""
    return isinstance(values, list) or (isinstance(values, np.ndarray) and values.dtype == object and values.ndim > 0)
