"""Two results agree: bit for bit, or as well as a peer's."""

from __future__ import annotations

from typing import Any

import numpy as np

from array_types import Array


def assert_same_bits(actual: Any, expected: Any, what: str = "") -> None:
    """Equal bit for bit; a NaN equals the same NaN, 0.0 does not equal -0.0."""
    actual, expected = np.ascontiguousarray(actual), np.ascontiguousarray(expected)
    assert actual.dtype == expected.dtype, what
    assert actual.shape == expected.shape, what
    differ = actual.view(np.uint8) != expected.view(np.uint8)
    if differ.any():
        largest = np.nanmax(np.abs(actual.astype(np.float64) - expected.astype(np.float64)))
        raise AssertionError(f"{what}: {differ.sum()} of {differ.size} bytes differ, by up to {largest}")


def assert_as_close_as(peer: Array, actual: Array, exact: Array, what: str) -> None:
    """float32: the error against float64 is at most twice the peer's own, as a root mean square over the array.

    The largest error of a few thousand is a matter of luck, the peer's as well as ours: it may be three times the
    peer's, which still finds a single element gone wrong. The floors, one and two units in the last place of the
    array's largest value (or of 1), are for arrays so small that the peer is exact by luck: rounding the result costs
    as much.
    """
    scale = max(1.0, np.abs(exact).max(initial=0.0))
    mine, its = (np.abs(array - exact).ravel() for array in (actual, peer))
    error, allowed = (float(np.sqrt(np.square(e).sum() / max(e.size, 1))) for e in (mine, its))
    assert error <= 2.0 * allowed + 2.0**-23 * scale, f"{what}: mean error {error:.3g}, the peer's {allowed:.3g}"
    error, allowed = mine.max(initial=0.0), its.max(initial=0.0)
    assert error <= 3.0 * allowed + 2.0**-22 * scale, f"{what}: largest error {error:.3g}, the peer's {allowed:.3g}"
