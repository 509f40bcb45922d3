"""Arrays passed to and from layers written in Python."""

from __future__ import annotations

import numpy as np

from recurra.common import checks
from recurra.common.typing import Array


def without_padding(array: Array, lengths: Array | None) -> Array:
    """`array` with zeros past the lengths; the array itself if there is no padding."""
    if lengths is None or bool((lengths >= array.shape[1]).all()):
        return array
    valid = checks.steps_within(lengths, array.shape[1])
    return np.where(valid.reshape(valid.shape + (1,) * (array.ndim - 2)), array, array.dtype.type(0))


def guarded(array: Array) -> Array:
    """A read-only view, for users' code."""
    view: Array = array.view()
    view.flags.writeable = False
    return view


def apart(array: Array) -> Array:
    """`array`, or a copy if it is a view, as of an argument or a parameter, which may change later."""
    return array if array.base is None else array.copy()
