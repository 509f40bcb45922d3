"""Missing values carried forward, against the equations step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurra as rc


def expected(x: Any, times: Any, fill: float) -> tuple[Any, Any, Any]:
    """Che et al. 2018, equations 2 and 3, for one row (T, F)."""
    values, mask, gaps = np.empty_like(x), np.zeros_like(x), np.zeros_like(x)
    for feature in range(x.shape[1]):
        last = fill
        for step in range(len(x)):
            mask[step, feature] = not np.isnan(x[step, feature])
            if mask[step, feature]:
                last = x[step, feature]
            values[step, feature] = last
            if step:
                passed = times[step] - times[step - 1]
                gaps[step, feature] = passed + (1 - mask[step - 1, feature]) * gaps[step - 1, feature]
    return values, mask, gaps


def rows(dtype: str = "float64") -> tuple[Any, Any]:
    """Six rows of nine steps and three features, about half of them missing, and whole times."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 9, 3)).astype(dtype)
    x[rng.random(x.shape) < 0.5] = np.nan
    x[0, :, 1] = np.nan
    return x, rng.integers(0, 4, (6, 9)).cumsum(1).astype(float)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_equations(dtype: str) -> None:
    x, times = rows(dtype)
    found = rc.data.carry_forward(x, times, fill=0.25)
    for n in range(len(x)):
        for one, wanted in zip(found, expected(x[n], times[n], 0.25), strict=True):
            np.testing.assert_array_equal(one[n], wanted)
            assert one.dtype == dtype
    assert np.isnan(x).any()  # x itself is as it was


def test_ragged_rows_are_as_alone() -> None:
    x, times = rows()
    lengths = [9, 0, 1, 4, 9, 2]
    found = rc.data.carry_forward(
        [row[:n] for row, n in zip(x, lengths, strict=True)], [row[:n] for row, n in zip(times, lengths, strict=True)]
    )
    for whole, ragged in zip(rc.data.carry_forward(x, times), found, strict=True):
        assert [len(row) for row in ragged] == lengths
        for row, one in zip(whole, ragged, strict=True):
            np.testing.assert_array_equal(row[: len(one)], one)
    assert rc.data.carry_forward([]) == ([], [], [])


def test_steps_are_the_times_by_default_and_one_row_of_times_is_for_all() -> None:
    x, _ = rows()
    for times in (None, np.arange(9.0)):
        np.testing.assert_array_equal(
            rc.data.carry_forward(x, times).gaps, rc.data.carry_forward(x, np.tile(np.arange(9), (6, 1))).gaps
        )
    whole = rc.data.carry_forward([[[1], [2]]])
    np.testing.assert_array_equal(whole.gaps[0], [[0.0], [1.0]])


@pytest.mark.parametrize(
    ("x", "times", "says"),
    [
        (np.zeros((3, 2)), None, r"got x of shape \(3, 2\), expected \(N, T, features\)"),
        ([np.zeros(3)], None, r"got x\[0\] of shape \(3,\), expected \(T, features\)"),
        (np.full((1, 2, 1), np.inf), None, "got infinity in x"),
        (np.zeros((1, 2, 1)), [[1.0, 0.5]], "got times that decrease"),
        (np.zeros((1, 2, 1)), [[1.0, np.nan]], "got times that decrease or are not finite"),
        (np.zeros((1, 2, 1)), [1.0], r"got times of shape \(1,\), expected \(1, 2\)"),
        ([np.zeros((2, 1))], [[0.0, 1.0], [0.0]], "got times that are no list of 1 arrays"),
        ("text", None, "got text in x"),
    ],
)
def test_errors(x: Any, times: Any, says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^data.carry_forward: {says}"):
        rc.data.carry_forward(x, times)


def test_fill_is_a_number() -> None:
    with pytest.raises(ValueError, match=r"data\.carry_forward: got fill=nan"):
        rc.data.carry_forward(np.zeros((1, 2, 1)), fill=np.nan)
