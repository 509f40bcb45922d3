"""Pooling over windows of steps: values, gradients, padding, episodes, and states that know how much of them is
there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from single_thread import central_difference

pytestmark = pytest.mark.every_isa

LAYERS = {"max": rc.MaxPool1d, "mean": rc.AvgPool1d}
CASES = [
    (kernel, stride, padding)
    for kernel in (1, 2, 3, 6)
    for stride in (1, 2, 5)
    for padding in ("valid", "same", "causal")
]


def expected(mode: str, x: Array, kernel: int, stride: int, padding: str, reset: Array | None = None) -> Array:
    """Of one row, window by window."""
    steps = len(x)
    before = {"valid": 0, "same": (kernel - 1) // 2, "causal": kernel - 1}[padding]
    count = max(0, (steps - kernel) // stride + 1) if padding == "valid" else -(-steps // stride)
    episode = np.zeros(steps, int) if reset is None else np.cumsum(reset)
    found = []
    for t in range(count):
        own = t * stride
        window = [i for i in range(own - before, own - before + kernel) if 0 <= i < steps]
        window = [i for i in window if reset is None or episode[i] == episode[own]]
        found.append(getattr(x[window], mode)(0))
    return np.array(found).reshape(count, x.shape[1])


@pytest.mark.parametrize("mode", LAYERS)
@pytest.mark.parametrize(("kernel", "stride", "padding"), CASES)
def test_windows(mode: str, kernel: int, stride: int, padding: str) -> None:
    """Ragged, in float64, beside every window written out."""
    layer: Any = LAYERS[mode](kernel, stride, padding, dtype="float64")
    rng = np.random.default_rng(0)
    lengths = np.array([13, 0, 1, 5, 2])
    x = rng.standard_normal((5, 13, 3))
    x[np.arange(13) >= lengths[:, None]] = np.nan
    y, _ = layer(x, lengths=lengths)
    valid = layer.output_lengths(lengths)
    for row, length in enumerate(lengths):
        wanted = expected(mode, x[row, :length], kernel, stride, padding)
        assert valid[row] == len(wanted)
        np.testing.assert_allclose(y[row, : len(wanted)], wanted, rtol=0, atol=1e-15)
        assert not y[row, len(wanted) :].any()
    if padding != "valid" and stride == 1:
        reset = rng.random((5, 13)) < 0.3
        y, _ = layer(x, lengths=lengths, reset=reset)
        for row, length in enumerate(lengths):
            wanted = expected(mode, x[row, :length], kernel, stride, padding, reset[row, :length])
            np.testing.assert_allclose(y[row, :length], wanted, rtol=0, atol=1e-15)
    elif stride > 1:
        with pytest.raises(ValueError, match="got reset, expected none"):
            layer(x, lengths=lengths, reset=np.zeros((5, 13), bool))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kernel", "stride"), [(2, None), (3, 2), (4, 1)])
def test_as_torch(kernel: int, stride: int | None, dtype: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 11, 5)).astype(dtype)
    for ours, theirs in ((rc.MaxPool1d, torch.nn.MaxPool1d), (rc.AvgPool1d, torch.nn.AvgPool1d)):
        leaf = torch.tensor(x, requires_grad=True)
        wanted = theirs(kernel, stride)(leaf.transpose(1, 2)).transpose(1, 2)
        tape = ours(kernel, stride, dtype=dtype).record(x)
        dy = rng.standard_normal(tape.y.shape).astype(dtype)
        wanted.backward(torch.from_numpy(dy))
        atol = 4 * np.finfo(dtype).eps
        np.testing.assert_allclose(tape.y, wanted.detach().numpy(), rtol=0, atol=atol)
        assert leaf.grad is not None
        np.testing.assert_allclose(tape.backward(dy)[0], leaf.grad.numpy(), rtol=0, atol=atol)


@pytest.mark.parametrize("mode", LAYERS)
def test_gradients_by_central_differences(mode: str) -> None:
    """Of inputs and states, with states and episodes, ragged; the count is no variable."""
    layer: Any = LAYERS[mode](4, 1, "causal", features=2, dtype="float64")
    rng = np.random.default_rng(0)
    x, lengths = rng.standard_normal((4, 6, 2)), np.array([6, 0, 2, 5])
    reset = rng.random((4, 6)) < 0.25
    past, count = rng.standard_normal((3, 4, 2)), np.array([3.0, 2.0, 1.0, 0.0]).reshape(1, 4, 1)
    dy, dpast = rng.standard_normal((4, 6, 2)), rng.standard_normal((3, 4, 2))

    def loss() -> float:
        y, (end, _count) = layer(x, (past, count), lengths, reset)
        return float((y * dy).sum() + (end * dpast).sum())

    tape = layer.record(x, (past, count), lengths, reset)
    dx, (dstart, dcount) = tape.backward(dy, (dpast, None))
    for actual, variable in ((dx, x), (dstart, past)):
        entries = np.arange(variable.size)
        wanted = central_difference(loss, variable, entries)
        np.testing.assert_allclose(actual.ravel(), wanted, rtol=0, atol=1e-8)
    assert not dcount.any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", LAYERS)
def test_chunks_have_the_bits_of_the_whole(mode: str, dtype: str) -> None:
    """Also negative inputs at the start, where a state of zeros must not count as steps."""
    layer: Any = LAYERS[mode](4, 1, "causal", features=5, dtype=dtype)
    rng = np.random.default_rng(1)
    x = -1 - rng.random((3, 20, 5)).astype(dtype)
    reset = rng.random((3, 20)) < 0.2
    whole, final = layer(x, reset=reset)
    np.testing.assert_array_equal(whole[:, 0], x[:, 0])
    state, parts = None, []
    for begin, end in ((0, 1), (1, 3), (3, 3), (3, 12), (12, 20)):
        y, state = layer(x[:, begin:end], state, reset=reset[:, begin:end])
        parts.append(y)
    assert_same_bits(np.concatenate(parts, axis=1), whole)
    stream = layer.stream(batch_size=3)
    for t in range(20):
        assert_same_bits(stream.step(x[:, t], reset[:, t]), whole[:, t])
    assert state is not None
    for one, other, wanted in zip(state, stream.state(), final, strict=True):
        assert_same_bits(one, wanted)
        assert_same_bits(other, wanted)


def test_ties_and_nan() -> None:
    layer = rc.MaxPool1d(3, 1, "same")
    x = np.array([1, 1, 0, np.nan, 2, 2], np.float32).reshape(1, 6, 1)
    tape = layer.record(x)
    np.testing.assert_array_equal(tape.y[0, :, 0], [1, 1, np.nan, np.nan, np.nan, 2])
    dx, _ = tape.backward(np.ones((1, 6, 1), np.float32))
    np.testing.assert_array_equal(dx[0, :, 0], [2, 0, 0, 0, 1, 0])


def test_mistakes() -> None:
    for make, text in [
        (lambda: rc.MaxPool1d(0), "kernel_size"),
        (lambda: rc.MaxPool1d(2, padding="full"), "'valid'|'causal'"),
        (lambda: rc.AvgPool1d(2, 0), "stride"),
        (lambda: rc.AvgPool1d(3, 1, "causal").stream(), "features="),
        (lambda: rc.MaxPool1d(3).stream(), "stride=3"),
        (lambda: rc.MaxPool1d(3, features=4)(np.zeros((1, 5, 3), np.float32)), "expected 4"),
    ]:
        with pytest.raises(ValueError, match=text):
            make()
