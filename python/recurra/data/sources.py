"""Where batches come from besides arrays: objects that yield them anew each epoch, functions of the epoch, iterators."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from recurra.data.batch import Batch, Batches

_ITEM = "(x, y), (x, y, lengths), (x, y, lengths, sample_weight) or a data.Batch"


def is_source(x: Any) -> bool:
    """Whether x yields batches, rather than being the rows of one or several inputs."""
    if isinstance(x, list | tuple):
        return bool(x) and isinstance(x[0], Batch)
    if isinstance(x, Batches) or callable(x):
        return True
    plain = isinstance(x, np.ndarray | Mapping | str | bytes) or hasattr(x, "__array__")
    return not plain and (hasattr(x, "__iter__") or (hasattr(x, "__getitem__") and hasattr(x, "__len__")))


def read(operation: str, x: Any, epochs: int) -> Batches:
    """The batches of a source, each checked as it comes.

    Args:
        x: an object that can be iterated over again and again; a function of the epoch's number, from 0, that returns
            something to iterate over; or an iterator, for a single epoch. It gives tuples (x, y[, lengths[, sample_weight]])
            or `Batch` objects.
    """
    if isinstance(x, Batches):
        return x
    if callable(x):
        return _Function(operation, x)
    if isinstance(x, Iterator):
        if epochs > 1:
            raise ValueError(
                f"{operation}: got a {type(x).__name__}, which can be read once, with epochs={epochs}, expected batches for "
                f"every epoch; give a function of the epoch's number that returns it, or an object whose __iter__ begins anew"
            )
        return _Once(operation, x)
    return _Iterable(operation, x)


class _Iterable(Batches):
    def __init__(self, operation: str, x: Any) -> None:
        self._operation, self._x = operation, x
        try:
            self.steps = len(x)
        except TypeError:  # also from a __len__ that cannot say, such as torch's for a dataset without one
            self.steps = None

    def epoch(self, number: int) -> Iterator[Batch]:
        # iter() would go on until an IndexError, which few classes with __getitem__ alone take care to raise
        items = self._x if hasattr(self._x, "__iter__") else (self._x[index] for index in range(len(self._x)))
        return _checked(self._operation, items, number)


class _Function(Batches):
    def __init__(self, operation: str, function: Callable[[int], Iterable[Any]]) -> None:
        self._operation, self._function, self.steps = operation, function, None
        try:
            inspect.signature(function).bind(0)
        except TypeError:
            raise TypeError(
                f"{operation}: got a function that cannot be called with the number of an epoch, expected one that can; "
                f"write lambda epoch: ..."
            ) from None
        except ValueError:  # of a function without a signature
            pass

    def epoch(self, number: int) -> Iterator[Batch]:
        found = self._function(number)
        if not isinstance(found, Iterable):
            raise TypeError(
                f"{self._operation}: got {type(found).__name__} from the function of the epoch's number, expected batches to "
                f"iterate over; yield them, or return a list of them"
            )
        return _checked(self._operation, found, number)


class _Once(Batches):
    def __init__(self, operation: str, x: Iterator[Any]) -> None:
        self._operation, self._x, self.steps = operation, x, None

    def epoch(self, number: int) -> Iterator[Batch]:
        return _checked(self._operation, self._x, number)


def _checked(operation: str, items: Iterable[Any], epoch: int) -> Iterator[Batch]:
    """Each item as a batch that may follow the one before it."""
    rows: int | None = None
    for index, item in enumerate(items):
        place = f"{operation}: batch {index} of epoch {epoch}"
        batch = _batch(place, item)
        before, rows = rows, _rows(place, batch.x)
        if batch.carry and before is None:
            raise ValueError(
                f"{place}: got carry=True, expected False, as no batch is before it; leave carry out of an epoch's first batch"
            )
        if batch.carry and rows != before:
            raise ValueError(
                f"{place}: got {rows} rows with carry=True, expected {before}, as the batch before has; keep the rows, with "
                f"lengths of 0 for those that are over"
            )
        yield batch
    if rows is None:
        raise ValueError(
            f"{operation}: got no batches in epoch {epoch}, expected at least one; give an object whose __iter__ begins anew, "
            f"or a function of the epoch's number"
        )


def _batch(place: str, item: Any) -> Batch:
    if isinstance(item, Batch):
        return item
    if not isinstance(item, tuple | list):
        raise TypeError(f"{place}: got {type(item).__name__}, expected {_ITEM}; yield one of these")
    if not 2 <= len(item) <= 4:
        raise ValueError(f"{place}: got {len(item)} parts, expected {_ITEM}; yield one of these")
    return Batch(*item)


def _rows(place: str, x: Any) -> int:
    """How many, by the first input."""
    if isinstance(x, Mapping | tuple) and x:
        x = next(iter(x.values() if isinstance(x, Mapping) else x))
    try:
        return len(x)
    except TypeError:
        raise TypeError(
            f"{place}: got x of type {type(x).__name__}, expected rows; give an array (N, T, features) or (N, T)"
        ) from None
