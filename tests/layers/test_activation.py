"""Activations against float64 and torch."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

import recurra as rc
from agreement import assert_as_close_as
from array_types import Array
from layer_cases import ACTIVATIONS, FUNCTIONS, SHAPED, draw

pytestmark = pytest.mark.every_isa


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    y: Array = e / e.sum(-1, keepdims=True)
    return y


SPECIFIED: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "gelu": lambda x: 0.5 * x * np.vectorize(math.erfc)(-x / math.sqrt(2)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(0, x),
    "softmax": _softmax,
}


def by_torch(name: str, x: Array, dy: Array, dtype: str) -> dict[str, Array]:
    leaf = torch.tensor(x.astype(dtype), requires_grad=True)
    name = {"hard_sigmoid": "hardsigmoid", "hard_swish": "hardswish", "hard_tanh": "hardtanh"}.get(name, name)
    function = getattr(torch if name in FUNCTIONS else torch.nn.functional, name, None)
    y = torch.softmax(leaf, -1) if name == "softmax" else function(leaf)  # type: ignore[misc]
    y.backward(torch.from_numpy(dy.astype(dtype)))
    assert leaf.grad is not None
    return {"y": y.detach().numpy(), "dx": leaf.grad.numpy()}


def solve(name: str, x: Array, dy: Array) -> dict[str, Array]:
    tape = rc.Activation(name, dtype=x.dtype).record(x)
    y = tape.y.copy()
    dx, _ = tape.backward(dy)
    assert dx is not None
    return {"y": y, "dx": dx}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_and_gradients(name: str) -> None:
    """float64 to 1e-12, float32 as close as torch; zero is among the arguments."""
    assert list(SPECIFIED) == ACTIVATIONS
    rng = np.random.default_rng(0)
    x = 3 * rng.standard_normal((7, 33, 45), np.float32)
    x[0, 0] = 0
    dy = rng.standard_normal(x.shape, np.float32)
    wide = x.astype(np.float64)
    exact, peer = by_torch(name, x, dy, "float64"), by_torch(name, x, dy, "float32")
    ours, precise = solve(name, x, dy), solve(name, wide, dy.astype(np.float64))
    np.testing.assert_allclose(precise["y"], SPECIFIED[name](wide), rtol=0, atol=1e-12)
    for part, truth in exact.items():
        np.testing.assert_allclose(precise[part], truth, rtol=0, atol=1e-12)
        assert_as_close_as(peer[part], ours[part], truth, part)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_far_out(name: str) -> None:
    """Large arguments give limits, not NaN."""
    x = np.array([[1e30, -1e30, 1e4, -1e4]], np.float32)
    found = solve(name, x, np.ones_like(x))
    assert np.isfinite(found["y"]).all()
    assert np.isfinite(found["dx"]).all()
    with np.errstate(over="ignore"):
        expected = SPECIFIED[name](x.astype(np.float64))
    np.testing.assert_allclose(found["y"], expected, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_torchs(name: str) -> None:
    """Where they have numbers: float64 to 1e-12, float32 as close as torch."""
    x = draw(name, (5, 33, 45)).astype(np.float32)
    dy = np.random.default_rng(1).standard_normal(x.shape, np.float32)
    exact, peer = by_torch(name, x, dy, "float64"), by_torch(name, x, dy, "float32")
    ours, precise = solve(name, x, dy), solve(name, x.astype(np.float64), dy.astype(np.float64))
    for part, truth in exact.items():
        np.testing.assert_allclose(precise[part], truth, rtol=1e-14, atol=1e-12)
        assert_as_close_as(peer[part], ours[part], truth, part)


@pytest.mark.parametrize("name", SHAPED)
def test_other_activations_are_torchs(name: str) -> None:
    """float64 to 1e-12, float32 as close as torch; where slopes change, and far out."""
    rng = np.random.default_rng(0)
    x = 3 * rng.standard_normal((5, 33, 45), np.float32)
    x[0, 0, :12] = [0.0, -0.0, 3.0, -3.0, 1.0, -1.0, 6.0, 1e4, -1e4, 1e30, -1e30, np.nan]
    dy = rng.standard_normal(x.shape, np.float32)
    exact, peer = by_torch(name, x, dy, "float64"), by_torch(name, x, dy, "float32")
    ours, precise = solve(name, x, dy), solve(name, x.astype(np.float64), dy.astype(np.float64))
    assert np.isnan(ours["y"][0, 0, 11])
    if name == "hard_sigmoid":  # torch multiplies by 1/6 in float32
        exact["dx"] = np.where(np.abs(x) < 3, dy.astype(np.float64), 0.0) / 6
    for part, truth in exact.items():
        for array in (truth, peer[part], ours[part], precise[part]):
            array[0, 0, 11] = 0.0
        if name == "hard_swish":  # torch's releases differ in the slope at 3
            for array in (truth, peer[part], ours[part], precise[part]):
                array[0, 0, 2:4] = 0.0
        np.testing.assert_allclose(precise[part], truth, rtol=1e-14, atol=1e-12)
        assert_as_close_as(peer[part], ours[part], truth, part)


@pytest.mark.parametrize("slopes", [1, 5, 15])
def test_prelu_is_torchs(slopes: int) -> None:
    """One slope, one for each feature, and one for each channel of 3 places."""
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 30, 7, 15), np.float32)
    x[0, 0, 0] = 0.0
    weight = rng.standard_normal(slopes, np.float32)
    found = {}
    for dtype in ("float32", "float64"):
        layer = rc.PReLU(slopes, dtype=dtype)
        layer.params["weight"] = weight.astype(dtype)
        tape = layer.record(x.astype(dtype))
        y = tape.y.copy()
        dx, _ = tape.backward(dy.astype(dtype))
        ours = {"y": y, "dx": dx, "weight": layer.grads["weight"]}
        leaf, slope = (torch.tensor(one.astype(dtype), requires_grad=True) for one in (x, weight))
        out = torch.nn.functional.prelu(leaf.reshape(-1, slopes), slope).reshape(leaf.shape)
        out.backward(torch.from_numpy(dy.astype(dtype)))
        assert leaf.grad is not None
        assert slope.grad is not None
        found[dtype] = ours, {"y": out.detach().numpy(), "dx": leaf.grad.numpy(), "weight": slope.grad.numpy()}
    for name, truth in found["float64"][1].items():
        np.testing.assert_allclose(found["float64"][0][name], truth, rtol=1e-12, atol=1e-12)
        assert_as_close_as(found["float32"][1][name], found["float32"][0][name], truth, name)
    fresh = rc.PReLU(slopes, 0.5).params["weight"]
    assert (fresh == 0.5).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_at_the_ends_are_torchs(name: str, dtype: str) -> None:
    """Zeros, infinities, NaN, and what is not defined."""
    x = np.array([[0.0, -0.0, 1.0, -1.0, 1e30, -1e30, np.inf, -np.inf, np.nan]], dtype)
    dy = np.ones_like(x)
    ours, peer = solve(name, x, dy), by_torch(name, x, dy, dtype)
    np.testing.assert_array_equal(ours["y"], peer["y"])
    finite = np.isfinite(x)
    np.testing.assert_array_equal(ours["dx"][finite], peer["dx"][finite])


def test_refusals() -> None:
    with pytest.raises(ValueError, match="Activation: got name='swish', expected one of 'relu'"):
        rc.Activation("swish")
