"""Small calls by the thousand, without waiting for other threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

import recurra as rc
import reference
from array_types import Array


@contextmanager
def one_thread() -> Iterator[None]:
    """Calls in the block use one thread, whatever the test's setting: thousands of small calls would wait for
    others."""
    before = rc.get_num_threads()
    rc.set_num_threads(1)
    try:
        yield
    finally:
        rc.set_num_threads(before)


def central_difference(
    f: Callable[[], float], array: Array, entries: npt.NDArray[np.intp], step: float = 1e-5
) -> Array:
    """`reference.central_difference` of an f that calls recurra."""
    with one_thread():
        return reference.central_difference(f, array, entries, step)
