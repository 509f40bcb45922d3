"""Gradients in memory that the caller chose: the bits of the layer's own, which stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import layer_cases
import recurra as rc
from agreement import assert_same_bits
from array_types import Array
from cell_cases import Problem, draw, option_grid
from cell_runs import inputs, pack, solve, solver
from user_layers import Scale
from weights import layer_with_whole_gradients

PROBLEMS = [draw(case) for case in option_grid()[::3]]


def ids(problem: Problem) -> str:
    return f"{problem.case.cell}-{problem.case.num_layers}"


def assert_untouched(layer: Any) -> None:
    for name, gradient in layer.grads.items():
        assert not gradient.any(), name


def assert_same_grads(actual: Any, expected: Any) -> None:
    assert list(actual) == list(expected)
    for name, gradient in expected.items():
        assert_same_bits(actual[name], gradient, name)


def copies(grads: Any) -> dict[str, Array]:
    return {name: array.copy() for name, array in grads.items()}


def compare(model: Any, backward: Callable[[Any], Any]) -> Any:
    """Run backward(grads) into the model's own, then into chosen ones: the same bits. The chosen ones."""
    model.zero_grad()
    backward(None)
    expected = copies(model.grads)
    model.zero_grad()
    chosen = model.new_grads()
    backward(chosen)
    assert_same_grads(chosen, expected)
    assert_untouched(model)
    return chosen


@pytest.mark.parametrize("problem", PROBLEMS, ids=ids)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_recurrent_layers(problem: Problem, dtype: str) -> None:
    expected = solve(problem, dtype, training=True)
    layer = solver(problem, dtype)
    grads = layer.new_grads()
    tape = layer.record(problem.x.astype(dtype), **inputs(problem, dtype), seed=problem.case.seed)
    dx, _dstate = tape.backward(problem.dy.astype(dtype), pack(problem.dstate, dtype), grads=grads)
    assert_same_bits(dx, expected.dx)
    assert_same_grads(grads, expected.grads)
    assert_untouched(layer)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [name for name in layer_cases.NAMES if layer_cases.make(name, 6, "float32").params])
def test_other_layers(name: str, dtype: str) -> None:
    layer = layer_cases.make(name, 6, dtype)
    x = layer_cases.draw(name, (3, 9, 6)).astype(dtype)
    y, _state = layer(x)
    dy = np.random.default_rng(1).standard_normal(y.shape).astype(dtype)
    compare(layer, lambda grads: layer.record(x, lengths=[9, 0, 7]).backward(dy, grads=grads))


def shared_model(python: bool, sparse: bool) -> Any:
    """A model with a layer that is used twice, a loss with parameters, and perhaps a layer written in Python."""
    tokens = rc.Input(tokens=11)
    linear, crf = rc.Linear(6, 6, seed=2), rc.CRF(6, seed=4)
    values = linear(rc.Embedding(11, 6, sparse=sparse, seed=1)(tokens))
    if python:
        values = Scale(6)(values)
    return rc.Model(tokens, crf(linear(rc.LSTM(6, 6, seed=3)(values)))), crf


def backwards(model: Any, crf: Any, seed: int) -> Callable[[Any], Any]:
    rng = np.random.default_rng(seed)
    tokens, tags = rng.integers(0, 11, (4, 7)), rng.integers(0, 6, (4, 7))
    lengths = rng.integers(0, 8, 4)

    def run(grads: Any) -> Any:
        tape = model.record(tokens, lengths=lengths)
        loss = rc.losses.CRF(crf)(tape.y, tags, lengths)
        return tape.backward(loss.gradient, grads=grads)

    return run


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("python", [False, True])
def test_models(python: bool, sparse: bool) -> None:
    """Layers that are shared, sparse, written in Python, and the transitions of a CRF; then sums of two."""
    model, crf = shared_model(python, sparse)
    one, two = backwards(model, crf, 1), backwards(model, crf, 2)
    first = compare(model, one)
    second = compare(model, two)
    embedding = model.layers[0]
    name = next(iter(model.grads))
    reached = np.flatnonzero(first[name].any(1) | second[name].any(1))
    one(None)
    two(None)
    expected = copies(model.grads)
    model.zero_grad()
    third = model.new_grads()
    two(third)
    first.add(second)  # to others
    model.grads.add(first)  # to the model's own
    assert_same_grads(third, second)
    for key, gradient in expected.items():
        np.testing.assert_allclose(model.grads[key], gradient, rtol=1e-5, atol=1e-6)
        assert_same_bits(model.grads[key], first[key], key)
    if sparse:
        assert_same_bits(first.grad_rows(name), reached)
        assert_same_bits(embedding.grad_rows, reached)
        with pytest.raises(ValueError, match="sparse gradient"):
            first[name][0] = 1
        first[name] = np.eye(11, 6, -2, dtype="float32")
        assert_same_bits(first.grad_rows(name), np.arange(2, 8))
    first.zero()
    assert not any(array.any() for array in first.values())
    assert first.flat.size == sum(array.size for key, array in first.items() if not (sparse and key == name))


def test_an_accumulated_sum_has_the_bits_of_the_layers_own() -> None:
    model, crf = shared_model(False, True)
    runs = [backwards(model, crf, seed) for seed in range(3)]
    grads = model.new_grads()
    for run in runs:
        run(None)
        run(grads)
    assert_same_grads(grads, copies(model.grads))


def test_memory_of_the_callers() -> None:
    """What it holds stays; the arrays by name are its views."""
    layer = rc.GRU(3, 5, seed=0)
    x, dy = np.ones((2, 4, 3), "float32"), np.ones((2, 4, 5), "float32")
    layer.record(x).backward(dy)
    size = sum(array.size for array in layer.grads.values())
    whole = np.zeros(2 * size + 3, "float32")
    grads = layer.new_grads(whole[1 : 1 + size])
    layer.record(x).backward(dy, grads=grads)
    assert_same_bits(np.concatenate([array.ravel() for array in layer.grads.values()]), whole[1 : 1 + size])
    assert not whole[1 + size :].any()
    assert grads.flat.base is whole
    whole[:] = 1
    assert all((array == 1).all() for array in grads.values())


def test_gradients_of_a_larger_model_serve_a_part_of_it() -> None:
    first, second = rc.GRU(3, 5, seed=0), rc.Linear(5, 2, seed=1)
    model = rc.Sequential(first, second)
    grads, alone = model.new_grads(), first.new_grads()
    x, dy = np.ones((2, 4, 3), "float32"), np.ones((2, 4, 5), "float32")
    first.record(x).backward(dy, grads=grads)
    first.record(x).backward(dy, grads=alone)
    for name, gradient in alone.items():
        assert_same_bits(grads[f"0.{name}"], gradient)


def test_a_backward_that_fails_adds_nothing() -> None:
    """Of a model with a layer written in Python; a retried one starts clean."""

    class Fails(Scale):
        failing = True

        def backward(self, dy: Array, saved: Array) -> Array:
            result = super().backward(dy, saved)
            if self.failing:
                raise KeyboardInterrupt
            return result

    fails = Fails(5)
    model = rc.Sequential(rc.GRU(3, 5, seed=0), fails, rc.Linear(5, 2, seed=1))
    x, dy = np.ones((2, 4, 3), "float32"), np.ones((2, 4, 2), "float32")
    grads = model.new_grads()
    with pytest.raises(KeyboardInterrupt):
        model.record(x).backward(dy, grads=grads)
    assert not grads.flat.any()
    assert_untouched(model)
    fails.failing = False
    model.record(x).backward(dy, grads=grads)
    model.record(x).backward(dy)
    assert_same_grads(grads, copies(model.grads))


def test_what_is_refused() -> None:
    layer, other = rc.GRU(3, 5, seed=0), rc.GRU(3, 5, seed=0)
    x, dy = np.ones((2, 4, 3), "float32"), np.ones((2, 4, 5), "float32")
    tape = layer.record(x)
    with pytest.raises(ValueError, match=r"^GRU.*new_grads"):
        tape.backward(dy, grads=other.new_grads())
    with pytest.raises(TypeError, match=r"^GRU.backward: got grads of dict.*new_grads"):
        tape.backward(dy, grads={})
    assert_untouched(layer)
    tape.backward(dy, grads=layer.new_grads())  # the tape was not used by those
    grads, size = layer.new_grads(), layer.new_grads().flat.size
    with pytest.raises(ValueError, match=r"^grads.add: got these gradients themselves"):
        grads.add(grads)
    with pytest.raises(ValueError, match=r"^grads.add: got these gradients themselves"):
        layer.grads.add(layer.grads)
    with pytest.raises(ValueError, match=r"^grads.add.*same names, shapes and dtypes"):
        grads.add(rc.GRU(3, 6).new_grads())
    with pytest.raises(TypeError, match=r"^grads.add: got dict"):
        grads.add({})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^GRU.new_grads: got flat of shape"):
        layer.new_grads(np.zeros(size + 1, "float32"))
    with pytest.raises(ValueError, match=r"^GRU.new_grads: got flat of memory that is strided"):
        layer.new_grads(np.zeros(2 * size, "float32")[::2])
    with pytest.raises(TypeError, match=r"^GRU.new_grads: got flat of float64"):
        layer.new_grads(np.zeros(size))
    other.new_grads().add(grads)  # a copy of the model will do


def test_threads_that_share_gradients_lose_nothing() -> None:
    """Gradients that are small integers add up exactly in any order, those of two sums into each other too."""
    layer, x, dy = layer_with_whole_gradients()
    grads, ones = layer.new_grads(), layer.new_grads()
    ones.flat[:] = 1

    def run(_: int) -> None:
        for _ in range(20):
            layer.record(x).backward(dy, grads=grads)
            grads.add(ones)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(4)))
    assert (grads["weight_ih_l0"] == 4 * 20 * 17).all()
