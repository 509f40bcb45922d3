"""Sources of batches other than arrays: iterables, functions of the epoch, iterators."""

from __future__ import annotations

import dis
import inspect
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from recurra.data.batch import Batch, Batches
from recurra.data.fingerprint import Fingerprint

_ITEM = "(x, y), (x, y, lengths), (x, y, lengths, sample_weight) or a data.Batch"


def is_source(x: Any) -> bool:
    """Whether x yields batches, rather than being the rows of one or several inputs."""
    if isinstance(x, list | tuple):
        return bool(x) and isinstance(x[0], Batch | tuple if isinstance(x, list) else Batch)  # rows are arrays
    if isinstance(x, Batches) or callable(x):
        return True
    plain = isinstance(x, np.ndarray | Mapping | str | bytes) or hasattr(x, "__array__")
    return not plain and (hasattr(x, "__iter__") or (hasattr(x, "__getitem__") and hasattr(x, "__len__")))


#: Opcodes that return from a function; a generator with an endless loop has none of them.
_RETURNS = ("RETURN_VALUE", "RETURN_CONST")


def never_ends(items: Any) -> bool:
    """Whether an iterable, or a function that returns one, certainly never ends."""
    if isinstance(items, itertools.cycle | itertools.count):
        return True
    if isinstance(items, itertools.repeat):
        return operator.length_hint(items, -1) < 0
    if isinstance(items, map | filter | enumerate):
        parts = [one for one in items.__reduce__()[1] if isinstance(one, Iterator)]
        return bool(parts) and all(map(never_ends, parts))
    if inspect.isgenerator(items) and items.gi_frame and ".0" in items.gi_frame.f_locals:  # of a generator expression
        return never_ends(items.gi_frame.f_locals[".0"])
    made = items if inspect.isgeneratorfunction(items) else getattr(type(items), "__iter__", None)
    code = items.gi_code if inspect.isgenerator(items) else getattr(made, "__code__", None)
    if code is None or not code.co_flags & inspect.CO_GENERATOR:
        return False
    steps = list(dis.get_instructions(code))
    loops = [(one.argval, one.offset) for one in steps if one.opcode in dis.hasjrel and one.argval < one.offset]
    ends = [
        one.offset for one in steps if one.opname == "RAISE_VARARGS"
    ]  # an exception also ends it, unless raised inside a loop
    return not any(one.opname in _RETURNS for one in steps) and all(
        any(begin <= at < back for begin, back in loops) for at in ends
    )


def _refuse_endless(operation: str, items: Any, steps: str | None) -> None:
    """Refuse an endless source; `steps` is the argument that would bound it, None if it is given."""
    if steps is not None and never_ends(items):
        raise ValueError(
            f"{operation}: got {type(items).__name__} that never ends, expected a finite number of batches; "
            f"give {steps}=, the number of batches of an epoch"
        )


def read(operation: str, x: Any, epochs: int, steps: str | None = None, limit_name: str = "steps_per_epoch") -> Batches:
    """The batches of a source, each checked as it comes.

    Args:
        steps: the name of the argument that bounds the batches of an epoch, if the source itself must end them, else
            None.
        limit_name: the name of that argument in any case, for messages.
        x: an iterable that can be iterated over repeatedly; a function of the epoch's number, from 0, that returns an
            iterable; or an iterator, for a single epoch. It yields tuples (x, y[, lengths[, sample_weight]]) or `Batch`
            objects.
    """
    if isinstance(x, Batches):
        return x
    _refuse_endless(operation, x, steps)
    if callable(x):
        return _Function(operation, x, steps)
    if isinstance(x, Iterator):
        if epochs > 1:
            raise ValueError(
                f"{operation}: got a {type(x).__name__}, which can be read only once, with epochs={epochs}, expected "
                f"batches for every epoch; give a function of the epoch's number that returns it, an object whose "
                f"__iter__ starts from the beginning, or {limit_name}=, the number of batches of an epoch"
            )
        return _Once(operation, x, limit_name)
    return (_Listed if isinstance(x, list | tuple) else _Iterable)(operation, x, steps)


class _Iterable(Batches):
    def __init__(self, operation: str, x: Any, limit: str | None) -> None:
        self._operation, self._x, self._limit = operation, x, limit
        try:
            self.steps = len(x)
        except TypeError:  # also raised by some __len__, such as torch's DataLoader's for a dataset without a length
            self.steps = None

    def epoch(self, number: int) -> Iterator[Batch]:
        items = _items(self._x)
        _refuse_endless(self._operation, items, self._limit)
        return _checked(self._operation, items, number)


class _Listed(_Iterable):
    """Batches in a list, whose content can be fingerprinted."""

    stay = True

    def config(self) -> dict[str, Any]:
        batches = tuple(_batch(f"{self._operation}: batch {index}", item) for index, item in enumerate(self._x))
        return {"class": "list", "steps": self.steps, "content": Fingerprint().add(batches).text}


class _Function(Batches):
    repeatable = True

    def __init__(self, operation: str, function: Callable[[int], Iterable[Any]], limit: str | None) -> None:
        self._operation, self._function, self._limit, self.steps = operation, function, limit, None
        try:
            inspect.signature(function).bind(0)
        except TypeError:
            raise TypeError(
                f"{operation}: got a function that cannot be called with the number of an epoch, expected one of "
                f"the epoch; write lambda epoch: ..."
            ) from None
        except ValueError:  # a function without a signature
            pass

    def epoch(self, number: int) -> Iterator[Batch]:
        found = self._function(number)
        if not isinstance(found, Iterable):
            raise TypeError(
                f"{self._operation}: got {type(found).__name__} from the function of the epoch's number, expected "
                f"batches to iterate over; yield them, or return a list of them"
            )
        _refuse_endless(self._operation, found, self._limit)
        return _checked(self._operation, found, number)


class _Once(Batches):
    def __init__(self, operation: str, x: Iterator[Any], limit_name: str) -> None:
        self._operation, self._x, self._limit_name, self.steps = operation, x, limit_name, None

    def epoch(self, number: int) -> Iterator[Batch]:
        if number:
            raise ValueError(
                f"{self._operation}: got a {type(self._x).__name__} that has run out of batches, expected enough for "
                f"all epochs; lower epochs or {self._limit_name}, or give an object whose __iter__ starts from the "
                "beginning"
            )
        return _checked(self._operation, self._x, number)


def inputs(operation: str, x: Any, steps: str | None) -> Iterator[Batch]:
    """The batches of a source's first epoch, with their targets, if any, ignored."""
    items = x.epoch(0) if isinstance(x, Batches) else x(0) if callable(x) else _items(x)
    for one in (x, items):
        _refuse_endless(operation, one, steps)
    return _checked(operation, items, 0, _input_batch)


def _items(x: Any) -> Iterator[Any]:
    """An iterator over x. iter() of a class with only __getitem__ ends at an IndexError, which few such classes
    raise."""
    return iter(x) if hasattr(x, "__iter__") else (x[index] for index in range(len(x)))


def _checked(
    operation: str, items: Iterable[Any], epoch: int, read_item: Callable[[str, Any], Batch] | None = None
) -> Iterator[Batch]:
    """Each item as a batch, checked against the one before it."""
    rows: int | None = None
    for index, item in enumerate(items):
        place = f"{operation}: batch {index} of epoch {epoch}"
        batch = (read_item or _batch)(place, item)
        before, rows = rows, _rows(place, batch.x)
        if batch.carry and before is None:
            raise ValueError(
                f"{place}: got carry=True, expected False, as there is no batch before it; leave carry out of an "
                f"epoch's first batch"
            )
        if batch.carry and rows != before:
            raise ValueError(
                f"{place}: got {rows} rows with carry=True, expected {before}, as the batch before has; keep the "
                f"rows, with a length of 0 for those that have ended"
            )
        yield batch
    if rows is None:
        raise ValueError(
            f"{operation}: got no batches in epoch {epoch}, expected at least one; give an object whose __iter__ "
            f"starts from the beginning, or a function of the epoch's number"
        )


def _batch(place: str, item: Any) -> Batch:
    if isinstance(item, Batch):
        return item
    if not isinstance(item, tuple | list):
        raise TypeError(f"{place}: got {type(item).__name__}, expected {_ITEM}; yield one of these")
    if not 2 <= len(item) <= 4:
        raise ValueError(f"{place}: got {len(item)} parts, expected {_ITEM}; yield one of these")
    refuse_weights(place, item)
    return Batch(*item)


def refuse_weights(place: str, item: Any) -> None:
    """Refuse Keras' (x, y, weights), recognised by weights being floats and lengths integers."""
    if len(item) > 2 and _are_floats(item[2]):
        raise TypeError(
            f"{place}: got floats in place of lengths, expected integers, as a batch is (x, y, lengths, "
            "sample_weight); put None before the weights"
        )


def _are_floats(value: Any) -> bool:
    """Also of a container with one item per input."""
    if isinstance(value, Mapping | tuple | list):
        return any(map(_are_floats, value.values() if isinstance(value, Mapping) else value))
    return isinstance(value, float) or "float" in str(
        getattr(value, "dtype", "")
    )  # numpy's and other libraries' dtypes


def _input_batch(place: str, item: Any) -> Batch:
    """A batch from x alone, or from what `fit` takes."""
    if isinstance(item, Batch):
        return item
    if not isinstance(item, tuple | list):
        return Batch(item, None)
    if not 1 <= len(item) <= 4:
        raise ValueError(f"{place}: got {len(item)} parts, expected x, (x,) or {_ITEM}; yield one of these")
    refuse_weights(place, item)
    return Batch(item[0], None, item[2] if len(item) > 2 else None)


def _rows(place: str, x: Any) -> int:
    """The number of rows, taken from the first input."""
    if isinstance(x, Mapping | tuple) and x:
        x = next(iter(x.values() if isinstance(x, Mapping) else x))
    try:
        return len(x)
    except TypeError:
        raise TypeError(
            f"{place}: got x of type {type(x).__name__}, expected rows; give an array (N, T, features) or (N, T)"
        ) from None
