"""Cells that users define keep what the built-in ones keep: values, gradients, bits, ragged batches, streams."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from cell_cases import Problem, draw, pad, take
from cell_runs import Outcome, assert_same_outcome, forward, inputs, pack, solve, unpack
from own_cells import TEXTS, OwnCase, load, specified
from single_thread import central_difference

pytestmark = pytest.mark.every_isa

# (input, hidden, rows, steps, layers, bidirectional); SRU's x has as many features as there are units.
SIZES = [(1, 1, 1, 1, 1, False), (3, 5, 3, 6, 2, True), (20, 17, 7, 9, 1, True), (3, 45, 2, 33, 2, False)]
CASES = [(cell, size) for cell in TEXTS for size in SIZES if cell != "SRU" or not (size[4] > 1 and size[5])]


def problem_of(cell: str, size: tuple[Any, ...], plain: bool = False, rows: int | None = None) -> Problem:
    inputs, hidden, own_rows, steps, layers, bidirectional = size
    inputs = hidden if cell == "SRU" else inputs
    flags = {"ragged": not plain, "resets": not plain, "state": not plain}
    return draw(OwnCase(cell, inputs, hidden, rows or own_rows, steps, layers, bidirectional, **flags, seed=2))


def long(cell: str, rows: int = 13) -> Problem:
    """More than one block of a backward."""
    return problem_of(cell, (3, 24, rows, 150, 1, False))


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize(("cell", "size"), CASES, ids=str)
def test_values_are_the_specification_s(cell: str, size: tuple[Any, ...], plain: bool) -> None:
    problem = problem_of(cell, size, plain)
    expected, states = specified(problem, problem.params)
    for dtype, bound in (("float64", 1e-12), ("float32", 2e-5)):
        layer = load(problem, dtype)
        y, final = forward(problem, dtype, layer)
        outcome = solve(problem, dtype, layer)
        assert_same_bits(outcome.y, y)
        for one, other in zip((y, *final), (expected, *states), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=bound * max(1.0, np.abs(other).max()))


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize(("cell", "size"), CASES, ids=str)
def test_gradients_are_central_differences(cell: str, size: tuple[Any, ...], plain: bool) -> None:
    problem = problem_of(cell, size, plain)
    layer = load(problem, "float64")
    actual = dict(solve(problem, "float64", layer).gradients())

    def loss() -> float:
        y, state = layer(problem.x, **inputs(problem, "float64"))
        total = float(np.where(problem.valid()[:, :, None], y * problem.dy, 0.0).sum())
        pairs = zip(unpack(state), problem.dstate, strict=True)
        return total + sum(float((part * gradient).sum()) for part, gradient in pairs)

    variables = {"dx": problem.x, **problem.params}
    variables.update(zip(("dh_0", "dc_0"), problem.state or (), strict=False))
    rng = np.random.default_rng(0)
    for name, variable in variables.items():

        def value(name: str = name, variable: Array = variable) -> float:
            if name in problem.params:
                layer.params[name] = variable
            return loss()

        entries = rng.permutation(np.flatnonzero(~np.isnan(variable)))[:12]
        expected = central_difference(value, variable, entries)
        value()
        scale = max(1.0, np.abs(expected).max(initial=0.0))
        np.testing.assert_allclose(actual[name].flat[entries], expected, rtol=0, atol=1e-6 * scale, err_msg=name)


def assert_same_rows(actual: Outcome, expected: Outcome, rows: Any, steps: int) -> None:
    assert_same_bits(actual.y[:, :steps], expected.y[rows, :steps], "y")
    assert_same_bits(actual.dx[:, :steps], expected.dx[rows, :steps], "dx")
    for one, other in zip(actual.state + actual.dstate, expected.state + expected.dstate, strict=True):
        assert_same_bits(one, other[:, rows], "state")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", TEXTS)
def test_rows_know_nothing_of_their_batch(cell: str, dtype: str) -> None:
    problem = problem_of(cell, (3, 24, 1, 9, 1, True), rows=33)
    layer = load(problem, dtype)
    whole = solve(problem, dtype, layer)
    rng = np.random.default_rng(1)
    for count in (1, 2, 5, 8, 13, 33):
        rows = rng.permutation(33)[:count]
        assert_same_rows(solve(take(problem, rows), dtype, layer), whole, rows, 9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", TEXTS)
def test_padding_changes_nothing(cell: str, dtype: str) -> None:
    problem = problem_of(cell, (3, 17, 7, 33, 1, True))
    layer = load(problem, dtype)
    padded = solve(pad(problem, 29), dtype, layer)
    assert_same_rows(padded, solve(problem, dtype, layer), slice(None), 33)
    assert not padded.y[:, 33:].any()
    assert not padded.dx[:, 33:].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 13])
@pytest.mark.parametrize("cell", TEXTS)
def test_threads_change_no_bit(cell: str, rows: int, dtype: str) -> None:
    problem = long(cell, rows)
    layer = load(problem, dtype)
    before = rc.get_num_threads()
    try:
        rc.set_num_threads(1)
        expected = solve(problem, dtype, layer)
        for threads in (2, 3):
            rc.set_num_threads(threads)
            assert_same_outcome(solve(problem, dtype, layer), expected)
    finally:
        rc.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", TEXTS)
def test_a_stream_and_chunks_have_the_bits_of_a_call(cell: str, dtype: str) -> None:
    problem = problem_of(cell, (3, 17, 5, 12, 1, False), plain=True)
    layer, x = load(problem, dtype), problem.x.astype(dtype)
    y, state = layer(x)
    stream = layer.stream(5)
    assert_same_bits(np.stack([stream.step(x[:, t]) for t in range(12)], axis=1), y)
    parts, carried = [], None
    for begin, end in ((0, 1), (1, 8), (8, 12)):
        part, carried = layer(x[:, begin:end], carried)
        parts.append(part)
    assert_same_bits(np.concatenate(parts, axis=1), y)
    for one, other in zip(unpack(carried), unpack(state), strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("cell", TEXTS)
def test_a_tape_within_a_budget_and_in_the_caller_s_memory(cell: str) -> None:
    problem = long(cell)
    layer = load(problem, "float32")
    expected = solve(problem, "float32", layer)
    x, dy, given = problem.x.astype("f"), problem.dy.astype("f"), inputs(problem, "float32")

    def outcome(tape: Any) -> Outcome:
        y, state = tape.y, unpack(tape.state)
        dx, dstate = tape.backward(dy, pack(problem.dstate, "float32"))
        return Outcome(y, state, dx, unpack(dstate), {name: layer.grads[name].copy() for name in problem.params})

    with pytest.raises(ValueError, match=r"expected at least \d+") as error:
        layer.record(x, **given, memory_budget=0)
    least = int(str(error.value).split("expected at least ")[1].split()[0])
    layer.zero_grad()
    assert_same_outcome(outcome(layer.record(x, **given, memory_budget=least)), expected)
    memory = np.zeros(layer.tape_bytes(x.shape, problem.lengths, reset=True, state=True) + 64, np.uint8)
    memory = memory[-memory.ctypes.data % 64 :][: len(memory) - 64]
    layer.zero_grad()
    assert_same_outcome(outcome(layer.record(x, **given, memory=memory)), expected)
