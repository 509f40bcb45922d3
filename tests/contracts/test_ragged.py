"""Contract 4: lengths and resets, forwards and backwards; padding and other rows' NaN reach nobody."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from cell_cases import Case, Problem, draw
from cell_runs import assert_same_outcome, forward, pack, solve, solver, unpack
from cell_variants import CELLS
from polling import polls

pytestmark = pytest.mark.every_isa

LENGTHS = {
    "rising": [0, 1, 2, 5, 8, 9, 9],
    "falling": [9, 9, 7, 3, 1, 0, 0],
    "mixed": [4, 9, 0, 1, 9, 2, 7],
    "none full": [3, 0, 5, 5, 1, 0, 2],
    "all empty": [0] * 7,
}


def ragged(cell: str, lengths: list[int], **options: bool) -> Problem:
    """A problem with these lengths; numbers past them are ordinary ones."""
    problem = draw(Case(cell, 3, 17, len(lengths), 9, 2, **options))
    return replace(problem, lengths=np.array(lengths))


def with_padding(problem: Problem, value: float) -> Problem:
    valid = problem.valid()[:, :, None]
    return replace(problem, x=np.where(valid, problem.x, value), dy=np.where(valid, problem.dy, value))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("cell", CELLS)
def test_what_a_length_means(cell: str, lengths: list[int], bidirectional: bool) -> None:
    problem = ragged(cell, lengths, bidirectional=bidirectional)
    outcome = solve(problem, "float32")
    padding = ~problem.valid()
    assert not outcome.y[padding].any()
    assert not outcome.dx[padding].any()
    assert problem.state is not None
    units = problem.case.units
    last_layer = outcome.state[0][-2 if bidirectional else -1 :]
    for row, length in enumerate(lengths):
        if length == 0:
            for part, initial in zip(outcome.state, problem.state, strict=True):
                assert_same_bits(part[:, row], initial[:, row].astype("float32"), "the initial state")
            for gradient, upstream in zip(outcome.dstate, problem.dstate, strict=True):
                assert_same_bits(gradient[:, row], upstream[:, row].astype("float32"), "its gradient passes through")
        else:
            assert_same_bits(last_layer[0, row], outcome.y[row, length - 1, :units], "h_n is the last valid output")
            if bidirectional:
                assert_same_bits(last_layer[1, row], outcome.y[row, 0, units:], "the reverse direction ends at step 0")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("cell", CELLS)
def test_padding_is_never_read(cell: str, lengths: list[int], dtype: str) -> None:
    """NaN or infinity there changes no bit: outputs, dx, dstate, dW."""
    problem = ragged(cell, lengths, bidirectional=True, resets=True)
    expected = solve(with_padding(problem, 0.0), dtype)
    for value in (np.nan, np.inf):
        assert_same_outcome(solve(with_padding(problem, value), dtype), expected)
    assert all(np.isfinite(array).all() for _, array in expected.arrays())
    assert problem.reset is not None
    assert_same_outcome(solve(replace(problem, reset=problem.reset | ~problem.valid()), dtype), expected)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64])
def test_lengths_of_any_integer_type(kind: type) -> None:
    problem = ragged("lstm", LENGTHS["mixed"])
    lengths = np.array(LENGTHS["mixed"], kind)
    assert_same_outcome(solve(replace(problem, lengths=lengths), "float32"), solve(problem, "float32"))
    y, _ = solver(problem, "float32")(problem.x.astype("float32"), lengths=LENGTHS["mixed"])
    assert_same_bits(y, forward(replace(problem, state=None), "float32")[0], "a list will do")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("victim", [0, 3, 6])
@pytest.mark.parametrize("cell", CELLS)
def test_a_nan_stays_in_its_row(cell: str, victim: int, dtype: str) -> None:
    """Every other row keeps its bits; the sick row and the sums over rows are NaN, not hidden."""
    problem = draw(Case(cell, 3, 24, 7, 9, 2, bidirectional=True, resets=True))
    layer = solver(problem, dtype)
    expected = solve(problem, dtype, layer)
    sick = replace(problem, x=problem.x.copy())
    sick.x[victim, 4] = np.nan
    actual = solve(sick, dtype, layer)
    others = np.arange(7) != victim
    assert_same_bits(actual.y[others], expected.y[others], "y")
    assert_same_bits(actual.dx[others], expected.dx[others], "dx")
    for one, other in zip(actual.state + actual.dstate, expected.state + expected.dstate, strict=True):
        assert_same_bits(one[:, others], other[:, others], "state")
    assert np.isnan(actual.y[victim, 4]).all()
    assert np.isnan(actual.grads["weight_ih_l0"]).any()
    # The same row with no valid step has no share in anything.
    lengths = np.where(others, 9, 0)
    assert_same_outcome(
        solve(replace(sick, lengths=lengths), dtype, layer), solve(replace(problem, lengths=lengths), dtype, layer)
    )


def split(
    problem: Problem, bounds: list[int]
) -> tuple[Array, tuple[Array, ...], Array, tuple[Array, ...], dict[str, Array]]:
    """A one-row, one-layer problem cut at `bounds` by hand: each part starts from zero, in both directions.

    -> y, final state, dx, gradient of the initial state, parameter gradients, as one call with resets should have them.
    """
    layer = solver(problem, "float64")
    zeros = tuple(np.zeros_like(part) for part in problem.dstate)
    assert problem.state is not None
    parts = list(pairwise(bounds))
    y, dx, last = np.zeros_like(problem.dy), np.zeros_like(problem.x), len(parts) - 1
    final, dinitial = [part.copy() for part in zeros], [part.copy() for part in zeros]
    layer.zero_grad()
    for k, (begin, end) in enumerate(parts):
        # The forward direction enters the first part with the initial state, the reverse one the last part; each leaves
        # its final state at the other end.
        enters, leaves = np.array([k == 0, k == last]), np.array([k == last, k == 0])
        directions = problem.case.slots
        initial = tuple(np.where(enters[:directions, None, None], part, 0.0) for part in problem.state)
        upstream = tuple(np.where(leaves[:directions, None, None], part, 0.0) for part in problem.dstate)
        tape = layer.record(problem.x[:, begin:end], state=pack(initial, "float64"), training=False)
        y[:, begin:end] = tape.y
        state = unpack(tape.state)
        dx[:, begin:end], dstate = tape.backward(problem.dy[:, begin:end], pack(upstream, "float64"))
        for p, (value, gradient) in enumerate(zip(state, unpack(dstate), strict=True)):
            final[p][leaves[:directions]] = value[leaves[:directions]]
            dinitial[p][enters[:directions]] = gradient[enters[:directions]]
    return y, tuple(final), dx, tuple(dinitial), {name: layer.grads[name].copy() for name in problem.params}


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bounds", [[0, 4, 9], [0, 1, 8, 9], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]], ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_a_reset_is_the_start_of_another_sequence(cell: str, bounds: list[int], bidirectional: bool) -> None:
    problem = draw(Case(cell, 3, 17, 1, 9, bidirectional=bidirectional))
    reset = np.zeros((1, 9), bool)
    reset[0, bounds[1:-1]] = True
    y, state, dx, dstate, grads = split(problem, bounds)
    outcome = solve(replace(problem, reset=reset), "float64")
    assert_same_bits(outcome.y, y)
    assert_same_bits(outcome.dx, dx)
    for one, other in zip(outcome.state + outcome.dstate, state + dstate, strict=True):
        assert_same_bits(one, other)
    for name, gradient in grads.items():  # the same terms, added part by part: bits may differ
        np.testing.assert_allclose(outcome.grads[name], gradient, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("cell", CELLS)
def test_a_reset_at_the_first_step_drops_the_initial_state(cell: str) -> None:
    """In the forward direction; the reverse one begins at the other end."""
    problem = draw(Case(cell, 3, 17, 4, 9, bidirectional=True))
    reset = np.zeros((4, 9), bool)
    reset[1, 0] = True
    outcome = solve(replace(problem, reset=reset), "float32")
    assert problem.state is not None
    dropped = tuple(part.copy() for part in problem.state)
    for part in dropped:
        part[0, 1] = 0.0
    expected = solve(replace(problem, state=dropped), "float32")
    assert_same_bits(outcome.y, expected.y)
    for gradient, without in zip(outcome.dstate, expected.dstate, strict=True):
        assert not gradient[0, 1].any()
        assert_same_bits(gradient[1], without[1])


@pytest.mark.parametrize("cell", CELLS)
def test_work_is_proportional_to_the_sum_of_lengths(cell: str) -> None:
    """One row in 64 is long. Kernels look at the clock, a poll, after equal amounts of work."""
    case = Case(cell, 32, 64, 64, 200, 2, state=False)
    problem = draw(case)
    layer = solver(problem, "float32")
    x = problem.x.astype("float32")
    rc.set_num_threads(1)
    lengths = np.ones(64, int)
    lengths[17] = 200

    whole, ragged = polls(lambda: layer(x)), polls(lambda: layer(x, lengths=lengths))
    assert whole >= 50
    assert ragged <= whole * 263 / 12800 + 4  # steps of rows; and polls between the parts of a call


@pytest.mark.parametrize("dtype", DTYPES)
def test_dense_and_embedding_honour_lengths(dtype: str) -> None:
    """Layers without steps: outputs and input gradients past a length are 0, and padding has no share in dW."""
    rng = np.random.default_rng(2)
    lengths = np.array([3, 0, 7, 5])
    valid = np.arange(7) < lengths[:, None]
    linear = rc.Linear(5, 17, dtype=dtype, seed=0)
    x, dy = rng.standard_normal((4, 7, 5)).astype(dtype), rng.standard_normal((4, 7, 17)).astype(dtype)
    results = []
    for value in (0.0, np.nan):
        linear.zero_grad()
        tape = linear.record(np.where(valid[:, :, None], x, value).astype(dtype), lengths=lengths)
        dx, _ = tape.backward(np.where(valid[:, :, None], dy, value).astype(dtype))
        results.append([tape.y, dx, linear.grads["weight"].copy(), linear.grads["bias"].copy()])
    for one, other in zip(*results, strict=True):
        assert_same_bits(one, other)
    assert not results[0][0][~valid].any()
    assert not results[0][1][~valid].any()
    embedding = rc.Embedding(11, 17, dtype=dtype, seed=0)
    tokens = np.where(valid, rng.integers(0, 11, (4, 7)), 10**9)  # no token at all: padding is never read
    tape = embedding.record(tokens, lengths=lengths)
    assert not tape.y[~valid].any()
    tape.backward(np.where(valid[:, :, None], dy, np.nan).astype(dtype))
    assert np.isfinite(embedding.grads["weight"]).all()
    counts = np.bincount(tokens[valid], minlength=11)
    assert not embedding.grads["weight"][counts == 0].any()
