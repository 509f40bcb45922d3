"""Pool and AttentionPool against plain numpy and torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import recurra as rc
from agreement import assert_as_close_as, assert_same_bits
from array_types import DTYPES, Array

pytestmark = pytest.mark.every_isa


def specified(mode: str, x: Array) -> Array:
    """One row, (T, features)."""
    if not len(x):
        return np.zeros(x.shape[1])
    value: Array = x[-1] if mode == "last" else x.mean(0) if mode == "mean" else x.max(0)
    return value


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 5, 33])
@pytest.mark.parametrize("mode", ["last", "mean", "max"])
def test_pool(mode: str, size: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    lengths = np.array([300, 0, 1, 77])
    x = rng.standard_normal((4, 300, size)).astype(dtype)
    y, state = rc.Pool(mode, dtype=dtype)(x, lengths=lengths)
    assert state is None
    for row, length in enumerate(lengths):
        expected = specified(mode, x[row, :length].astype(np.float64))
        np.testing.assert_allclose(y[row], expected, rtol=0, atol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("mode", ["last", "mean", "max"])
def test_only_the_last_episode_counts(mode: str) -> None:
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((3, 20, 5)), rng.standard_normal((3, 5))
    reset = np.zeros((3, 20), bool)
    reset[0, [4, 11]] = True
    reset[1, 0] = True
    reset[2, 19] = True
    lengths = np.array([20, 20, 15])
    layer = rc.Pool(mode, dtype="float64")
    tape = layer.record(x, lengths=lengths, reset=reset)
    y = tape.y.copy()
    dx, _ = tape.backward(dy)
    assert dx is not None
    for row, (begin, end) in enumerate([(11, 20), (0, 20), (0, 15)]):
        alone = layer.record(x[row : row + 1, begin:end])
        assert_same_bits(y[row], alone.y[0])
        gradient, _ = alone.backward(dy[row : row + 1])
        assert gradient is not None
        assert_same_bits(dx[row, begin:end], gradient[0])
        assert not dx[row, :begin].any()
        assert not dx[row, end:].any()


def test_the_first_of_equal_maxima_gets_the_gradient() -> None:
    x = np.array([[[1.0], [3.0], [2.0], [3.0]], [[-0.0], [0.0], [0.0], [-1.0]]])
    tape = rc.Pool("max", dtype="float64").record(x)
    dx, _ = tape.backward(np.array([[5.0], [7.0]]))
    assert dx is not None
    np.testing.assert_array_equal(dx[..., 0], [[0, 5, 0, 0], [7, 0, 0, 0]])


def test_nan_in_a_valid_step_shows() -> None:
    for place in (0, 1, 2):
        x = np.zeros((1, 3, 2), np.float32)
        x[0, place, 1] = np.nan
        for mode in ("mean", "max"):
            y, _ = rc.Pool(mode)(x)
            assert y[0, 0] == 0
            assert np.isnan(y[0, 1])


def by_torch(layer: Any, x: Array, dy: Array, lengths: Array, dtype: str) -> dict[str, Array]:
    params = {name: torch.tensor(layer.params[name].astype(dtype), requires_grad=True) for name in layer.params}
    leaf = torch.tensor(x.astype(dtype), requires_grad=True)
    scores = torch.tanh(leaf @ params["weight"].T + params["bias"]) @ params["context"]
    valid = torch.from_numpy(np.arange(x.shape[1]) < lengths[:, None])
    weights = torch.softmax(scores.masked_fill(~valid, -torch.inf), 1)
    y = (weights[..., None] * leaf).sum(1)
    y.backward(torch.from_numpy(dy.astype(dtype)))
    found = {"weights": weights.detach(), "y": y.detach(), "dx": leaf.grad}
    found.update({name: tensor.grad for name, tensor in params.items()})
    return {name: tensor.numpy() for name, tensor in found.items() if tensor is not None}


@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (3, 7, 5, 3), (4, 100, 33, 17)], ids=str)
def test_attention_pool(shape: tuple[int, int, int, int]) -> None:
    rows, steps, size, hidden = shape
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((rows, steps, size), np.float32), rng.standard_normal((rows, size), np.float32)
    lengths = rng.integers(1, steps + 1, rows)
    single = rc.AttentionPool(size, hidden, seed=0)
    double = rc.AttentionPool(size, hidden, dtype="float64", seed=0)
    double.load_state_dict({name: single.params[name].astype(np.float64) for name in single.params})
    exact, peer = (by_torch(single, x, dy, lengths, dtype) for dtype in ("float64", "float32"))
    found = {}
    for layer, dtype in ((single, "float32"), (double, "float64")):
        tape = layer.record(x.astype(dtype), lengths=lengths)
        y = tape.y.copy()
        dx, _ = tape.backward(dy.astype(dtype))
        assert dx is not None
        weights = layer.weights(x.astype(dtype), lengths)
        found[dtype] = {"weights": weights, "y": y, "dx": dx, **layer.grads}
    for name, truth in exact.items():
        np.testing.assert_allclose(found["float64"][name], truth, rtol=0, atol=1e-12)
        assert_as_close_as(peer[name], found["float32"][name], truth, name)


def test_attention_weights() -> None:
    """NaN in padding is not read, a row's weights are its own, and they give the output."""
    layer = rc.AttentionPool(4, dtype="float64", seed=0)
    assert layer.hidden_size == 4
    rng = np.random.default_rng(0)
    x, lengths = rng.standard_normal((3, 8, 4)), np.array([8, 0, 3])
    x[np.arange(8) >= lengths[:, None]] = np.nan
    weights = layer.weights(x, lengths)
    assert weights.shape == (3, 8)
    np.testing.assert_allclose(weights.sum(1), [1, 0, 1], atol=1e-15)
    assert not weights[2, 3:].any()
    assert_same_bits(layer.weights(x[2:, :3])[0], weights[2, :3])
    y, _ = layer(x, lengths=lengths)
    np.testing.assert_allclose(y[0], weights[0] @ x[0], atol=1e-15)
    with pytest.raises(ValueError, match=r"AttentionPool.weights: x has shape \(8, 4\), expected \(N, T, 4\)"):
        layer.weights(x[0])
    with pytest.raises(ValueError, match=r"AttentionPool.weights: lengths\[0\] is 9"):
        layer.weights(x, [9, 0, 3])


@pytest.mark.parametrize("mode", ["last", "mean", "max", "attention"])
def test_a_tagger_that_pools(mode: str) -> None:
    """Lists of ragged rows in, a vector for each out."""
    pool: Any = rc.AttentionPool(6) if mode == "attention" else rc.Pool(mode)
    model = rc.Sequential(rc.GRU(3, 6, bidirectional=False), pool, rc.Linear(6, 2), seed=0)
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal((steps, 3)) for steps in (4, 9, 0, 2)]
    options: dict[str, Any] = {"loss": rc.losses.CrossEntropy(), "optimizer": rc.optim.Adam(1e-2)}
    history = model.fit(rows, [0, 1, 0, 1], **options, epochs=2, batch_size=2, seed=0, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert np.shape(model.predict(rows)) == (4, 2)
