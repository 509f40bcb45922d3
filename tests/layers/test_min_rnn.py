"""minGRU and minLSTM beyond what all cells are held to: long sequences, gates far closed, the positive form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES
from cell_cases import SCANS, Case, draw
from cell_runs import assert_same_outcome, forward, inputs, load, make_layer, solve, specified

pytestmark = pytest.mark.every_isa


@pytest.mark.parametrize("cell", SCANS)
def test_a_long_sequence_is_its_steps(cell: str) -> None:
    """float32, 4096 steps: the sequential form in float64 to 1e-5, and the same bits in chunks and single steps."""
    problem = draw(Case(cell, 8, 24, 2, 4096, seed=1))
    y, _ = forward(problem, "float32")
    np.testing.assert_allclose(y, specified(problem)[0], rtol=0, atol=1e-5)
    layer = load(make_layer(problem.case), problem.params, "float32")
    x = problem.x.astype("float32")
    stream = layer.stream(batch_size=2)
    stream.load_state(inputs(problem, "float32")["state"])
    pieces = [stream.process(x[:, begin : begin + 1500]) for begin in (0, 1500)]
    pieces += [stream.step(x[:, t])[:, None] for t in range(3000, 4096)]
    assert_same_bits(np.concatenate(pieces, axis=1), y)


@pytest.mark.parametrize("cell", SCANS)
def test_gradients_of_a_long_sequence(cell: str) -> None:
    """Many blocks of the backward pass: float32 beside float64, relative to the largest gradient of an array."""
    problem = draw(Case(cell, 8, 24, 2, 2000, 2, bidirectional=True, ragged=True, resets=True, seed=1))
    for (name, actual), (_, exact) in zip(
        solve(problem, "float32").gradients(), solve(problem, "float64").gradients(), strict=True
    ):
        np.testing.assert_allclose(actual, exact, rtol=0, atol=1e-5 * max(1.0, np.abs(exact).max()), err_msg=name)


@pytest.mark.parametrize("shape", [(1, 700), (2, 300), (5, 60), (130, 3), (700, 1)], ids=str)
@pytest.mark.parametrize("cell", ["min_gru", "min_lstm_positive"])
def test_shapes_of_blocks_and_threads(cell: str, shape: tuple[int, int]) -> None:
    """Few long rows and many short ones, rows or panels shared out: one thread or three, the same bits."""
    problem = draw(Case(cell, 40, 67, *shape, 2, bidirectional=True, ragged=shape[0] > 4, seed=2))
    before = rc.get_num_threads()
    outcomes = []
    try:
        for threads in (1, 3):
            rc.set_num_threads(threads)
            outcomes.append(solve(problem, "float32"))
    finally:
        rc.set_num_threads(before)
    assert_same_outcome(*outcomes)
    if shape[0] * shape[1] < 1000:
        y, _ = specified(problem)
        np.testing.assert_allclose(outcomes[0].y, y, rtol=0, atol=1e-5 * max(1.0, np.abs(y).max()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_min_lstm_of_closed_gates(dtype: str) -> None:
    """f / (f + i) where f and i are beneath the smallest number, or one of them is: their ratio, and finite
    gradients."""
    gates = np.array([[-1e3, -1e3], [-1e3, -1001.0], [-1e30, -1.0], [3.0, -1e30], [-90.0, -88.5], [1e30, 1e30]])
    problem = draw(Case("min_lstm", 1, len(gates), 1, 1, bias=True, seed=3))
    problem.params["weight_ih_l0"][...] = 0.0
    problem.params["bias_ih_l0"][:] = [*gates[:, 0], *gates[:, 1], *np.ones(len(gates))]
    outcome = solve(problem, dtype)
    assert problem.state is not None
    h = problem.state[0][0, 0]
    ratio = np.array([0.5, 1 / (1 + np.exp(-1.0)), 0.0, 1.0, 1 / (1 + np.exp(1.5)), 0.5])
    tolerance = 1e-12 if dtype == "float64" else 1e-6
    np.testing.assert_allclose(outcome.y[0, 0], ratio * h + (1 - ratio), rtol=0, atol=tolerance)
    for name, gradient in outcome.gradients():
        assert np.isfinite(gradient).all(), name


@pytest.mark.parametrize("make", [rc.MinGRU, rc.MinLSTM])
def test_the_positive_form_stays_positive(make: Any) -> None:
    x = np.random.default_rng(0).standard_normal((3, 200, 8)).astype(np.float32)
    y, _ = make(8, 24, positive=True, bidirectional=True, seed=0)(x)
    assert (y > 0).all()
    y, _ = make(8, 24, bidirectional=True, seed=0)(x)
    assert (y < 0).any()


def test_there_are_no_weights_of_the_state() -> None:
    layer = rc.MinLSTM(3, 5, 2, bidirectional=True)
    shapes = {name: layer.params[name].shape for name in layer.params}
    expected: dict[str, tuple[int, ...]] = {}
    for k, features in enumerate((3, 10)):
        for end in ("", "_reverse"):
            expected |= {f"weight_ih_l{k}{end}": (15, features), f"bias_ih_l{k}{end}": (15,)}
    assert shapes == expected


@pytest.mark.parametrize("cell", SCANS)
def test_without_an_initial_state_nothing_is_read(cell: str) -> None:
    """A reset at the first step drops the state, NaN and all."""
    problem = draw(Case(cell, 3, 17, 4, 6, resets=True))
    assert problem.reset is not None
    assert problem.state is not None
    problem.reset[:, 0] = True
    clean = solve(problem, "float32")
    spoilt = tuple(np.full_like(part, np.nan) for part in problem.state)
    assert_same_outcome(solve(replace(problem, state=spoilt), "float32"), clean)
