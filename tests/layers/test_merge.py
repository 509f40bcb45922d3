"""Layers of several inputs, slices of features, repeated and learnt vectors: values, gradients, raggedness, models."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from single_thread import central_difference

pytestmark = pytest.mark.every_isa

#: By name: how many inputs, and what comes out of them.
MERGES: dict[str, tuple[int, Callable[..., Array]]] = {
    "Add": (3, lambda a, b, c: a + b + c),
    "Subtract": (2, lambda a, b: a - b),
    "Multiply": (3, lambda a, b, c: a * b * c),
    "Average": (3, lambda a, b, c: (a + b + c) / a.dtype.type(3)),
    "Maximum": (3, lambda a, b, c: np.maximum(np.maximum(a, b), c)),
    "Minimum": (3, lambda a, b, c: np.minimum(np.minimum(a, b), c)),
    "Concatenate": (3, lambda a, b, c: np.concatenate([a, b, c], axis=-1)),
    "Dot": (2, lambda a, b: (a * b).sum(-1, keepdims=True)),
}
LENGTHS = np.array([7, 0, 3, 1])


def drawn(count: int, shape: tuple[int, ...], dtype: str, seed: int = 0) -> tuple[Array, ...]:
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(shape).astype(dtype) for _ in range(count))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MERGES)
def test_values(name: str, dtype: str) -> None:
    """Dense, ragged with NaN as padding, and vectors."""
    count, f = MERGES[name]
    layer: Any = getattr(rc, name)(dtype=dtype)
    atol = 20 * np.finfo(dtype).eps
    for shape in ((4, 7, 5), (4, 5), (4, 7, 33)):
        x = drawn(count, shape, dtype)
        np.testing.assert_allclose(layer(x)[0], f(*x), rtol=0, atol=atol)
        if len(shape) == 3:
            valid = np.arange(7) < LENGTHS[:, None]
            for one in x:
                one[~valid] = np.nan
            y, _ = layer(x, lengths=(LENGTHS,) * count)
            np.testing.assert_allclose(y[valid], f(*x)[valid], rtol=0, atol=atol)
            assert not y[~valid].any()


@pytest.mark.parametrize("name", MERGES)
def test_gradients_by_central_differences(name: str) -> None:
    count, _f = MERGES[name]
    layer: Any = getattr(rc, name)(dtype="float64")
    x = drawn(count, (4, 7, 3), "float64")
    lengths = (LENGTHS,) * count
    tape = layer.record(x, lengths=lengths)
    dy = np.random.default_rng(1).standard_normal(tape.y.shape)
    dx, _ = tape.backward(dy)
    for one, gradient in zip(x, dx, strict=True):
        wanted = central_difference(lambda: float((layer(x, lengths=lengths)[0] * dy).sum()), one, np.arange(one.size))
        np.testing.assert_allclose(gradient.ravel(), wanted, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MERGES)
def test_threads_streams_and_files(name: str, dtype: str, tmp_path: Path) -> None:
    count, _f = MERGES[name]
    layer: Any = getattr(rc, name)(dtype=dtype)
    x = drawn(count, (37, 150, 64), dtype)
    lengths = (np.random.default_rng(1).integers(0, 151, 37),) * count
    results = []
    for threads in (1, 3):
        rc.set_num_threads(threads)
        tape = layer.record(x, lengths=lengths)
        y = tape.y.copy()
        results.append((y, *tape.backward(y)[0]))
    for one, other in zip(*results, strict=True):
        assert_same_bits(one, other)
    small = tuple(one[:3, :9] for one in x)
    whole, _ = layer(small)
    stream = rc_model(layer, count, 64, dtype).stream(batch_size=3)
    for t in range(9):
        assert_same_bits(stream.step(tuple(one[:, t] for one in small)), whole[:, t])
    layer.save(tmp_path / "layer")
    for twin in (rc.load(tmp_path / "layer"), pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        assert repr(twin) == repr(layer)
        assert_same_bits(twin(small)[0], whole)


def rc_model(layer: Any, count: int, features: int, dtype: str) -> Any:
    inputs = tuple(rc.Input(features=features, dtype=dtype) for _ in range(count))
    return rc.Model(inputs, layer(inputs))


def test_ties_go_to_the_first_and_nan_wins() -> None:
    a, b, c = (np.array([values], np.float32) for values in ([1, 2, np.nan, 3], [1, 5, 0, np.nan], [1, 5, 7, 9]))
    for layer, wanted in (
        (rc.Maximum(), [[1, 5, np.nan, np.nan], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0]]),
        (rc.Minimum(), [[1, 2, np.nan, np.nan], [1, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]),
    ):
        tape = layer.record((a, b, c))
        np.testing.assert_array_equal(tape.y[0], wanted[0])
        for gradient, own in zip(tape.backward(np.ones((1, 4), np.float32))[0], wanted[1:], strict=True):
            np.testing.assert_array_equal(gradient[0], own)


def test_operators_and_their_mistakes() -> None:
    x, z = rc.Input(features=6), rc.Input(features=6)
    model = rc.Model((x, z), ((x - z)[..., 1:5:2], (x * z)[:, :, -2:], (x + z)[..., :]))
    a, b = drawn(2, (2, 5, 6), "float32")
    one, two, three = model((a, b))[0]
    assert_same_bits(one, (a - b)[..., 1:5:2])
    assert_same_bits(two, (a * b)[..., -2:])
    assert_same_bits(three, a + b)
    vector = rc.Pool("last")(x)
    assert vector[:, 2:4].features == 2
    for key, error in [
        ((..., 3), TypeError),
        ((slice(None), -1), TypeError),
        (2, TypeError),
        ((slice(1, 2), slice(None), slice(0, 3)), TypeError),
        ((..., slice(4, 4)), ValueError),
        ((..., slice(5, 2)), ValueError),
        ((..., slice(None, None, -1)), ValueError),
    ]:
        with pytest.raises(error, match=r"got.*expected"):
            x[key]
    with pytest.raises(TypeError, match="iterated over"):
        list(x)
    with pytest.raises(TypeError, match="tuple of 2"):
        rc.Subtract()((x, z, x))
    with pytest.raises(ValueError, match="at least 5"):
        rc.Slice(1, 5)(np.zeros((2, 3, 4), np.float32))
    with pytest.raises(ValueError, match="start"):
        rc.Slice(3, 3)


def test_inputs_of_float64() -> None:
    """A sum of inputs has their dtype; the layers behind must, too; a file keeps it."""
    for make in (lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, _b: a[..., 1:2]):
        a, b = rc.Input(features=3, dtype="float64"), rc.Input(features=3, dtype=np.float64)
        made = make(a, b)
        model = rc.Model((a, b), (made, b + b))
        x = drawn(2, (2, 4, 3), "float64")
        assert model.dtype == np.float64
        assert_same_bits(model(x)[0][0], make(*x))
        assert pickle.loads(pickle.dumps(model)).config() == model.config()
    with pytest.raises(ValueError, match=r"got layer 0 \(LSTM\) of float32, expected float64, as input 0"):
        rc.Model(a, rc.LSTM(3, 4)(a))
    with pytest.raises(ValueError, match="float32"):
        rc.Input(features=3, dtype="int8")
    with pytest.raises(ValueError, match="leave dtype out"):
        rc.Input(tokens=3, dtype="float64")
    older = model.config()
    for port in older["inputs"]:
        del port["dtype"]
    assert rc.Model.from_config(older).dtype == np.float64


def autoencoder(dtype: str, steps: int = 5) -> Any:
    x = rc.Input(features=3)
    code = rc.GRU(3, 4, return_sequences=False, dtype=dtype)(x)
    again = rc.LSTM(4, 6, dtype=dtype)(rc.RepeatVector(steps, dtype=dtype)(code))
    return rc.Model(x, (rc.Linear(6, 3, dtype=dtype)(again), again.state[0]), seed=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_repeated_vectors(dtype: str) -> None:
    layer = rc.RepeatVector(70, dtype=dtype)
    x = drawn(1, (3, 5), dtype)[0]
    tape = layer.record(x)
    assert_same_bits(tape.y, np.repeat(x[:, None], 70, axis=1))
    dy = drawn(1, (3, 70, 5), dtype)[0]
    np.testing.assert_allclose(tape.backward(dy)[0], dy.sum(1), rtol=0, atol=100 * np.finfo(dtype).eps)
    with pytest.raises(ValueError, match=r"expected \(N, features\)"):
        layer(np.zeros((2, 3, 5), dtype))
    with pytest.raises(ValueError, match="expected vectors"):
        layer(rc.Input(features=3))
    with pytest.raises(ValueError, match="whole sequence"):
        layer.stream()


def test_an_autoencoder() -> None:
    """Gradients, rows by themselves, and training on ragged rows; whatever their lengths, five steps come out."""
    model = autoencoder("float64")
    x = drawn(1, (4, 7, 3), "float64")[0]
    x[np.arange(7) >= LENGTHS[:, None]] = np.nan
    y, _ = model(x, lengths=LENGTHS)
    assert y[0].shape == (4, 5, 3)
    np.testing.assert_array_equal(model.output_lengths(LENGTHS)[0], [5] * 4)
    assert_same_bits(model(x[2:3, :3])[0][0][0], y[0][2])
    tape = model.record(x, lengths=LENGTHS)
    dy = drawn(2, (4, 5, 6), "float64")
    dx, _ = tape.backward((dy[0][..., :3], dy[1][:, 0]))

    def loss() -> float:
        one, other = model(x, lengths=LENGTHS)[0]
        return float((one * dy[0][..., :3]).sum() + (other * dy[1][:, 0]).sum())

    wanted = central_difference(loss, x, np.arange(21))  # of row 0, all of whose steps are valid
    np.testing.assert_allclose(dx.ravel()[:21], wanted, rtol=0, atol=1e-7)
    whole = rc.Sequential(
        rc.GRU(3, 4, return_sequences=False), rc.RepeatVector(5), rc.LSTM(4, 6), rc.Linear(6, 3), seed=0
    )
    rows = [np.ones((steps, 3)) for steps in (4, 9, 2)]
    options: dict[str, Any] = {"loss": rc.losses.MeanSquaredError(), "verbose": 0}
    history = whole.fit(rows, np.zeros((3, 5, 3)), optimizer=rc.optim.Adam(0.1), epochs=20, seed=0, **options)
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]
    assert np.shape(whole.predict(rows)) == (3, 5, 3)
    decoder = rc.Sequential(rc.RepeatVector(4), rc.GRU(2, 3), seed=0)
    decoder.fit(np.ones((3, 2)), np.zeros((3, 4, 3)), optimizer=rc.optim.Adam(0.1), epochs=2, seed=0, **options)
    assert decoder.predict(np.ones((3, 2))).shape == (3, 4, 3)
    assert decoder.return_sequences
    with pytest.raises(ValueError, match=r"expected \(3, 4, 3\)"):
        decoder.fit(np.ones((3, 2)), np.zeros((3, 5, 3)), optimizer=rc.optim.Adam(0.1), **options)


def learnt(dtype: str) -> Any:
    """A first state and a query."""
    x = rc.Input(features=3)
    start, query = rc.LearntVector(4, dtype=dtype), rc.LearntVector(4, init="uniform", dtype=dtype)
    h = rc.GRU(3, 4, dtype=dtype)(x, state=start(x))
    z = rc.MultiplicativeAttention(4, 4, dtype=dtype)((query(x), h))
    return rc.Model(x, (z, h), seed=0)


def test_learnt_vectors(tmp_path: Path) -> None:
    model = learnt("float64")
    with model.edit() as params:
        params["0.value"][...] = [0.5, -1, 2, 0]
    x = drawn(1, (4, 7, 3), "float64")[0]
    y, h = model(x, lengths=LENGTHS)[0]
    gru: Any = next(layer for layer in model.layers if isinstance(layer, rc.GRU))
    state = np.repeat(model.params["0.value"][None, None], 4, axis=1)
    assert_same_bits(h, gru(x, state, LENGTHS)[0])
    assert_same_bits(model(x[2:3, :3])[0][0][0], y[2])
    dy, dh = drawn(1, y.shape, "float64")[0], drawn(1, h.shape, "float64", 1)[0]
    model.zero_grad()
    model.record(x, lengths=LENGTHS).backward((dy, dh))

    def loss() -> float:
        one, other = model(x, lengths=LENGTHS)[0]
        return float(
            (one * dy).sum() + (other[np.arange(7) < LENGTHS[:, None]] * dh[np.arange(7) < LENGTHS[:, None]]).sum()
        )

    for name in model.params:
        variable = model.params[name].copy()

        def f(name: str = name, variable: Array = variable) -> float:
            model.params[name] = variable
            return loss()

        wanted = central_difference(f, variable, np.arange(variable.size))
        np.testing.assert_allclose(model.grads[name].ravel(), wanted, rtol=0, atol=1e-7, err_msg=name)
        model.params[name] = variable
    model.save(tmp_path / "model")
    assert_same_bits(rc.load(tmp_path / "model")(x)[0][0], model(x)[0][0])
    single = learnt("float32")
    assert not single.params["0.value"].any()
    with pytest.raises(ValueError, match="whole sequence"):
        single.stream()
    x = np.random.default_rng(0).standard_normal((9, 5, 3)).astype(np.float32)
    tape = rc.LearntVector(2).record(x)
    assert tape.y.shape == (9, 2)
    assert not tape.backward(np.ones((9, 2), np.float32))[0].any()
