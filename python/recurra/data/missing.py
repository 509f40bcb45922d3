"""Sequences with missing values, at irregular times."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from recurra.common import checks
from recurra.common.typing import Array, Rows
from recurra.data.rows import is_list


class Carried(NamedTuple):
    """What `carry_forward` returns: arrays of the shape and dtype of x, or lists of such arrays.

    Attributes:
        values: of each feature the last value seen.
        mask: 1 where a value was seen at that step, else 0.
        gaps: the time since it was last seen before that step.

    Example:
        >>> rc.data.carry_forward(np.array([[[1.0], [np.nan]]])).values[0, :, 0].tolist()
        [1.0, 1.0]
    """

    values: Any
    mask: Any
    gaps: Any


def carry_forward(x: npt.ArrayLike | Rows, times: npt.ArrayLike | Rows | None = None, *, fill: float = 0.0) -> Carried:
    """The last values seen in sequences with missing ones (NaN), which are there, and for how long they were not.

    With the times s_t of the steps and the mask m_t, the gaps are (Che et al. 2018, equation 3)

        d_1 = 0    d_t = s_t - s_{t-1} + (1 - m_{t-1}) d_{t-1}

    each feature's own. Before a feature was first seen, they count from the first step.

    Args:
        x: (N, T, F), or a list of N arrays (T_n, F); NaN where a value is missing.
        times: (N, T), or (T,) for all rows; with a list, a list of arrays (T_n,). In order. None: 0, 1, 2 ...
        fill: the value of a feature that has not been seen yet. Scale x before, so that 0 is its mean.

    Returns:
        values, mask and gaps, each like x. Side by side, `np.concatenate(found, axis=-1)`, they are 3 F features.

    Raises:
        ValueError, TypeError: shapes that do not fit, infinite values, times that decrease or are not finite.

    Example:
        >>> nan = np.nan
        >>> x = np.array([[[nan], [2.0], [nan], [nan], [5.0]]])
        >>> found = rc.data.carry_forward(x, times=[0.0, 1.0, 4.0, 5.0, 7.0])
        >>> [one[0, :, 0].tolist() for one in found]
        [[0.0, 2.0, 2.0, 2.0, 5.0], [0.0, 1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 3.0, 4.0, 6.0]]
    """
    name = "data.carry_forward"
    fill = checks.number(name, "fill", fill)
    if is_list(x):
        rows: Any = x
        each: Any = [None] * len(rows) if times is None else times
        if not is_list(each) or len(each) != len(rows):
            raise ValueError(
                f"{name}: got times that are no list of {len(rows)} arrays, as x is; give one for each row"
            )
        found = [
            _carried(name, f"x[{n}]", one, f"times[{n}]", own, fill, ("T", "features"))
            for n, (one, own) in enumerate(zip(rows, each, strict=True))
        ]
        return Carried(*(list(part) for part in zip(*found, strict=True))) if found else Carried([], [], [])
    return _carried(name, "x", x, "times", times, fill, ("N", "T", "features"))


def last_seen(seen: Array) -> Array:
    """For each step and feature the last step up to it that was seen, -1 before the first; (..., T, F)."""
    steps = np.arange(seen.shape[-2])[:, None]
    result: Array = np.maximum.accumulate(np.where(seen, steps, -1), axis=-2)
    return result


def _carried(
    name: str, label: str, x: Any, times_label: str, times: Any, fill: float, axes: tuple[str, ...]
) -> Carried:
    values = checks.numeric(name, label, x)
    if values.ndim != len(axes):
        raise ValueError(
            f"{name}: got {label} of shape {values.shape}, expected ({', '.join(axes)}); give x[None] for one row, and "
            "x[..., None] for one feature"
        )
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    if np.isinf(values).any():
        raise ValueError(f"{name}: got infinity in {label}, expected numbers, and NaN where one is missing")
    seen = ~np.isnan(values)
    last = last_seen(seen)
    carried = np.where(last < 0, fill, np.take_along_axis(values, np.maximum(last, 0), -2)) if values.size else values
    at = _times(name, times_label, times, values.shape[:-1])
    # the last step before each, the first one where there is none
    before = np.concatenate([np.zeros_like(last[..., :1, :]), np.maximum(last[..., :-1, :], 0)], -2)[
        ..., : last.shape[-2], :
    ]
    at = np.broadcast_to(at[..., None], values.shape)
    gaps = at - np.take_along_axis(at, before, -2)
    kind = values.dtype
    return Carried(carried.astype(kind, copy=False), seen.astype(kind), gaps.astype(kind))


def _times(name: str, label: str, times: Any, shape: tuple[int, ...]) -> Array:
    if times is None:
        return np.broadcast_to(np.arange(shape[-1], dtype=np.float64), shape)
    at = checks.numeric(name, label, times).astype(np.float64)
    if at.shape not in (shape, shape[-1:]):
        raise ValueError(f"{name}: got {label} of shape {at.shape}, expected {shape}; give one for each step")
    if not np.isfinite(at).all() or (np.diff(at) < 0).any():
        raise ValueError(f"{name}: got {label} that decrease or are not finite, expected them in order; sort the steps")
    return np.broadcast_to(at, shape)
