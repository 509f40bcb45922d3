"""Fingerprints of data: a digest of all values in order."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from recurra.common import checks
from recurra.common.typing import Array
from recurra.data.batch import Batch
from recurra.data.rows import is_list

#: Bytes of an array hashed at a time, so that memory-mapped data are never loaded as a whole.
_PIECE = 1 << 22


class Fingerprint:
    """A digest of arrays and containers of arrays.

    Args:
        sample: number of bytes to hash of each array, half from its start, half from its end; None for all.
    """

    def __init__(self, sample: int | None = None) -> None:
        self._digest, self._sample = hashlib.sha256(), sample

    def add(self, value: Any) -> Fingerprint:
        """Add None, a string, a number, an array, a batch, or lists, tuples and dicts of them."""
        if value is None:
            self._mark("none")
        elif isinstance(value, str):
            self._mark("text", value)
        elif isinstance(value, Batch):
            self._mark("batch")
            for field in fields(value):
                self.add(getattr(value, field.name))
        elif isinstance(value, Mapping):
            self._mark("dict", *value)
            for inner in value.values():
                self.add(inner)
        elif isinstance(value, tuple) or is_list(value):
            self._mark("list", len(value))
            for inner in value:
                self.add(inner)
        else:
            self._array(np.asarray(value))
        return self

    def add_rows(self, array: Array, lengths: Array | None) -> Fingerprint:
        """Add the valid steps of (N, T, ...), given (N,) `lengths`; padding is ignored."""
        if lengths is None:
            return self.add(array)
        for begin, end in _pieces(array):
            rows = lengths[begin:end]
            self.add(array[begin:end][checks.steps_within(rows, array.shape[1])])
        return self.add(lengths)

    @property
    def text(self) -> str:
        """The digest, 32 hexadecimal digits."""
        return self._digest.hexdigest()[:32]

    def _mark(self, *what: Any) -> None:
        self._digest.update(repr(what).encode())

    def _array(self, array: Array) -> None:
        self._mark(array.dtype.str, array.shape)
        if array.dtype.hasobject:
            for one in array.ravel().tolist():
                self.add(one)
            return
        if array.ndim == 0 or not array.size:
            self._digest.update(array.tobytes())
        elif self._sample is not None and array.nbytes > self._sample:
            self._ends(array, self._sample // 2)
        else:
            for begin, end in _pieces(array):
                self._digest.update(_bytes(array[begin:end]))

    def _ends(self, array: Array, size: int) -> None:
        rows = max(1, size // max(1, array.nbytes // len(array)))
        for part in (array[:rows], array[-rows:]):
            flat = _bytes(part)
            self._digest.update(flat[:size])
            self._digest.update(flat[-size:])


def _bytes(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _pieces(array: Array) -> Sequence[tuple[int, int]]:
    """Ranges of the first axis of bounded size in bytes."""
    row = array.itemsize * math.prod(array.shape[1:])
    count = max(1, _PIECE // max(1, row))
    return [(begin, min(begin + count, len(array))) for begin in range(0, len(array), count)]
