"""Contract 1: outputs and final states are the specification's, for every cell, dtype and option."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import torch_peer
from agreement import assert_as_close_as, assert_same_bits
from array_types import DTYPES
from cell_cases import SCANS, Case, draw, grid, steady
from cell_runs import forward, inputs, load, make_layer, pack, solve, solver, specified, unpack
from cell_variants import CELLS, NORMALISED

pytestmark = pytest.mark.every_isa


@pytest.mark.parametrize("case", grid(), ids=str)
def test_float64_is_the_specification(case: Case) -> None:
    problem = draw(case)
    y, state = specified(problem)
    actual_y, actual_state = forward(problem, "float64")
    # Values of order 1 (relu: a few units), after at most 99 dependent steps of a few hundred roundings of 1e-16 each.
    scale = max(1.0, np.abs(y).max())
    np.testing.assert_allclose(actual_y, y, rtol=0, atol=1e-12 * scale)
    for part, expected in zip(actual_state, state, strict=True):
        np.testing.assert_allclose(part, expected, rtol=0, atol=1e-12 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("case", steady(grid()), ids=str)
def test_float32_is_as_close_as_torch(case: Case) -> None:
    problem = draw(case)
    y, state = specified(problem)
    peer = torch_peer.solved(case, "float32")
    actual_y, actual_state = forward(problem, "float32")
    assert_as_close_as(peer.y, actual_y, y, "y")
    for part, its, expected in zip(actual_state, peer.state, state, strict=True):
        assert_as_close_as(its, part, expected, "final state")


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell not in NORMALISED])
def test_float32_stays_close_over_a_long_sequence(cell: str) -> None:
    case = Case(cell, 20, 45, 2, 400, seed=7)
    problem = draw(case)
    actual_y, _ = forward(problem, "float32")
    assert_as_close_as(torch_peer.solved(case, "float32").y, actual_y, specified(problem)[0], "y")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_recording_computes_the_same_bits(cell: str, dtype: str) -> None:
    problem = draw(Case(cell, 3, 17, 5, 12, 2, bidirectional=True, ragged=True, resets=True))
    outcome = solve(problem, dtype)
    y, state = forward(problem, dtype)
    assert_same_bits(outcome.y, y)
    for recorded, inferred in zip(outcome.state, state, strict=True):
        assert_same_bits(recorded, inferred)


@pytest.mark.parametrize("cell", CELLS)
def test_no_bias_is_a_bias_of_zero(cell: str) -> None:
    problem = draw(Case(cell, 3, 5, 4, 7, 2, bidirectional=True, ragged=True, bias=False))
    y, _ = forward(problem, "float64")
    np.testing.assert_allclose(y, specified(problem)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_no_state_is_a_state_of_zero(cell: str, dtype: str) -> None:
    problem = draw(Case(cell, 3, 5, 4, 7, 2, bidirectional=True, ragged=True))
    zeros = tuple(np.zeros_like(part) for part in problem.dstate)
    assert_same_bits(
        forward(replace(problem, state=None), dtype)[0],
        forward(replace(problem, state=zeros), dtype)[0],
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_the_layout_of_the_arguments_does_not_matter(cell: str, dtype: str) -> None:
    """Any strides, either byte order of axes, read-only or not: the same bits."""
    problem = draw(Case(cell, 3, 17, 5, 6, 2, ragged=True, resets=True))
    layer = solver(problem, dtype)
    x = np.nan_to_num(problem.x).astype(dtype)
    expected, expected_state = layer(x, **inputs(problem, dtype))
    strided = np.zeros((10, 12, 6), dtype)[::2, ::2, ::2]
    strided[...] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    for other in (np.asfortranarray(x), strided, x[:, ::-1].copy()[:, ::-1], read_only):
        arguments = inputs(problem, dtype)
        arguments["state"] = pack(tuple(np.asfortranarray(part) for part in problem.state or ()), dtype)
        arguments["reset"] = np.asfortranarray(problem.reset)
        y, state = layer(other, **arguments)
        assert_same_bits(y, expected)
        for part, expected_part in zip(unpack(state), unpack(expected_state), strict=True):
            assert_same_bits(part, expected_part)


@pytest.mark.parametrize("cell", CELLS)
def test_time_first(cell: str) -> None:
    """batch_first=False: x, y and reset are (T, N, ...), states as ever."""
    problem = draw(Case(cell, 3, 5, 4, 7, 2, bidirectional=True, ragged=True, resets=True))
    y, state = forward(problem, "float32")
    layer = load(make_layer(problem.case, batch_first=False), problem.params, "float32")
    x = np.ascontiguousarray(problem.x.astype("float32").swapaxes(0, 1))
    arguments = inputs(problem, "float32")
    arguments["reset"] = arguments["reset"].T
    time_first_y, time_first_state = layer(x, **arguments)
    assert_same_bits(time_first_y.swapaxes(0, 1), y)
    for one, other in zip(unpack(time_first_state), state, strict=True):
        assert_same_bits(one, other)
    tape = layer.record(x, **arguments, training=False)
    dy = np.ascontiguousarray(problem.dy.astype("float32").swapaxes(0, 1))
    dx, _ = tape.backward(dy, pack(problem.dstate, "float32"))
    assert_same_bits(dx.swapaxes(0, 1), solve(problem, "float32").dx)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_the_last_valid_output(cell: str, bidirectional: bool) -> None:
    """return_sequences=False gives each direction's own last output: h_n of the last layer, side by side."""
    problem = draw(Case(cell, 3, 17, 5, 7, 2, bidirectional=bidirectional, ragged=True, resets=True))
    layer = load(make_layer(problem.case, return_sequences=False), problem.params, "float32")
    y, state = layer(problem.x.astype("float32"), **inputs(problem, "float32"))
    h = unpack(state)[0]
    assert_same_bits(y, np.concatenate(list(h[2 if bidirectional else 1 :]), axis=1))
    assert_same_bits(h, forward(problem, "float32")[1][0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell not in ("rnn_relu", *SCANS, *NORMALISED)])
def test_large_values_saturate(cell: str, dtype: str) -> None:
    """No overflow on the way to a gate that is 0 or 1 (relu and linear candidates have no such thing; layer norm
    squares)."""
    problem = draw(Case(cell, 1, 17, 6, 4))
    problem.x[...] = np.array([1e2, -1e2, 1e4, -1e15, 1e30, -1e30])[:, None, None]
    problem = replace(problem, x=problem.x.astype(np.float32).astype(np.float64))
    y, _ = forward(problem, dtype)
    assert np.isfinite(y).all()
    # Saturated gates hide the size of the input; what is left is a handful of roundings.
    np.testing.assert_allclose(y, specified(problem)[0], rtol=0, atol=1e-12 if dtype == "float64" else 2e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_nan_and_infinity_are_not_hidden(cell: str, dtype: str) -> None:
    """A clamp inside an approximation must not turn a NaN into a number, nor an infinity into a NaN.

    Where a candidate is infinite and its gate shut, the product has no right value: NaN by the equations, infinite
    here.
    """
    problem = draw(Case(cell, 1, 17, 3, 3))
    problem.x[0, 1] = np.nan
    if cell not in SCANS:
        problem.x[1, 1], problem.x[2, 1] = np.inf, -np.inf
    y, _ = forward(problem, dtype)
    with np.errstate(invalid="ignore"):
        expected, _ = specified(problem)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    assert np.isnan(y[0, 1:]).all()
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12 if dtype == "float64" else 2e-6)


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
@pytest.mark.parametrize("cell", CELLS)
def test_nothing_to_do(cell: str, shape: tuple[int, int]) -> None:
    """No rows, no steps: empty outputs, the initial state, gradients that are zero or pass through."""
    problem = draw(Case(cell, 3, 5, *shape, 2, bidirectional=True))
    outcome = solve(problem, "float32", training=True)
    assert outcome.y.shape == (*shape, 2 * problem.case.units)
    assert outcome.dx.shape == (*shape, 3)
    for part, initial in zip(outcome.state, problem.state or (), strict=True):
        assert_same_bits(part, initial.astype("float32"))
    for gradient, upstream in zip(outcome.dstate, problem.dstate, strict=True):
        assert_same_bits(gradient, upstream.astype("float32"))
    assert not any(gradient.any() for gradient in outcome.grads.values())
