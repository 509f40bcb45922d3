"""Functions of JAX's operations as losses."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import recurra as rc
from array_types import Array

LENGTHS = np.array([4, 0, 6, 1])
X, T = np.random.default_rng(0).standard_normal((2, 4, 6, 3))


def square(prediction: Any, target: Any) -> Any:
    return jax.numpy.mean((prediction - target) ** 2)


def updated(prediction: Any, target: Any) -> Any:
    """Arrays of numpy have no `.at`."""
    return ((prediction - target).at[0].mul(1.0) ** 2).mean()


OURS = {
    "plain": square,
    "compiled": jax.jit(square),
    "not of numpy": updated,
    "pair": lambda prediction, target: jax.value_and_grad(square)(jax.numpy.asarray(prediction), target),
}


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_it_counts_as_the_built_in_one(name: str, lengths: Array | None) -> None:
    x = X.astype(np.float32)
    found = rc.losses.Function(OURS[name])(x, T, lengths)
    expected = rc.losses.MeanSquaredError()(x, T, lengths)
    np.testing.assert_allclose(found.sum * 3, expected.sum, rtol=1e-5)
    assert found.gradient is not None
    assert found.gradient.dtype == x.dtype
    np.testing.assert_allclose(found.gradient * 3, expected.gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["plain", "compiled", "not of numpy"])
def test_in_float64(name: str) -> None:
    assert rc.check_gradient(OURS[name], X, T, LENGTHS, tolerance=1e-7)
    assert jax.numpy.ones(1).dtype == np.float32  # the caller's setting is what it was


def test_it_trains() -> None:
    model = rc.Sequential(rc.GRU(3, 3, seed=0))
    history = model.fit(X, T, loss=square, optimizer=rc.optim.Adam(0.01), epochs=3, seed=1, verbose=0).history["loss"]
    like = rc.Sequential(rc.GRU(3, 3, seed=0))
    expected = like.fit(X, T, loss="mse", optimizer=rc.optim.Adam(0.01), epochs=3, seed=1, verbose=0).history["loss"]
    np.testing.assert_allclose(history, expected, rtol=1e-4)


def test_labels_and_wrong_results() -> None:
    def cross(prediction: Any, target: Any) -> Any:
        return -jax.numpy.take_along_axis(jax.nn.log_softmax(prediction), target[:, None], 1).mean()

    labels = np.random.default_rng(1).integers(0, 3, (4, 6))
    found = rc.losses.find(cross)(X, labels, LENGTHS)
    expected = rc.losses.CrossEntropy()(X, labels, LENGTHS)
    np.testing.assert_allclose([found.sum, found.count], [expected.sum, expected.count])
    np.testing.assert_allclose(found.gradient, expected.gradient, atol=1e-12)
    with pytest.raises(TypeError, match=r"expected the pair of a number and its gradient"):
        rc.losses.find(lambda prediction, target: jax.numpy.abs(prediction - target))(X, T)
