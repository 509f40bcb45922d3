"""Losses of one's own: classes of ten lines and functions, of arrays or of PyTorch's tensors, count as the built-in
ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recurra as rc
from array_types import Array

LENGTHS = np.array([4, 0, 6, 1])
rng = np.random.default_rng(0)
X, T = rng.standard_normal((2, 4, 6, 3))


class Square(rc.losses.CustomLoss):
    def compute(self, predictions: Array, targets: Array) -> tuple[float, Array]:
        error = predictions - targets
        return float((error**2).mean()), 2 * error / error.size


def square(prediction: Array, target: Array) -> tuple[float, Array]:
    return Square().compute(prediction, target)


def square_of_tensors(prediction: Any, target: Any) -> Any:
    return torch.mean((prediction - target) ** 2)


OURS = {
    "class": Square(),
    "function": rc.losses.Function(square),
    "tensors": rc.losses.Function(square_of_tensors),
    "module": rc.losses.find(torch.nn.MSELoss()),
    "functional": rc.losses.find(torch.nn.functional.mse_loss),
    "both": rc.losses.find(lambda prediction, target: ((prediction - target) ** 2).mean()),
}


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lengths", [None, LENGTHS, np.zeros(4, int)])
@pytest.mark.parametrize("weights", [None, np.array([0.0, 1.0, 1.0, 1.0]), np.full(4, 2.5)])
def test_it_counts_as_the_built_in_one(name: str, dtype: str, lengths: Any, weights: Any) -> None:
    x, t = X.astype(dtype), T.astype(dtype)
    if lengths is not None:  # padding is never read
        for array in (x, t):
            array[np.arange(6) >= lengths[:, None]] = np.nan
    found = OURS[name](x, t, lengths, weights=weights)
    expected = rc.losses.MeanSquaredError()(x, t, lengths, weights=weights)
    assert found.count * 3 == expected.count  # steps, not numbers
    np.testing.assert_allclose(found.sum * 3, expected.sum, rtol=1e-5)
    assert found.gradient is not None
    assert found.gradient.dtype == dtype
    np.testing.assert_allclose(found.gradient * 3, expected.gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", OURS)
def test_it_trains_as_the_built_in_one(name: str) -> None:
    rows = [row[: 3 + index] for index, row in enumerate(X)]
    targets = [row[: 3 + index] for index, row in enumerate(T)]
    histories = []
    for loss in (OURS[name], "mse"):
        model = rc.Sequential(rc.GRU(3, 3, seed=0))
        histories.append(
            model.fit(rows, targets, loss=loss, optimizer=rc.optim.Adam(0.01), epochs=3, batch_size=2, accumulate=2,
                      seed=1, verbose=0).history["loss"]
        )  # fmt: skip
        assert histories[-1][-1] < histories[-1][0]
    np.testing.assert_allclose(histories[0], histories[1], rtol=1e-4)


def test_labels_come_as_integers() -> None:
    seen = []

    def cross(prediction: Any, target: Any) -> Any:
        seen.append(target.dtype)
        return torch.nn.functional.cross_entropy(prediction, target)

    labels = rng.integers(0, 3, (4, 6))
    found = rc.losses.find(cross)(X, labels, LENGTHS)
    expected = rc.losses.CrossEntropy()(X, labels, LENGTHS)
    assert seen[-1] == torch.int64
    np.testing.assert_allclose([found.sum, found.count], [expected.sum, expected.count])
    np.testing.assert_allclose(found.gradient, expected.gradient, atol=1e-12)


class Given(rc.losses.CustomLoss):
    def __init__(self, result: Any) -> None:
        self.result = result

    def compute(self, predictions: Array, targets: Array) -> Any:
        return self.result


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (Given(0.5), TypeError, r"got 0\.5 from Given\.compute, expected the pair of .*return mean, gradient"),
        (Given(np.zeros((24, 3))), TypeError, r"got one value per element, of shape \(24, 3\), .*take the mean"),
        (rc.losses.Function(lambda p, t: np.square(np.asarray(p) - t).sum()), TypeError, r"of PyTorch's or JAX's oper"),
        (Given((0.5, np.zeros(3))), ValueError, r"a gradient of shape \(3,\).*expected .*\(24, 3\)"),
        (Given(("a", X)), TypeError, r"got 'a' as the mean from Given\.compute"),
        (rc.losses.Function(lambda p, t: float(np.exp(np.asarray(p)).sum())), TypeError, r"expected the pair of"),
    ],
)
def test_a_wrong_result_is_told(loss: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        loss(X, T)


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(TypeError, match=r"^fit: loss: Function: got a function of y_true, y_pred, .*prediction first"):
        rc.Sequential(rc.Linear(3, 3)).fit(X, T, loss=lambda y_true, y_pred: 0, optimizer="adam")  # type: ignore[misc]
    with pytest.raises(ValueError, match=r"got targets of shape \(4, 5, 3\), expected \(4, 6, '\.\.\.'\)"):
        Square()(X, T[:, :5])
    with pytest.raises(ValueError, match=r"got different weights for Square\.compute"):
        Square()(X, T, weights=[1.0, 2.0, 3.0, 4.0])
    with pytest.raises(ZeroDivisionError):
        rc.losses.Function(lambda p, t: 1 / 0)(X, T)
    with pytest.raises(TypeError, match=r"got loss=Linear\(.*give one of recurra\.losses"):
        rc.losses.find(rc.Linear(3, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (
            lambda p, t: (p - t).pow(2).mean(dim=0),
            TypeError,
            r"got one value per element, of shape \(3,\), .*write \.mean\(\)",
        ),
        (lambda p, t: (p.detach() - t).abs().mean(), TypeError, r"that depends on the prediction"),
        (lambda p, t: torch.nn.functional.mse_loss(p, t, reduction="none"), TypeError, r"one value per element"),
        (lambda p, t: torch.mean(p - t, dim=7), IndexError, r"Dimension out of range"),
        (lambda p, t: p.none_has_this(), AttributeError, r"'numpy.ndarray' object has no attribute 'none_has_this'"),
        (lambda p, t: p.reshape(7), ValueError, r"cannot reshape array"),
    ],
)
def test_what_is_wrong_is_told_of_the_operations_used(function: Any, error: type[Exception], message: str) -> None:
    """Not of numpy's arrays, which a function of PyTorch is tried with first."""
    with pytest.raises(error, match=message):
        rc.losses.Function(function)(X, T)


def test_a_run_resumes_with_a_function_of_pytorch(tmp_path: Path) -> None:
    def squares(prediction: Any, target: Any) -> Any:
        return (prediction - target).pow(2).mean()

    def losses(epochs: int, directory: str) -> list[float]:
        backup = rc.callbacks.BackupAndRestore(tmp_path / directory, delete_checkpoint=False)
        model = rc.Sequential(rc.Linear(3, 3, seed=0))
        x = X.astype(np.float32)
        history = model.fit(x, T, loss=squares, optimizer="adam", epochs=epochs, seed=0, verbose=0, callbacks=backup)
        return history.history["loss"]

    losses(2, "a")
    assert losses(3, "a") == losses(3, "b")
