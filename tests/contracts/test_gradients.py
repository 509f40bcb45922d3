"""Contract 2: gradients are the derivatives of the outputs, by central differences and by PyTorch's autograd."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import torch_peer
from agreement import assert_as_close_as, assert_same_bits
from array_types import DTYPES, Array
from cell_cases import Case, Problem, draw, grid, steady
from cell_runs import assert_same_outcome, inputs, load, make_layer, pack, solve, solver, unpack
from cell_variants import CELLS
from single_thread import central_difference

pytestmark = pytest.mark.every_isa

# (input, hidden, rows, steps, layers)
DIFFERENCE_SIZES = [(1, 1, 1, 1, 1), (3, 5, 3, 6, 2), (2, 17, 2, 2, 1), (20, 7, 4, 5, 1)]


def loss(problem: Problem, y: Array, state: tuple[Array, ...]) -> float:
    """A number whose gradient is problem.dy and problem.dstate."""
    total = float(np.where(problem.valid()[:, :, None], y * problem.dy, 0.0).sum())
    return total + sum(float((part * gradient).sum()) for part, gradient in zip(state, problem.dstate, strict=True))


def assert_central_differences(problem: Problem, training: bool = False) -> None:
    """For the input, the state and every parameter."""
    layer = solver(problem, "float64")
    actual = dict(solve(problem, "float64", layer, training).gradients())

    def f() -> float:
        tape = layer.record(problem.x, **inputs(problem, "float64"), training=training, seed=problem.case.seed)
        return loss(problem, tape.y, unpack(tape.state))

    variables = {"dx": problem.x, **problem.params}
    variables.update(zip(("dh_0", "dc_0"), problem.state or (), strict=False))
    rng = np.random.default_rng(0)
    for name, variable in variables.items():

        def value(name: str = name, variable: Array = variable) -> float:
            if name in problem.params:
                layer.params[name] = variable
            return f()

        choices = np.flatnonzero(~np.isnan(variable))  # padding has no derivative
        entries = rng.permutation(choices)[:60]
        expected = central_difference(value, variable, entries)
        value()
        # 1e-6 of the gradient's scale; the differences themselves are good to 1e-9 (see central_difference).
        scale = max(1.0, np.abs(expected).max(initial=0.0))
        np.testing.assert_allclose(actual[name].flat[entries], expected, rtol=0, atol=1e-6 * scale, err_msg=name)


@pytest.mark.parametrize("options", ["plain", "bidirectional", "ragged", "resets", "bidirectional ragged resets"])
@pytest.mark.parametrize("size", DIFFERENCE_SIZES, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_central_differences(cell: str, size: tuple[int, ...], options: str) -> None:
    flags = {name: name in options for name in ("bidirectional", "ragged", "resets")}
    assert_central_differences(draw(Case(cell, *size, **flags, seed=3)))


@pytest.mark.parametrize("case", grid(), ids=str)
def test_float64_agrees_with_autograd(case: Case) -> None:
    actual, peer = solve(draw(case), "float64"), torch_peer.solved(case, "float64")
    for (name, mine), (_, its) in zip(actual.arrays(), peer.arrays(), strict=True):
        # Sums of up to 13 x 33 terms of order 1, through as many dependent steps: 1e-11 of the array's scale.
        np.testing.assert_allclose(mine, its, rtol=0, atol=1e-11 * max(1.0, np.abs(its).max(initial=0.0)), err_msg=name)


@pytest.mark.parametrize("case", steady(grid()), ids=str)
def test_float32_is_as_close_as_autograd(case: Case) -> None:
    exact, peer = torch_peer.solved(case, "float64"), torch_peer.solved(case, "float32")
    actual = solve(draw(case), "float32")
    for (name, mine), (_, its), (_, truth) in zip(actual.gradients(), peer.gradients(), exact.gradients(), strict=True):
        assert_as_close_as(its, mine, truth, name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_without_the_input_gradient(cell: str, dtype: str) -> None:
    problem = draw(Case(cell, 3, 17, 5, 9, 2, bidirectional=True, ragged=True))
    expected = solve(problem, dtype)
    layer = solver(problem, dtype)
    tape = layer.record(problem.x.astype(dtype), **inputs(problem, dtype), training=False, input_grad=False)
    dx, dstate = tape.backward(problem.dy.astype(dtype), pack(problem.dstate, dtype))
    assert dx is None
    for one, other in zip(unpack(dstate), expected.dstate, strict=True):
        assert_same_bits(one, other)
    for name, gradient in expected.grads.items():
        assert_same_bits(layer.grads[name], gradient, name)


@pytest.mark.parametrize("cell", CELLS)
def test_a_missing_gradient_is_zero(cell: str) -> None:
    problem = draw(Case(cell, 3, 17, 5, 9, 2, bidirectional=True, ragged=True))
    layer = solver(problem, "float32")
    tape = layer.record(problem.x.astype("float32"), **inputs(problem, "float32"), training=False)
    dx, dstate = tape.backward(problem.dy.astype("float32"))
    expected = solve(replace(problem, dstate=tuple(np.zeros_like(part) for part in problem.dstate)), "float32")
    assert_same_bits(dx, expected.dx)
    for one, other in zip(unpack(dstate), expected.dstate, strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("cell", CELLS)
def test_no_initial_state_has_a_gradient_all_the_same(cell: str) -> None:
    problem = draw(Case(cell, 3, 5, 4, 7))
    zeros = tuple(np.zeros_like(part) for part in problem.dstate)
    assert_same_outcome(
        solve(replace(problem, state=None), "float32"),
        solve(replace(problem, state=zeros), "float32"),
    )


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_add_up(cell: str) -> None:
    problem = draw(Case(cell, 3, 5, 4, 7))
    layer = solver(problem, "float64")
    once = solve(problem, "float64", layer).grads
    tape = layer.record(problem.x, **inputs(problem, "float64"), training=False)
    tape.backward(problem.dy, pack(problem.dstate, "float64"))
    for name, gradient in once.items():
        np.testing.assert_allclose(layer.grads[name], 2.0 * gradient, rtol=1e-14)
    layer.zero_grad()
    assert not any(layer.grads[name].any() for name in once)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_the_last_valid_output_has_the_gradient_of_the_last_state(cell: str, bidirectional: bool) -> None:
    problem = draw(Case(cell, 3, 17, 5, 7, 2, bidirectional=bidirectional, ragged=True, resets=True))
    layer = load(make_layer(problem.case, "float64", return_sequences=False), problem.params, "float64")
    tape = layer.record(problem.x, **inputs(problem, "float64"), training=False)
    directions = 2 if bidirectional else 1
    dlast = np.concatenate(list(problem.dstate[0][-directions:]), axis=1)
    dx, dstate = tape.backward(dlast)
    only_last = tuple(np.zeros_like(part) for part in problem.dstate)
    only_last[0][-directions:] = problem.dstate[0][-directions:]
    expected = solve(replace(problem, dy=np.zeros_like(problem.dy), dstate=only_last), "float64")
    # Which of the two ways the gradient comes in may change one addition per element.
    np.testing.assert_allclose(dx, expected.dx, rtol=0, atol=1e-13)
    for one, other in zip(unpack(dstate), expected.dstate, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-13)
    for name, gradient in expected.grads.items():
        np.testing.assert_allclose(layer.grads[name], gradient, rtol=0, atol=1e-12, err_msg=name)
