"""Arrays that lie in one place, as inputs and outputs of one call: as if they lay apart, or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import Array
from user_layers import Scale, Softsign

ROWS, STEPS, SIZE = 4, 6, 72


def identity() -> Any:
    """A layer that passes x itself on."""

    class Pass(rc.PythonLayer):
        stateless = True

        def forward(self, x: Array, *, lengths: Any, training: bool, rng: Any) -> tuple[Array, None]:
            return x, None

        def backward(self, dy: Array, saved: Any) -> Array:
            return dy

    return rc.Sequential(rc.GRU(SIZE, SIZE, seed=0), Pass())


def passes_x() -> Any:
    x = rc.Input(features=SIZE)
    y = identity().layers[1](x)
    return rc.Model(x, rc.Linear(SIZE, SIZE, seed=0)(y) + y)


MODELS: dict[str, Callable[[], Any]] = {
    "linear": lambda: rc.Linear(SIZE, SIZE, seed=0),
    "wide": lambda: rc.Sequential(rc.Linear(SIZE, 64, seed=0), rc.Linear(64, SIZE, seed=1)),
    "lstm": lambda: rc.LSTM(SIZE, SIZE, 2, seed=0),
    "gru": lambda: rc.GRU(SIZE, SIZE, seed=0),
    "conv": lambda: rc.Conv1d(SIZE, SIZE, 3, seed=0),
    "norm": lambda: rc.Sequential(rc.LayerNorm(SIZE), rc.BatchNorm(SIZE), rc.Activation("tanh")),
    "python": lambda: rc.Sequential(rc.GRU(SIZE, SIZE, seed=0), Scale(SIZE), rc.Conv1d(SIZE, SIZE, 2, seed=0)),
    "identity": identity,
    "passes x": passes_x,
}


def overlaps(shape: tuple[int, ...], rng: np.random.Generator) -> Iterator[tuple[str, Array, Array]]:
    """(name, x, out) of one buffer: the same, shifted, reversed, interleaved."""
    size = int(np.prod(shape))
    for shift in (0, 1, SIZE, 3 * SIZE + 5, size - 1):
        buffer = rng.standard_normal(2 * size).astype(np.float32)
        one, other = buffer[:size].reshape(shape), buffer[shift : shift + size].reshape(shape)
        yield f"later by {shift}", one, other
        yield f"earlier by {shift}", other, one
    same = rng.standard_normal(shape).astype(np.float32)
    yield "rows reversed", same, same[::-1]
    yield "rows reversed in x", same[::-1], same
    if len(shape) == 3:
        yield "steps reversed", same, same[:, ::-1]
    buffer = rng.standard_normal((*shape[:-1], 2 * shape[-1])).astype(np.float32)
    yield "beside each other", buffer[..., : shape[-1]], buffer[..., shape[-1] :]
    yield "half of it", buffer[..., : shape[-1]], buffer[..., shape[-1] // 2 : shape[-1] // 2 + shape[-1]]
    square = rng.standard_normal((SIZE, SIZE)).astype(np.float32)
    if len(shape) == 2:
        yield "transposed", square[:, : shape[0]].T, square[: shape[0]]


@pytest.mark.parametrize("method", ["step", "process"])
@pytest.mark.parametrize("name", MODELS)
def test_out_may_lie_where_x_does(name: str, method: str) -> None:
    model = MODELS[name]()
    shape = (ROWS, SIZE) if method == "step" else (ROWS, STEPS, SIZE)
    rng = np.random.default_rng(0)
    for how, x, out in overlaps(shape, rng):
        one, other = model.stream(batch_size=ROWS), model.stream(batch_size=ROWS)
        for _ in range(2):  # the state too
            x[...] = rng.standard_normal(shape)
            given = x.copy()
            expected = getattr(other, method)(given)
            assert getattr(one, method)(x, out=out) is out, how
            assert_same_bits(out, expected, how)
        for a, b in zip(flat(one.state()), flat(other.state()), strict=True):
            assert_same_bits(a, b, how)


def flat(state: Any) -> list[Array]:
    if isinstance(state, list | tuple):
        return [array for one in state for array in flat(one)]
    return [] if state is None else [state]


def two_outputs(python: bool) -> Any:
    x = rc.Input(features=SIZE)
    h = rc.GRU(SIZE, SIZE, seed=0)(x)
    y = Softsign()(h) if python else rc.Linear(SIZE, SIZE, seed=0)(h)
    return rc.Model(x, (h, y))


@pytest.mark.parametrize("python", [False, True])
def test_several_outputs(python: bool) -> None:
    model = two_outputs(python)
    x = np.random.default_rng(0).standard_normal((ROWS, SIZE)).astype(np.float32)
    expected = model.stream(batch_size=ROWS).step(x)
    stream = model.stream(batch_size=ROWS)
    buffer = np.zeros((ROWS, 2 * SIZE), np.float32)
    apart = (buffer[:, :SIZE], buffer[:, SIZE:])
    for one, other in zip(stream.step(x, out=apart), expected, strict=True):
        assert_same_bits(one, other)
    stream.reset()
    for first in (True, False):
        given = x.copy()
        out = (given, np.zeros_like(x)) if first else (np.zeros_like(x), given)
        for one, other in zip(stream.step(given, out=out), expected, strict=True):
            assert_same_bits(one, other)
        stream.reset()
    with pytest.raises(ValueError, match=r"^Model.*share memory"):
        stream.step(x, out=(buffer[:, :SIZE], buffer[:, 3 : SIZE + 3]))
    assert not any(one.any() for one in flat(stream.state())), "a refused step changes nothing"


def test_an_out_whose_elements_lie_in_one_place_is_refused() -> None:
    stream = rc.Linear(SIZE, SIZE, seed=0).stream(batch_size=ROWS)
    x = np.ones((ROWS, SIZE), np.float32)
    row = np.zeros(SIZE, np.float32)
    with pytest.raises(ValueError, match=r"^Linear.*out.*share memory"):
        stream.step(x, out=np.lib.stride_tricks.as_strided(row, (ROWS, SIZE), (0, 4)))


def test_a_gradient_may_be_the_output_or_a_gradient() -> None:
    """dy = tape.y, and dy in the memory of the parameters' gradients."""
    for python in (False, True):
        results = []
        for own in (True, False):
            model = rc.Sequential(rc.LSTM(SIZE, SIZE, seed=0), Scale(SIZE) if python else rc.Linear(SIZE, SIZE, seed=1))
            x = np.random.default_rng(0).standard_normal((2, 3, SIZE)).astype(np.float32)
            tape = model.record(x)
            dx, _ = tape.backward(tape.y if own else tape.y.copy())
            tape = model.record(x)
            gradient = model.grads["0.weight_hh_l0"].reshape(-1)[: x.size].reshape(x.shape)
            more, _ = tape.backward(gradient if own else gradient.copy())
            results.append([dx, more, *model.grads.values()])
        for one, other in zip(*results, strict=True):
            assert_same_bits(one, other)
