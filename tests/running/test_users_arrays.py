"""Arrays that layers written in Python are given and give: nobody else's memory, whatever anyone writes to
afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import Array
from user_layers import Scale

LENGTHS = np.array([6, 0, 3, 4])


class Identity(rc.PythonLayer):
    """Passes on and back what it is given."""

    stateless = True
    input_size = output_size = 3

    def forward(self, x: Array, *, lengths: Any, training: bool, rng: Any) -> tuple[Array, Array]:
        return x, x

    def backward(self, dy: Array, saved: Array) -> Array:
        return dy


class Views(Identity):
    """Gives views of what it is given."""

    def forward(self, x: Array, *, lengths: Any, training: bool, rng: Any) -> tuple[Array, Array]:
        return x[:, ::-1][:, ::-1], x

    def backward(self, dy: Array, saved: Array) -> Array:
        return dy.reshape(dy.shape)


class Square(Identity):
    """Needs its input again."""

    def forward(self, x: Array, *, lengths: Any, training: bool, rng: Any) -> tuple[Array, Any]:
        return x * x, (x, lengths)

    def backward(self, dy: Array, saved: Any) -> Array:
        x, lengths = saved
        if lengths is not None:
            dy = dy * (np.arange(x.shape[1]) < lengths[:, None])[..., None]
        dx: Array = 2 * dy * x
        return dx


class WritesX(Identity):
    """Works in place in forward, which it must not."""

    def forward(self, x: Array, *, lengths: Any, training: bool, rng: Any) -> tuple[Array, Array]:
        x *= 2
        return x, x


class WritesDy(Identity):
    """The same in backward."""

    def backward(self, dy: Array, saved: Array) -> Array:
        dy *= 2
        return dy


def in_a_row(*layers: Any) -> Callable[[], Any]:
    return lambda: rc.Sequential(*[layer() for layer in layers], seed=0)


def fan() -> Any:
    x = rc.Input(features=3)
    h = Square()(x)
    return rc.Model(x, (Identity()(x), rc.GRU(3, 4)(h), h), seed=0)


def linear() -> Any:
    return rc.Linear(3, 3)


MODELS: dict[str, Callable[[], Any]] = {
    "identity": in_a_row(Identity),
    "identity alone": Identity,
    "two": in_a_row(Identity, Views),
    "views": in_a_row(Views),
    "square": in_a_row(Square),
    "scale": in_a_row(lambda: Scale(3), lambda: rc.GRU(3, 4)),
    "native first": in_a_row(linear, Identity, Square, Views),
    "residual": in_a_row(lambda: rc.Residual(Identity()), lambda: rc.Residual(Square())),
    "fan": fan,
}


def numbers(seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((4, 6, 3)).astype(np.float32)


def flat(values: Any) -> list[Array]:
    return (
        [values] if isinstance(values, np.ndarray) else [] if values is None else [a for v in values for a in flat(v)]
    )


def nested_like(values: Any, seed: int) -> Any:
    if isinstance(values, np.ndarray):
        return np.random.default_rng(seed).standard_normal(values.shape).astype(values.dtype)
    return tuple(nested_like(one, seed + index) for index, one in enumerate(values))


def overwrite(*values: Any) -> None:
    for array in flat(list(values)):
        array[...] = 5


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["dense", "ragged"])
@pytest.mark.parametrize("name", MODELS)
def test_a_tape_owns_what_it_needs(name: str, lengths: Array | None) -> None:
    """The caller's arrays are written between record and backward, and after it."""
    results = []
    for writes in (False, True):
        model, x = MODELS[name](), numbers()
        valid = None if lengths is None else lengths.copy()
        tape = model.record(x, lengths=valid)
        if writes:
            overwrite(x)
            if valid is not None:
                valid[...] = 1
        y = [array.copy() for array in flat(tape.y)]
        dy = nested_like(tape.y, 1)
        dx, _ = tape.backward(dy)
        if writes:
            overwrite(dy)
        results.append([*y, dx, *(model.grads[one].copy() for one in model.grads)])
    for one, other in zip(*results, strict=True):
        assert_same_bits(one, other)


@pytest.mark.parametrize("name", MODELS)
def test_results_share_no_memory_with_arguments(name: str) -> None:
    model, x = MODELS[name](), numbers()
    before = x.copy()
    tape = model.record(x)
    dy = nested_like(tape.y, 1)
    dx, _ = tape.backward(dy)
    stream = model.stream(batch_size=4)
    for result in flat([model(x)[0], tape.y, dx, stream.process(x), stream.step(x[:, 0])]):
        assert not np.shares_memory(result, x)
        assert not any(np.shares_memory(result, one) for one in flat(dy))
    assert_same_bits(x, before)


@pytest.mark.parametrize("way", ["call", "record", "process", "step"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["dense", "ragged"])
@pytest.mark.parametrize("before", [[], [linear], [Identity]], ids=["first", "native before", "python before"])
def test_what_forward_is_given_is_read_only(before: list[Any], lengths: Array | None, way: str) -> None:
    model, x = in_a_row(*before, WritesX, linear)(), numbers()
    kept = x.copy()
    ways: dict[str, Callable[[], Any]] = {
        "call": lambda: model(x, lengths=lengths),
        "record": lambda: model.record(x, lengths=lengths),
        "process": lambda: model.stream(batch_size=4).process(x),
        "step": lambda: model.stream(batch_size=4).step(x[:, 0]),
    }
    with pytest.raises(ValueError, match="read-only"):
        ways[way]()
    assert_same_bits(x, kept)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["dense", "ragged"])
@pytest.mark.parametrize("after", [[], [linear], [Identity]], ids=["last", "native after", "python after"])
def test_what_backward_is_given_is_read_only(after: list[Any], lengths: Array | None) -> None:
    model = in_a_row(linear, WritesDy, *after)()
    tape = model.record(numbers(), lengths=lengths)
    dy = nested_like(tape.y, 1)
    kept = dy.copy()
    with pytest.raises(ValueError, match="read-only"):
        tape.backward(dy)
    assert_same_bits(dy, kept)
    assert not any(model.grads[name].any() for name in model.grads)
