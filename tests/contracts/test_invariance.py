"""Contract 3: the bits of a row depend on the row alone; those of a parameter's gradient not on the threads."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from cell_cases import Case, Problem, draw, pad, take
from cell_runs import Outcome, assert_same_outcome, make_layer, solve, solver, unpack
from cell_variants import CELLS

pytestmark = pytest.mark.every_isa

# (input, hidden, steps, layers, bidirectional); 150 steps are more than one block of the backward pass
SIZES = [(1, 5, 7, 1, False), (20, 24, 9, 2, True), (3, 67, 5, 1, True), (3, 17, 150, 1, False)]


def assert_same_rows(actual: Outcome, expected: Outcome, rows: Any, steps: int) -> None:
    """`actual` has the bits that `expected` has for its `rows`, in their first `steps`."""
    assert_same_bits(actual.y[:, :steps], expected.y[rows, :steps], "y")
    assert_same_bits(actual.dx[:, :steps], expected.dx[rows, :steps], "dx")
    for one, other in zip(actual.state + actual.dstate, expected.state + expected.dstate, strict=True):
        assert_same_bits(one, other[:, rows], "state")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_rows_know_nothing_of_their_batch(cell: str, size: tuple[Any, ...], dtype: str) -> None:
    inputs, hidden, steps, layers, bidirectional = size
    problem = draw(Case(cell, inputs, hidden, 33, steps, layers, bidirectional, ragged=True, resets=True, seed=5))
    layer = solver(problem, dtype)
    whole = solve(problem, dtype, layer)
    rng = np.random.default_rng(1)
    # Batches of every height a tile may have, in any order; all rows permuted; each of some rows alone.
    batches = [rng.permutation(33)[:count] for count in (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 17, 31, 33)]
    for rows in batches:
        assert_same_rows(solve(take(problem, rows), dtype, layer), whole, rows, steps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_a_row_alone_and_cut_to_its_length(cell: str, dtype: str) -> None:
    problem = draw(Case(cell, 3, 24, 7, 33, 2, bidirectional=True, ragged=True, resets=True))
    layer = solver(problem, dtype)
    whole = solve(problem, dtype, layer)
    assert problem.lengths is not None
    assert problem.reset is not None
    for row, length in enumerate(problem.lengths):
        one = take(problem, [row])
        cut = Problem(
            replace(one.case, steps=int(length), ragged=False),
            one.params,
            one.x[:, :length],
            one.dy[:, :length],
            None,
            problem.reset[[row], :length],
            one.state,
            one.dstate,
        )
        assert_same_rows(solve(cut, dtype, layer), whole, [row], int(length))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_padding_changes_nothing(cell: str, ragged: bool, dtype: str) -> None:
    problem = draw(Case(cell, 3, 17, 7, 33, 2, bidirectional=True, ragged=ragged, resets=True))
    layer = solver(problem, dtype)
    padded = solve(pad(problem, 29), dtype, layer)
    assert_same_rows(padded, solve(problem, dtype, layer), slice(None), 33)
    assert not padded.y[:, 33:].any()
    assert not padded.dx[:, 33:].any()


def chunks(steps: int, sizes: list[int]) -> list[slice]:
    bounds = np.minimum(np.cumsum([0, *sizes]), steps)
    return [slice(a, b) for a, b in pairwise(bounds)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 3, 13])
@pytest.mark.parametrize("cell", CELLS)
def test_in_chunks_through_a_stream(cell: str, rows: int, dtype: str) -> None:
    problem = draw(Case(cell, 20, 45, rows, 150, 2, resets=True, state=False))
    layer = solver(problem, dtype)
    x, reset = problem.x.astype(dtype), problem.reset
    assert reset is not None
    whole, state = layer(x, reset=reset)
    for sizes in ([150], [1] * 150, [1, 2, 0, 3, 64, 7, 33, 1, 39]):
        stream = layer.stream(batch_size=rows)
        pieces = [stream.process(x[:, part], reset=reset[:, part]) for part in chunks(150, sizes)]
        assert_same_bits(np.concatenate(pieces, axis=1), whole, f"chunks of {sizes[:9]}")
        for one, other in zip(unpack(stream.state()), unpack(state), strict=True):
            assert_same_bits(one, other, "state")
    stream = layer.stream(batch_size=rows)
    steps = [stream.step(x[:, t], reset=reset[:, t]) for t in range(150)]
    assert_same_bits(np.stack(steps, axis=1), whole, "steps")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_in_chunks_by_handing_the_state_on(cell: str, dtype: str) -> None:
    problem = draw(Case(cell, 3, 24, 7, 40, 2, state=False))
    layer = solver(problem, dtype)
    x = problem.x.astype(dtype)
    whole, _ = layer(x)
    state, pieces = None, []
    for part in chunks(40, [13, 1, 26]):
        y, state = layer(x[:, part], state=state)
        pieces.append(y)
    assert_same_bits(np.concatenate(pieces, axis=1), whole)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_threads_change_no_bit(cell: str, dtype: str) -> None:
    """Big enough that threads are used: a few hundred million operations per direction."""
    plain = draw(Case(cell, 32, 64, 64, 100))
    ragged = draw(Case(cell, 32, 33, 37, 60, 2, bidirectional=True, ragged=True, resets=True))
    for problem in (plain, ragged):
        layer = solver(problem, dtype)
        rc.set_num_threads(1)
        expected = solve(problem, dtype, layer)
        for threads in (2, 3, 7):
            rc.set_num_threads(threads)
            assert_same_outcome(solve(problem, dtype, layer), expected)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_call_twice(threads: int) -> None:
    rc.set_num_threads(threads)
    problem = draw(Case("lstm", 32, 64, 64, 100, ragged=True))
    layer = solver(problem, "float32")
    assert_same_outcome(solve(problem, "float32", layer), solve(problem, "float32", layer))


def recorded(layer: Any, x: Array, **options: Any) -> tuple[Array, Array]:
    """Outputs and input gradients of a layer with dropout."""
    tape = layer.record(x, seed=11, **options)
    y = tape.y.copy()
    dx, _ = tape.backward(np.ones_like(y))
    return y, dx


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_dropout_masks_depend_on_seed_layer_row_and_step_alone(cell: str, dtype: str) -> None:
    case = Case(cell, 20, 33, 37, 40, 3, bidirectional=True)
    layer = make_layer(case, dtype, dropout=0.4)
    x = draw(case).x.astype(dtype)
    rc.set_num_threads(1)
    y, dx = recorded(layer, x)
    rc.set_num_threads(2)
    for threaded, single in zip(recorded(layer, x), (y, dx), strict=True):
        assert_same_bits(threaded, single, "threads")
    for few, many in zip(recorded(layer, x[:5]), (y, dx), strict=True):
        assert_same_bits(few, many[:5], "fewer rows")
    padded = np.concatenate([x, np.full((37, 9, 20), np.nan, dtype)], axis=1)
    for longer, exact in zip(recorded(layer, padded, lengths=np.full(37, 40)), (y, dx), strict=True):
        assert_same_bits(longer[:, :40], exact, "padding")
    again, _ = recorded(layer, np.repeat(x[:1], 2, axis=0))
    assert not np.array_equal(again[0], again[1]), "two rows with the same numbers have masks of their own"


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_whole_model(dtype: str) -> None:
    """Embedding, stack and dense layer together: rows, padding, chunks and threads."""
    model = rc.Sequential(
        rc.Embedding(50, 20, dtype=dtype), rc.GRU(20, 33, 2, dtype=dtype), rc.Linear(33, 50, dtype=dtype)
    )
    tokens = np.random.default_rng(0).integers(0, 50, (33, 40))
    rc.set_num_threads(1)
    whole, _ = model(tokens)
    for rows in (slice(0, 1), slice(3, 7), slice(5, 18), slice(None, None, -1)):
        assert_same_bits(model(np.ascontiguousarray(tokens[rows]))[0], np.ascontiguousarray(whole[rows]), str(rows))
    padded = np.concatenate([tokens, np.full((33, 7), -1)], axis=1)  # not a token: padding is never read
    assert_same_bits(model(padded, lengths=np.full(33, 40))[0][:, :40], whole, "padding")
    stream = model.stream(batch_size=33)
    pieces = [stream.process(tokens[:, part]) for part in chunks(40, [1, 20, 19])]
    assert_same_bits(np.concatenate(pieces, axis=1), whole, "chunks")
    stream.reset()
    steps = [stream.step(tokens[:, t]) for t in range(40)]
    assert_same_bits(np.stack(steps, axis=1), whole, "steps")
    dy = np.random.default_rng(1).standard_normal(whole.shape).astype(dtype)
    gradients = []
    for threads in (1, 2, 3):
        rc.set_num_threads(threads)
        model.zero_grad()
        tape = model.record(tokens, lengths=np.arange(8, 41), seed=0)
        tape.backward(dy)
        gradients.append([tape.y, *(layer.grads[name].copy() for layer in model.layers for name in layer.grads)])
    for other in gradients[1:]:
        for one, expected in zip(other, gradients[0], strict=True):
            assert_same_bits(one, expected, "threads")
