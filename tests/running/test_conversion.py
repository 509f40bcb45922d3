"""Calls, tapes and streams take what `fit` takes: other floats, integers, bools and lists are converted to the dtype
of the layers, with the bits of a conversion by hand; what `fit` refuses they refuse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import recurra as rc
from array_types import Array
from single_thread import one_thread
from user_layers import Scale, Softsign

N, T, F = 3, 5, 2
RNG = np.random.default_rng(0)
X = RNG.integers(-8, 9, (N, T, F)) / 4  # which float16 represents exactly
FORMS: dict[str, Any] = {
    "float64": lambda x: x.astype(np.float64),
    "float32": lambda x: x.astype(np.float32),
    "float16": lambda x: x.astype(np.float16),
    "longdouble": lambda x: x.astype(np.longdouble),
    "big-endian": lambda x: x.astype(">f4"),
    "list": lambda x: x.tolist(),
    "tuples": lambda x: tuple(map(tuple, x.tolist())),
    "int64": lambda x: (4 * x).astype(np.int64),
    "uint8": lambda x: np.abs(4 * x).astype(np.uint8),
    "bool": lambda x: x > 0,
    "int list": lambda x: (4 * x).astype(int).tolist(),
}
MODELS: dict[str, Any] = {
    "layer": lambda dtype: rc.LSTM(F, 4, dtype=dtype, seed=0),
    "model": lambda dtype: rc.Sequential(rc.GRU(F, 4, dtype=dtype), rc.Linear(4, 2, dtype=dtype), seed=0),
    "python": lambda dtype: rc.Sequential(Softsign(), rc.GRU(F, 4, dtype=dtype), Scale(4, dtype), seed=0),
}
DTYPES = ["float32", "float64"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def same(one: Any, other: Any) -> None:
    if isinstance(one, list | tuple):
        for first, second in zip(one, other, strict=True):
            same(first, second)
    elif one is not None:
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MODELS)
def test_the_bits_are_those_of_a_conversion_by_hand(name: str, form: str, dtype: str) -> None:
    if name == "python" and "int" in form:
        return  # the first layer takes them for tokens
    layer = MODELS[name](dtype)
    given = FORMS[form](X)
    x = np.asarray(given).astype(dtype)
    same(layer(given), layer(x))
    same(layer(given, lengths=[3, 0, 5]), layer(x, lengths=[3, 0, 5]))
    if name != "python":
        mask = np.arange(T) != 2
        same(layer(given, mask=np.tile(mask, (N, 1))), layer(x, mask=np.tile(mask, (N, 1))))
    dy = RNG.integers(-4, 5, layer(x)[0].shape) / 4
    gradients = []
    for tape, d in ((layer.record(given), FORMS["list"](dy)), (layer.record(x), dy.astype(dtype))):
        layer.zero_grad()
        gradients.append([tape.y, tape.state, tape.backward(d), [g.copy() for g in layer.grads.values()]])
    same(*gradients)
    if name != "python":
        one, other = layer.stream(N), layer.stream(N)
        whole = isinstance(given, np.ndarray)
        for step in range(T):
            same(one.step(given[:, step] if whole else [row[step] for row in given]), other.step(x[:, step]))
        same(one.process(given), other.process(x))
        same(one.state(), other.state())
        one.step(given[0, :1] if whole else [given[0][0]], rows=[2])
        other.step(x[0, :1], rows=[2])
        same(one.state(), other.state())


@pytest.mark.parametrize("dtype", DTYPES)
def test_states_resets_tokens_and_single_rows(dtype: str) -> None:
    lstm = rc.LSTM(F, 4, dtype=dtype, seed=0)
    state = tuple(RNG.integers(-4, 5, (1, N, 4)) / 4 for _ in "hc")
    exact = tuple(one.astype(dtype) for one in state)
    x = X.astype(dtype)
    same(lstm(X, tuple(one.astype(np.float16) for one in state)), lstm(x, exact))
    same(lstm(X, tuple(one.tolist() for one in state)), lstm(x, exact))
    stream = lstm.stream(N)
    stream.load_state(state)
    same(stream.state(), exact)
    reset = RNG.random((N, T)) < 0.5
    same(lstm(x, reset=reset.tolist()), lstm(x, reset=reset))
    same(stream.step(x[:, 0].tolist(), reset=reset[:, 0].tolist()), lstm(x[:, :1], exact, reset=reset[:, :1])[0][:, 0])
    same(lstm(X[0]), lstm(x[0]))
    embed = rc.Sequential(rc.Embedding(9, 3, dtype=dtype), rc.GRU(3, 4, dtype=dtype), seed=0)
    tokens = RNG.integers(0, 9, (N, T))
    for given in (tokens.tolist(), tokens.astype(np.uint8), tokens.astype(">i4")):
        same(embed(given), embed(tokens))
    same(embed.stream(N).step(tokens[:, 0].tolist()), embed.stream(N).step(tokens[:, 0]))
    ragged = [row[:steps].tolist() for row, steps in zip(tokens, (5, 2, 3), strict=True)]
    same(embed(ragged)[0], [embed(np.array(row)[None])[0][0] for row in ragged])


@pytest.mark.parametrize("name", ["layer", "model"])
def test_padding_may_hold_anything(name: str) -> None:
    layer = MODELS[name]("float32")
    x = X.copy()
    x[1, 3:] = 1e300
    lengths = [5, 3, 5]
    same(layer(x, lengths=lengths), layer(np.nan_to_num(x, posinf=0).clip(-9, 9).astype(np.float32), lengths=lengths))
    tape = layer.record(X, lengths=lengths)
    dy = np.ones(tape.y.shape)
    dy[1, 3:] = -1e300
    dx, _state = tape.backward(dy)
    assert np.isfinite(dx).all()
    with pytest.raises(
        ValueError, match=r"x holds 1e\+300 in row 1 at step 3, expected at most 3\.4.*the largest float32; scale it"
    ):
        layer(x, lengths=[5, 4, 5])
    with pytest.raises(ValueError, match=r"x holds 1e\+300 in row 1 at step 3"):
        layer.stream(N).process(x)
    with pytest.raises(ValueError, match=r"dy holds -1e\+300 in row 1 at step 3"):
        layer.record(X).backward(dy)


def test_time_first() -> None:
    gru = rc.GRU(F, 4, batch_first=False, seed=0)
    x = np.swapaxes(X, 0, 1).copy()
    same(gru(x), gru(x.astype(np.float32)))
    x[3, 1, 1] = 1e99
    with pytest.raises(ValueError, match=r"x holds 1e\+99 in row 1 at step 3"):
        gru(x)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X.astype(complex), r"got x of complex128, expected real numbers; write np.concatenate\(\[x.real, x.imag\]"),
        (X.astype(str), "got text in x, expected numbers"),
        (np.ma.masked_equal(X, X[0, 0, 0]), "got x with masked elements"),
        (None, "got x=None|got x that is not|x is a NoneType"),
        (X.astype("datetime64[s]"), r"got x of dtype datetime64\[s\], expected real numbers"),
        (np.full((N, T, F), 1e300), "too large for float32|the largest float32"),
    ],
    ids=["complex", "text", "masked", "None", "dates", "large"],
)
def test_what_fit_refuses_is_refused(name: str, x: Any, message: str) -> None:
    layer = MODELS[name]("float32")
    calls: list[Any] = [lambda: layer(x), lambda: layer.record(x)]
    if name != "python":
        stream = layer.stream(N)
        before = stream.state()
        calls.append(lambda: stream.process(x))
    for call in calls:
        with pytest.raises((ValueError, TypeError), match=message):
            call()
    if name != "python":
        same(stream.state(), before)


def test_what_is_written_to_has_the_dtype() -> None:
    """`out=`, `grads=` and parameters are the caller's memory, or the model's: nothing is converted behind them."""
    gru = rc.GRU(F, 4, seed=0)
    with pytest.raises(TypeError, match=r"out has dtype float64, expected float32"):
        gru.stream(N).step(X[:, 0], out=np.zeros((N, 4)))
    with pytest.raises(TypeError, match="expected float32"):
        gru.new_grads(np.zeros(gru.parameters.size))
    with pytest.raises(TypeError, match=r"tokens|integers"):
        rc.Embedding(4, 2)(np.array([[1.0, 2.0]]))


def test_arrays_that_fit_are_not_copied() -> None:
    """A layer in Python gets the caller's own memory."""
    seen: list[Array] = []

    class Look(rc.PythonLayer):
        def forward(self, x: Array, *, lengths: Any, training: bool, rng: Any) -> tuple[Array, Any]:
            seen.append(x)
            return x + 1, None

        def backward(self, dy: Array, saved: Any) -> Array:
            return dy

    for dtype in DTYPES:
        x = X.astype(dtype)
        assert Look()(x)[0].dtype == dtype
        assert np.shares_memory(seen[-1], x)
    assert Look()(X.astype(np.float16))[0].dtype == np.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda large: rc.Embedding(4, 2)(large), "holds token 9223372036854775807 in row 0 at step 1"),
        (lambda large: rc.Sequential(rc.Embedding(4, 2)).predict(large), "got tokens from 1 to 9223372036854775807"),
        (lambda large: rc.GRU(2, 3)(np.zeros((2, 3, 2)), lengths=large[0]), r"lengths\[1\] is 9223372036854775807"),
        (
            lambda large: rc.Sequential(rc.GRU(2, 3)).predict(np.zeros((2, 3, 2)), lengths=large[0]),
            r"lengths\[1\] = 92",
        ),
        (lambda large: rc.losses.CTC()(np.zeros((1, 9, 3)), large), "9223372036854775807"),  # not -1, which is padding
    ],
)
def test_large_unsigned_numbers_do_not_become_negative(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(np.array([[1, 2**64 - 1]], np.uint64))
