"""The sizes of caches decide what is computed ahead and how far, and no bit of a result."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES
from cell_cases import Case, draw
from cell_runs import assert_same_outcome, forward, solve, solver
from cell_variants import CELLS
from recurra import _core

#: L1 and L2 of machines that this one need not be. Nothing fits the first one's caches, everything the last one's.
MACHINES = [(1 << 10, 4 << 10), (32 << 10, 256 << 10), (48 << 10, 2 << 20), (1 << 30, 1 << 40)]
pytestmark = pytest.mark.every_isa


@pytest.fixture(autouse=True)
def _caches() -> Iterator[None]:
    yield
    _core.set_caches(0, 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("seed", range(5))
def test_no_bit_depends_on_them(cell: str, seed: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)

    def one_of(*values: int) -> int:
        return int(rng.choice(values))

    rows, steps, layers = one_of(1, 2, 3, 4, 7, 8, 17, 32, 33), one_of(1, 2, 5, 30, 75), one_of(1, 2)
    inputs, hidden = one_of(1, 7, 8, 40, 150), one_of(1, 12, 33, 64, 100)
    both, ragged, resets = (bool(rng.integers(2)) for _option in range(3))
    problem = draw(Case(cell, inputs, hidden, rows, steps, layers, both, ragged, resets, seed=seed))
    layer = solver(problem, dtype)
    found = []
    for sizes in MACHINES:
        _core.set_caches(*sizes)
        found.append((forward(problem, dtype, layer)[0], solve(problem, dtype, layer)))
    for y, outcome in found[1:]:
        assert_same_bits(y, found[0][0])
        assert_same_outcome(outcome, found[0][1])


def test_streams_begun_for_one_machine_go_on_for_another() -> None:
    rng = np.random.default_rng(0)
    layer = rc.LSTM(40, 130, num_layers=2, seed=0)
    x = rng.standard_normal((2, 60, 40)).astype(np.float32)
    whole, _ = layer(x)
    stream = layer.stream(2)
    got = []
    for step in range(60):
        _core.set_caches(*MACHINES[step // 7 % len(MACHINES)])
        got.append(stream.step(x[:, step]).copy())
    assert_same_bits(np.stack(got, axis=1), whole)


def test_this_machine_has_caches() -> None:
    l1, l2 = _core.caches()
    assert 4 << 10 <= l1 <= l2
    _core.set_caches(1 << 10, 0)
    assert _core.caches() == (1 << 10, l2)
    with pytest.raises(ValueError, match="set_caches: got -1 and 0, expected bytes, from 0"):
        _core.set_caches(-1, 0)
