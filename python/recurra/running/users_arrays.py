"""Arrays that pass between the core and a layer written in Python."""

from __future__ import annotations

import numpy as np

from recurra.common import checks
from recurra.common.typing import Array


def without_padding(array: Array, lengths: Array | None) -> Array:
    """`array` with zeros past the lengths; itself if there is no padding."""
    if lengths is None or bool((lengths >= array.shape[1]).all()):
        return array
    valid = checks.steps_within(lengths, array.shape[1])
    return np.where(valid.reshape(valid.shape + (1,) * (array.ndim - 2)), array, array.dtype.type(0))


def guarded(array: Array) -> Array:
    """A view that cannot be written, for users' code."""
    view: Array = array.view()
    view.flags.writeable = False
    return view


def apart(array: Array) -> Array:
    """`array`, or a copy if it is a view: of what a method was given, a parameter, anything that somebody may write to."""
    return array if array.base is None else array.copy()
