"""Contract 8, tapes: a recorded forward owns its memory, works once, and never over changed weights."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import Array
from cell_cases import Case, draw
from cell_runs import assert_same_outcome, inputs, make_layer, pack, solve, solver, unpack
from cell_variants import CELLS
from weights import layer_with_whole_gradients

PROBLEM = draw(Case("lstm", 3, 17, 5, 9, 2, bidirectional=True, ragged=True, resets=True))


def record(layer: Any) -> Any:
    return layer.record(PROBLEM.x.astype("float32"), **inputs(PROBLEM, "float32"))


def backward(tape: Any) -> Any:
    return tape.backward(PROBLEM.dy.astype("float32"), pack(PROBLEM.dstate, "float32"))


def test_a_tape_works_once() -> None:
    tape = record(solver(PROBLEM, "float32"))
    y = tape.y.copy()
    backward(tape)
    with pytest.raises(ValueError, match=r"^LSTM.*once.*record again"):
        backward(tape)
    assert_same_bits(tape.y, y, "its outputs stay")


def test_a_refused_backward_leaves_the_tape_whole() -> None:
    """A wrong argument is found before anything happens."""
    layer = solver(PROBLEM, "float32")
    tape = record(layer)
    with pytest.raises(TypeError, match="expected"):
        tape.backward(PROBLEM.dy.astype(complex))
    with pytest.raises(ValueError, match="expected"):
        tape.backward(PROBLEM.dy[:, :-1].astype("float32"))
    assert not any(layer.grads[name].any() for name in layer.grads)
    backward(tape)


def test_two_tapes_at_once_in_either_order() -> None:
    """Each gives what it would have given alone; x may be overwritten once it is recorded."""
    expected = solve(PROBLEM, "float32")
    layer = solver(PROBLEM, "float32")
    x = PROBLEM.x.astype("float32")
    first = layer.record(x, **inputs(PROBLEM, "float32"))
    x[...] = 0.125
    second = layer.record(x, **inputs(PROBLEM, "float32"))
    backward(second)
    layer.zero_grad()
    dx, dstate = backward(first)
    assert_same_bits(dx, expected.dx)
    for one, other in zip(unpack(dstate), expected.dstate, strict=True):
        assert_same_bits(one, other)
    for name, gradient in expected.grads.items():
        assert_same_bits(layer.grads[name], gradient, name)


def test_tapes_on_two_threads() -> None:
    """Recorded here, run backwards on other threads at the same time: the inputs' gradients are the same bits."""
    expected = solve(PROBLEM, "float32")
    layer = solver(PROBLEM, "float32")
    tapes, barrier = [record(layer) for _ in range(2)], Barrier(2)

    def run(tape: Any) -> Any:
        barrier.wait(10)
        return backward(tape)

    with ThreadPoolExecutor(2) as pool:
        for dx, _ in pool.map(run, tapes):
            assert_same_bits(dx, expected.dx)


def test_concurrent_backward_passes_lose_nothing() -> None:
    """Gradients that are small integers add up exactly in any order."""
    layer, x, dy = layer_with_whole_gradients()
    barrier = Barrier(8)

    def run(_: int) -> None:
        barrier.wait(10)
        for _ in range(50):
            layer.record(x).backward(dy)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))
    assert (layer.grads["weight_ih_l0"] == 8 * 50 * 16).all()
    assert (layer.grads["bias_hh_l0"] == 8 * 50 * 16).all()


def test_one_tape_on_two_threads_works_once() -> None:
    layer = solver(PROBLEM, "float32")
    once = solve(PROBLEM, "float32")
    for _ in range(20):
        layer.zero_grad()
        tape, barrier = record(layer), Barrier(2)

        def run(_: int, tape: Any = tape, barrier: Barrier = barrier) -> bool:
            barrier.wait(10)
            try:
                backward(tape)
            except ValueError:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(run, range(2))) == [False, True]
        for name, gradient in once.grads.items():
            assert_same_bits(layer.grads[name], gradient, name)


def assign(layer: Any) -> None:
    layer.params["bias_ih_l0"] = layer.params["bias_ih_l0"]


def edit(layer: Any) -> None:
    with layer.edit():
        pass


def step(layer: Any) -> None:
    rc.optim.Adam(1e-3).step(layer)


@pytest.mark.parametrize("change", [assign, edit, step])
def test_changed_weights_are_refused(change: Any) -> None:
    layer = solver(PROBLEM, "float32")
    tape = record(layer)
    change(layer)
    before = {name: layer.grads[name].copy() for name in layer.grads}
    with pytest.raises(ValueError, match=r"^LSTM.*changed.*record again"):
        backward(tape)
    for name, gradient in before.items():
        assert_same_bits(layer.grads[name], gradient, name)
    backward(record(layer))


def test_changed_weights_of_one_layer_of_a_model_are_refused() -> None:
    model = rc.Sequential(rc.GRU(3, 5), rc.Linear(5, 2))
    tape = model.record(np.ones((2, 3, 3), np.float32))
    model.layers[1].params["bias"] = np.ones(2, np.float32)
    with pytest.raises(ValueError, match=r"^Sequential.*changed.*record again"):
        tape.backward(np.ones_like(tape.y))
    assert not model.layers[0].grads["weight_ih_l0"].any()


def test_zero_grad_between_is_fine() -> None:
    layer = solver(PROBLEM, "float32")
    tape = record(layer)
    layer.grads["bias_ih_l0"][...] = 5.0
    layer.zero_grad()
    backward(tape)
    for name, gradient in solve(PROBLEM, "float32").grads.items():
        assert_same_bits(layer.grads[name], gradient, name)


def test_nbytes_says_the_size() -> None:
    layer = rc.LSTM(8, 32)
    sizes = [layer.record(np.ones((16, steps, 8), np.float32)).nbytes for steps in (100, 200)]
    outputs = 16 * 100 * 32 * 4
    assert sizes[0] >= 5 * outputs, "the outputs, and four gates and a cell"
    assert sizes[1] > 1.8 * sizes[0]
    tape = layer.record(np.ones((16, 100, 8), np.float32))
    tape.close()
    assert tape.closed
    assert tape.nbytes < sizes[0] / 2


def test_close() -> None:
    tape = record(solver(PROBLEM, "float32"))
    y = tape.y
    kept = y.copy()
    assert not tape.closed
    tape.close()
    tape.close()
    assert tape.closed
    with pytest.raises(ValueError, match=r"^LSTM.*closed.*record again"):
        backward(tape)
    del tape
    gc.collect()
    assert_same_bits(y, kept, "outputs live as long as somebody holds them")


def test_outputs_are_read_only() -> None:
    """They are what the backward pass will read."""
    tape = record(solver(PROBLEM, "float32"))
    with pytest.raises(ValueError, match="read-only"):
        tape.y[0, 0, 0] = 1.0


def test_a_tape_outlives_its_layer() -> None:
    expected = solve(PROBLEM, "float32")
    tape = record(solver(PROBLEM, "float32"))
    gc.collect()
    dx, _ = backward(tape)
    assert_same_bits(dx, expected.dx)


@pytest.mark.parametrize("cell", CELLS)
def test_memory_is_given_back(cell: str) -> None:
    """60 tapes of megabytes each, whether used, closed or forgotten, leave no dozens of them behind."""
    layer = make_layer(Case(cell, 8, 64))
    x = np.ones((16, 100, 8), np.float32)

    def resident() -> int:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * 4096

    def use(k: int) -> None:
        tape = layer.record(x)
        if k % 3 == 0:
            tape.backward(np.ones_like(tape.y))
        elif k % 3 == 1:
            tape.close()

    for k in range(12):
        use(k)
    before = resident()
    for k in range(60):
        use(k)
    assert resident() - before < 20e6


def dropped(layer: Any, x: Array, **options: Any) -> Array:
    y: Array = layer.record(x, **options).y
    return y


@pytest.mark.parametrize("cell", CELLS)
def test_dropout_and_its_seed(cell: str) -> None:
    """The same seed, the same masks; no seed, fresh ones; none at all outside training."""
    case = Case(cell, 3, 17, 5, 9, 2)
    x, layer = draw(case).x.astype("float32"), make_layer(case, dropout=0.5)
    assert_same_bits(dropped(layer, x, seed=3), dropped(layer, x, seed=3))
    assert not np.array_equal(dropped(layer, x, seed=3), dropped(layer, x, seed=4))
    assert not np.array_equal(dropped(layer, x), dropped(layer, x))
    assert_same_bits(dropped(layer, x, training=False), layer(x)[0])


def test_a_layers_outcome_does_not_depend_on_its_history() -> None:
    layer = solver(PROBLEM, "float32")
    first = solve(PROBLEM, "float32", layer)
    solve(draw(Case("lstm", 3, 17, 2, 40, 2, bidirectional=True)), "float32", layer)
    assert_same_outcome(solve(PROBLEM, "float32", layer), first)
