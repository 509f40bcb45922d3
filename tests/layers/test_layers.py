"""Linear, Embedding, Dropout and what a Sequential makes of layers: values and gradients against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import recurra as rc
from agreement import assert_as_close_as, assert_same_bits
from array_types import DTYPES, Array
from cell_runs import unpack

pytestmark = pytest.mark.every_isa

SHAPES = [(1, 1), (13, 20), (2, 7, 1), (7, 33, 45), (3, 5, 67), (64, 100, 16)]


def by_torch(layer: Any, x: Array, dy: Array, dtype: str) -> dict[str, Array]:
    """Output and gradients of Linear or Embedding."""
    params = {name: torch.tensor(layer.params[name].astype(dtype), requires_grad=True) for name in layer.params}
    tokens = x.dtype.kind == "i"
    leaf = torch.tensor(x if tokens else x.astype(dtype), requires_grad=not tokens)
    if tokens:
        y = torch.nn.functional.embedding(leaf, params["weight"])
    else:
        y = torch.nn.functional.linear(leaf, params["weight"], params.get("bias"))
    y.backward(torch.from_numpy(dy.astype(dtype)))
    found = {"y": y.detach(), **{name: tensor.grad for name, tensor in params.items()}}
    if not tokens:
        found["dx"] = leaf.grad
    return {name: tensor.numpy() for name, tensor in found.items() if tensor is not None}


def solve(layer: Any, x: Array, dy: Array) -> dict[str, Array]:
    tape = layer.record(x)
    dx, state = tape.backward(dy)
    assert state is None
    found = {"y": tape.y, **{name: layer.grads[name] for name in layer.grads}}
    return found if dx is None else {**found, "dx": dx}


def assert_correct(make: Any, x: Array, dy: Array) -> None:
    """float64 to 1e-12, float32 as close as torch."""
    single, double = make("float32"), make("float64")
    double.load_state_dict({name: single.params[name].astype(np.float64) for name in single.params})
    exact, peer = by_torch(single, x, dy, "float64"), by_torch(single, x, dy, "float32")
    wide = x if x.dtype.kind == "i" else x.astype(np.float64)
    ours, precise = solve(single, x, dy), solve(double, wide, dy.astype(np.float64))
    assert set(ours) == set(precise) == set(exact)
    for name, truth in exact.items():
        # Sums of at most 6400 products of order 1.
        np.testing.assert_allclose(precise[name], truth, rtol=0, atol=1e-12 * max(1.0, np.abs(truth).max(initial=0.0)))
        assert_as_close_as(peer[name], ours[name], truth, name)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("features", [3, 17, 256])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_linear(shape: tuple[int, ...], features: int, bias: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, np.float32)
    dy = rng.standard_normal((*shape[:-1], features), np.float32)
    assert_correct(lambda dtype: rc.Linear(shape[-1], features, bias=bias, dtype=dtype, seed=0), x, dy)


@pytest.mark.parametrize("shape", [(1, 1), (13, 20), (3, 0)], ids=str)
def test_embedding(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 7, shape)
    dy = rng.standard_normal((*shape, 17), np.float32)
    assert_correct(lambda dtype: rc.Embedding(7, 17, dtype=dtype, seed=0), tokens, dy)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.uint64])
def test_tokens_of_any_integer_type(kind: type) -> None:
    embedding = rc.Embedding(7, 17, seed=0)
    tokens = np.random.default_rng(0).integers(0, 7, (5, 9))
    assert_same_bits(embedding(tokens.astype(kind))[0], embedding(tokens)[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9])
def test_dropout(p: float, dtype: str) -> None:
    """A share p of zeros, the others times 1 / (1 - p); the gradient goes the same way; nothing in inference."""
    layer = rc.Dropout(p, dtype=dtype)
    x = np.random.default_rng(0).standard_normal((40, 50, 60)).astype(dtype)
    tape = layer.record(x, seed=1)
    dropped = tape.y == 0
    # The share of 120000 independent draws is within five standard deviations.
    assert abs(dropped.mean() - p) <= 5 * np.sqrt(p * (1 - p) / x.size)
    scale = x.dtype.type(1 / (1 - p))
    np.testing.assert_allclose(tape.y, np.where(dropped, 0, x * scale), rtol=4 * np.finfo(dtype).eps)
    y = tape.y
    dx, _ = tape.backward(x)
    assert_same_bits(dx, y)
    assert_same_bits(layer(x)[0], x)
    assert_same_bits(layer.record(x, training=False).y, x)


def test_dropout_masks_are_independent() -> None:
    """Between neighbouring features, steps and rows, between layers of a model, and between seeds."""
    x = np.ones((40, 50, 60), np.float32)
    mask = rc.Dropout(0.5).record(x, seed=1).y > 0
    others = [mask[1:], mask[:, 1:], mask[:, :, 1:], rc.Dropout(0.5).record(x, seed=2).y > 0]
    twice = rc.Sequential(rc.Dropout(0.5), rc.Dropout(0.5)).record(x, seed=1).y
    assert abs((twice > 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / x.size)
    for other in others:
        same = mask[tuple(slice(n) for n in other.shape)] == other
        assert abs(same.mean() - 0.5) < 5 * 0.5 / np.sqrt(same.size)


def test_dropout_between_the_layers_of_a_stack_is_a_dropout_layer() -> None:
    """The same share and scale: the mean over many seeds of a linear function of the dropped outputs is the undropped
    one."""
    stack = rc.RNN(3, 8, 2, nonlinearity="relu", dropout=0.3, dtype="float64", seed=0)
    with stack.edit() as params:
        params["weight_ih_l1"][...] = np.eye(8)
        for name in ("weight_hh_l1", "bias_ih_l1", "bias_hh_l1"):
            params[name][...] = 0.0
    x = np.random.default_rng(0).standard_normal((2, 4, 3))
    expected, _ = stack(x)
    drawn = np.stack([stack.record(x, seed=seed).y for seed in range(4000)])
    kept = drawn != 0
    alive = expected > 0
    assert abs(kept[:, alive].mean() - 0.7) < 5 * np.sqrt(0.21 / kept[:, alive].size)
    ratios = (drawn / np.where(alive, expected, 1.0))[kept]
    np.testing.assert_allclose(ratios, 1 / 0.7, rtol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sequential_is_its_layers_in_turn(dtype: str) -> None:
    """Bit for bit, forwards and backwards, with states, lengths and resets."""
    layers = [
        rc.Embedding(11, 6, dtype=dtype, seed=0),
        rc.LSTM(6, 17, 2, bidirectional=True, dtype=dtype, seed=1),
        rc.Linear(34, 5, dtype=dtype, seed=2),
        rc.GRU(5, 8, return_sequences=False, dtype=dtype, seed=3),
        rc.Linear(8, 3, dtype=dtype, seed=4),
    ]
    model = rc.Sequential(*layers)
    rng = np.random.default_rng(0)
    tokens, lengths, reset = rng.integers(0, 11, (7, 9)), rng.integers(0, 10, 7), rng.random((7, 9)) < 0.2
    tape = model.record(tokens, lengths=lengths, reset=reset)
    dy = rng.standard_normal((7, 3)).astype(dtype)
    dx, dstate = tape.backward(dy)
    assert dx is None
    together = {name: model.grads[name].copy() for name in model.grads}
    model.zero_grad()
    tapes, x, options = [], tokens, {"lengths": lengths, "reset": reset}
    for index, layer in enumerate(layers):
        tapes.append(layer.record(x, **(options if index < 4 else {})))
        x = tapes[-1].y
    assert_same_bits(tape.y, x)
    assert_same_bits(model(tokens, lengths=lengths, reset=reset)[0], x)
    gradient: Any = dy
    for one, of_model, initial in reversed(list(zip(tapes, tape.state, dstate, strict=True))):
        assert (one.state is None) == (of_model is None)
        gradient, own = one.backward(gradient)
        if own is not None:
            for a, b in zip(unpack(own) + unpack(one.state), unpack(initial) + unpack(of_model), strict=True):
                assert_same_bits(a, b)
    for name, expected in together.items():
        assert_same_bits(model.grads[name], expected, name)


def test_a_models_state_goes_in_and_out() -> None:
    model = rc.Sequential(rc.GRU(3, 5), rc.Linear(5, 4), rc.LSTM(4, 6, 2), seed=0)
    x = np.random.default_rng(0).standard_normal((2, 8, 3)).astype(np.float32)
    whole, final = model(x)
    first, state = model(x[:, :3])
    second, last = model(x[:, 3:], state=state)
    assert_same_bits(np.concatenate([first, second], axis=1), whole)
    for one, other in zip(last, final, strict=True):
        if one is not None:
            for a, b in zip(unpack(one), unpack(other), strict=True):
                assert_same_bits(a, b)
    assert [entry is None for entry in model.init_state(2)] == [False, True, False]
    assert_same_bits(model(x, state=model.init_state(2))[0], whole)
    assert_same_bits(model(x, state=[None, None, None])[0], whole)


def test_lists_in_lists_out() -> None:
    model = rc.Sequential(rc.GRU(3, 5), rc.Linear(5, 4), seed=0)
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal((steps, 3)).astype(np.float32) for steps in (4, 0, 7)]
    outputs, _ = model(rows)
    assert [row.shape for row in outputs] == [(4, 4), (0, 4), (7, 4)]
    for row, output in zip(rows, outputs, strict=True):
        assert_same_bits(output, model(row[None])[0][0])
