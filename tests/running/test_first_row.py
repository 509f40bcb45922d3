"""Rows that are a part of a larger batch have the masks, and so all bits, that they have there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import Array
from cell_cases import Case, Problem, draw, take
from cell_runs import inputs, make_layer, pack, solver, unpack
from cell_variants import VARIANTS
from user_layers import Scale

RANDOM = [name for name, variant in VARIANTS.items() if variant.random]


def case(index: int, cell: str) -> Problem:
    """A case of any raggedness, resets and directions; with one layer or two, and dropout between these."""
    rng = np.random.default_rng(index)
    layers, both, ragged, resets = (bool(one) for one in rng.integers(0, 2, 4))
    return draw(Case(cell, 3, int(rng.integers(1, 40)), 8, 9, 1 + layers, both, ragged, resets, seed=index))


def run(problem: Problem, dtype: str, layer: Any, first_row: int, **options: Any) -> list[Array]:
    """The output, the state, and the gradients of the input and of the state, rows first."""
    tape = layer.record(
        problem.x.astype(dtype), **inputs(problem, dtype), seed=problem.case.seed, first_row=first_row, **options
    )
    y, state = tape.y.copy(), [one.copy() for one in unpack(tape.state)]
    dx, dstate = tape.backward(problem.dy.astype(dtype), pack(problem.dstate, dtype))
    return [y, dx, *(np.swapaxes(one, 0, 1) for one in (*state, *unpack(dstate)))]


def assert_parts(problem: Problem, dtype: str, layer: Any, **options: Any) -> None:
    whole = run(problem, dtype, layer, 0)
    for begin, end in ((0, 3), (3, 8), (4, 8), (7, 8)):
        part = run(take(problem, range(begin, end)), dtype, layer, begin, **options)
        for one, other in zip(part, whole, strict=True):
            assert_same_bits(one, other[begin:end])
    other_masks = run(take(problem, range(4, 8)), dtype, layer, 0)[0]
    assert not np.array_equal(np.nan_to_num(other_masks), np.nan_to_num(whole[0][4:8]))


@pytest.mark.every_isa
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", RANDOM)
def test_random_options(cell: str, dtype: str) -> None:
    for index in range(4):
        problem = case(index, cell)
        assert_parts(problem, dtype, solver(problem, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dropout_between_layers_and_a_tape_that_recomputes(dtype: str) -> None:
    problem = draw(Case("lstm", 3, 17, 8, 33, 2, bidirectional=True, ragged=True, resets=True))
    layer = make_layer(problem.case, dtype, dropout=0.4)
    least = 0
    try:
        layer.record(problem.x.astype(dtype), **inputs(problem, dtype), memory_budget=0)
    except ValueError as error:
        least = int(str(error).split("at least ")[1].split()[0])
    assert_parts(problem, dtype, layer, memory_budget=least)


def test_models() -> None:
    """Dropout layers, each with a stream of its own."""
    model = rc.Sequential(
        rc.Dropout(0.3), rc.GRU(4, 6, zoneout=0.2, recurrent_dropout=0.2), rc.Dropout(0.5), rc.Linear(6, 2), seed=0
    )
    x = np.random.default_rng(1).standard_normal((8, 5, 4)).astype("float32")
    whole = model.record(x, seed=3)
    part = model.record(x[4:], seed=3, first_row=4)
    assert_same_bits(part.y, whole.y[4:])
    dy = np.ones((8, 5, 2), "float32")
    assert_same_bits(part.backward(dy[4:])[0], whole.backward(dy)[0][4:])
    assert_same_bits(model.record(x, seed=3, training=False, first_row=4).y, model(x)[0])


def test_layers_in_python_draw_other_numbers_for_each_part() -> None:
    class Noise(Scale):
        def forward(self, x: Array, *, lengths: Any, training: bool, rng: np.random.Generator) -> tuple[Array, Any]:
            return x + rng.standard_normal(x.shape).astype(x.dtype), x

    layer, x = Noise(3), np.zeros((2, 4, 3), "float32")
    first, again, second = (layer.record(x, seed=1, first_row=row).y for row in (2, 2, 4))
    assert_same_bits(first, again)
    assert not np.array_equal(first, second)
    assert_same_bits(layer.record(x, seed=1).y, layer.record(x, seed=1, first_row=0).y)


def test_what_is_refused() -> None:
    layer, x = rc.GRU(3, 4), np.zeros((2, 4, 3), "float32")
    for wrong in (-1, 1.5, "a"):
        with pytest.raises((ValueError, TypeError), match=r"^GRU.record: got first_row="):
            layer.record(x, first_row=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^GRU: first_row is 2147483647, expected 0 to 2147483646 for 2 rows"):
        layer.record(x, first_row=2**31 - 1)
