"""Sliding windows of series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from recurra.common import checks
from recurra.common.typing import Array, Rows
from recurra.data.rows import is_list


@overload
def windows(
    series: Rows,
    width: int,
    *,
    stride: int = 1,
    horizon: Literal[0] = 0,
    gap: Literal[0] = 0,
    target: None = None,
    features: None = None,
    aligned: Literal[False] = False,
) -> Array: ...


@overload
def windows(
    series: Rows,
    width: int,
    *,
    stride: int = 1,
    horizon: int = 0,
    gap: int = 0,
    target: Rows | None = None,
    features: int | Sequence[int] | None = None,
    aligned: bool = False,
) -> tuple[Array, Array]: ...


def windows(
    series: Rows,
    width: int,
    *,
    stride: int = 1,
    horizon: int = 0,
    gap: int = 0,
    target: Rows | None = None,
    features: int | Sequence[int] | None = None,
    aligned: bool = False,
) -> Array | tuple[Array, Array]:
    """Sliding windows of `width` steps over a series, and the target of each.

    Window n starts at step s = n * stride of its series. Its target is, from the series or from `target`,

        horizon=h       steps s + width + gap ... s + width + gap + h - 1: those after the window
        aligned=True    steps s + horizon ... s + horizon + width - 1: for every step of the
                        window, the step `horizon` later; 1 is the next step, 0 the step
                        itself, as for its label

    For one label per window, that of its last step: `x, y = windows(series, width, target=labels, aligned=True)`, then
    `y[:, -1]`.

    Args:
        series: (T, F), or (T,) for one feature; or a list of several of any lengths. No window spans two series.
        width: number of steps of a window.
        stride: steps from the start of a window to that of the next.
        horizon: number of steps to predict; with aligned=True, how many steps ahead.
        gap: steps between a window and its target.
        target: what to predict, if not the series: (T,) or (T, ...), a value for each step; a list of them if series
            is.
        features: the index, or indices, of the features to predict; None for all.
        aligned: whether there is a target for every step of a window, rather than the steps after it.

    Returns:
        x (N, width, F), alone if horizon is 0 and aligned False; else x and y. y is (N, horizon, F) or, aligned, (N,
        width, F), with F the features to predict; for a `target` (T,), without the last axis. Windows that would extend
        past the end are left out; those of several series are concatenated.

        For a single series, x and y are read-only views that take no memory (but for a copy of the chosen features).
        Give it in the dtype of the model: converting x would materialise every window. For several series, they are
        copies.

    Raises:
        ValueError, TypeError: arguments that contradict each other, or series too short for a single window.

    Example:
        >>> x, y = rc.data.windows(np.arange(10.0), 4, horizon=2)
        >>> x.shape, y.shape
        ((5, 4, 1), (5, 2, 1))
        >>> x[0].ravel().tolist(), y[0].ravel().tolist()
        ([0.0, 1.0, 2.0, 3.0], [4.0, 5.0])
    """
    name = "windows"
    width, stride = checks.integer(name, "width", width), checks.integer(name, "stride", stride)
    horizon, gap = checks.integer(name, "horizon", horizon, 0), checks.integer(name, "gap", gap, 0)
    aligned = checks.flag(name, "aligned", aligned)
    predicts = aligned or horizon > 0
    if gap and (aligned or not horizon):
        raise ValueError(
            f"{name}: got gap={gap} with horizon={horizon}, aligned={aligned}, expected a horizon after the gap; "
            + ("add it to horizon" if aligned else "give horizon")
        )
    if not predicts and (target is not None or features is not None):
        given = "a target" if target is not None else "features"
        raise ValueError(
            f"{name}: got {given} but nothing to predict, expected a horizon or aligned=True; give horizon=1 for the "
            f"step after a window, or aligned=True for a target at every step of it"
        )
    sources = [_series(name, label, one) for label, one in _listed("series", series)]
    _check_alike(name, "series", sources)
    wanted = _targets(name, sources, target, features) if predicts else sources
    ahead = horizon if aligned else gap + horizon
    counts = [max(0, (len(one) - width - ahead) // stride + 1) for one in sources]
    if not any(counts):
        raise ValueError(
            f"{name}: got series of at most {max(map(len, sources), default=0)} steps, expected {width + ahead} for a "
            f"window and its target; give longer series, or lower width, horizon or gap"
        )
    x = _slide(sources, counts, 0, width, stride)
    if not predicts:
        return x
    begin, size = (horizon, width) if aligned else (width + gap, horizon)
    return x, _slide(wanted, counts, begin, size, stride)


def _listed(name: str, value: Any) -> list[tuple[str, Any]]:
    """One or several arrays, each with its label in messages."""
    return [(f"{name}[{index}]", one) for index, one in enumerate(value)] if is_list(value) else [(name, value)]


def _series(operation: str, label: str, value: npt.ArrayLike) -> Array:
    array = checks.numeric(operation, label, value)
    if array.ndim not in (1, 2):
        hint = (
            f"write np.asarray({label.partition('[')[0]})"
            if array.ndim == 0
            else "write list(series) if it holds several"
        )
        raise ValueError(f"{operation}: got {label} of shape {array.shape}, expected (T,) or (T, features); {hint}")
    return array[:, None] if array.ndim == 1 else array


def _targets(operation: str, sources: list[Array], target: Any, features: Any) -> list[Array]:
    """The array to predict from, for each series."""
    found = sources
    if target is not None:
        listed = _listed("target", target)
        if len(listed) != len(sources):
            raise ValueError(
                f"{operation}: got {len(listed)} targets for {len(sources)} series, expected the same number; give one "
                f"for each"
            )
        found = [checks.numeric(operation, label, one) for label, one in listed]
        for (label, _), one, series in zip(listed, found, sources, strict=True):
            if one.shape[:1] != series.shape[:1]:
                raise ValueError(
                    f"{operation}: got {label} of shape {one.shape}, expected {len(series)} steps, as its series has; "
                    f"give a value for each step"
                )
        _check_alike(operation, "target", found)
    if features is None:
        return found
    columns = np.atleast_1d(checks.numeric(operation, "features", features))
    if found[0].ndim != 2 or columns.ndim != 1 or not columns.size:
        raise ValueError(
            f"{operation}: got features={features!r} for steps of shape {found[0].shape[1:]}, expected indices into an "
            f"axis of features; leave features out"
        )
    chosen = [checks.integer(operation, "features", one, 0, found[0].shape[1] - 1) for one in columns.tolist()]
    return [one[:, chosen] for one in found]


def _check_alike(operation: str, name: str, arrays: list[Array]) -> None:
    """Refuse arrays that cannot be concatenated."""
    for index, one in enumerate(arrays):
        if one.shape[1:] != arrays[0].shape[1:]:
            raise ValueError(
                f"{operation}: got {name}[{index}] of shape {one.shape}, expected (T, ...) with {arrays[0].shape[1:]} "
                f"at each step, as {name}[0] has; give all the same number of features"
            )


def _slide(series: list[Array], counts: list[int], begin: int, width: int, stride: int) -> Array:
    """`counts[n]` windows of series n, the first at step `begin`."""
    parts = []
    for one, count in zip(series, counts, strict=True):
        if count:
            views = np.moveaxis(np.lib.stride_tricks.sliding_window_view(one, width, axis=0), -1, 1)
            parts.append(views[begin::stride][:count])
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
