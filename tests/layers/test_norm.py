"""LayerNorm and BatchNorm against torch and the definition; running statistics."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

import recurra as rc
from agreement import assert_as_close_as, assert_same_bits
from array_types import Array

pytestmark = pytest.mark.every_isa

SHAPES = [(2, 3, 1), (2, 7, 5), (5, 33, 17), (3, 300, 64), (300, 3, 45)]


def peer(kind: str, size: int, params: dict[str, Array], dtype: str) -> Any:
    """torch's module with these parameters."""
    module = torch.nn.LayerNorm(size) if kind == "LayerNorm" else torch.nn.BatchNorm1d(size)
    module = module.to(getattr(torch, dtype))
    with torch.no_grad():
        for name, value in params.items():
            getattr(module, name).copy_(torch.from_numpy(value.astype(dtype)))
    return module


def by_torch(module: Any, x: Array, dy: Array, dtype: str) -> dict[str, Array]:
    leaf = torch.tensor(x.astype(dtype), requires_grad=True)
    y = module(leaf.reshape(-1, x.shape[-1])).reshape(leaf.shape)
    y.backward(torch.from_numpy(dy.astype(dtype)))
    found = {"y": y.detach(), "dx": leaf.grad, "weight": module.weight.grad, "bias": module.bias.grad}
    found.update({name: getattr(module, name) for name in ("running_mean", "running_var") if hasattr(module, name)})
    return {name: tensor.detach().numpy() for name, tensor in found.items()}


def solve(layer: Any, x: Array, dy: Array, **options: Any) -> dict[str, Array]:
    layer.zero_grad()
    tape = layer.record(x, **options)
    y = tape.y.copy()
    dx, _ = tape.backward(dy)
    return {"y": y, "dx": dx, **{name: layer.grads[name].copy() for name in layer.grads}, **layer.buffers}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["LayerNorm", "BatchNorm"])
def test_values_and_gradients(kind: str, shape: tuple[int, int, int], training: bool) -> None:
    """float64 to 1e-12, float32 as close as torch. Some features are far from zero."""
    size = shape[-1]
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, np.float32) + 4 * rng.standard_normal(size, np.float32)
    dy = rng.standard_normal(shape, np.float32)
    params = {"weight": rng.standard_normal(size, np.float32), "bias": rng.standard_normal(size, np.float32)}
    if kind == "BatchNorm":
        params |= {
            "running_mean": rng.standard_normal(size, np.float32),
            "running_var": rng.random(size, np.float32) + 1,
        }
    found = {}
    for dtype in ("float32", "float64"):
        layer = getattr(rc, kind)(size, dtype=dtype)
        layer.load_state_dict({name: value.astype(dtype) for name, value in params.items()})
        found[dtype] = solve(layer, x.astype(dtype), dy.astype(dtype), training=training)
    exact, close = (
        by_torch(peer(kind, size, params, dtype).train(training), x, dy, dtype) for dtype in ("float64", "float32")
    )
    for name, truth in exact.items():
        scale = max(1.0, float(np.abs(truth).max()))
        if kind == "LayerNorm" and size == 1 and name == "dx":  # nothing but rounding: the output is constant
            assert np.abs(found["float64"][name]).max() <= 1e-12
            continue
        np.testing.assert_allclose(found["float64"][name], truth, rtol=0, atol=1e-12 * scale)
        assert_as_close_as(close[name], found["float32"][name], truth, name)


def test_statistics_are_of_the_valid_steps() -> None:
    """A ragged batch with NaN as padding is torch's batch of its valid steps."""
    rng = np.random.default_rng(0)
    lengths = np.array([5, 0, 9, 1])
    x, dy = rng.standard_normal((4, 9, 6)), rng.standard_normal((4, 9, 6))
    valid = np.arange(9) < lengths[:, None]
    x[~valid], dy[~valid] = np.nan, np.nan
    layer = rc.BatchNorm(6, dtype="float64")
    ours = solve(layer, x, dy, lengths=lengths)
    expected = by_torch(peer("BatchNorm", 6, {}, "float64"), x[valid], dy[valid], "float64")
    for name, truth in expected.items():
        actual = ours[name][valid] if name in ("y", "dx") else ours[name]
        np.testing.assert_allclose(actual, truth, rtol=0, atol=1e-12)
    assert not ours["y"][~valid].any()
    assert not ours["dx"][~valid].any()


def test_what_moves_the_running_statistics() -> None:
    """A record in training, and nothing else."""
    layer = rc.BatchNorm(3, momentum=0.25, dtype="float64")
    x = np.random.default_rng(0).standard_normal((4, 5, 3))
    before = {name: array.copy() for name, array in layer.buffers.items()}
    layer(x)
    layer.record(x, training=False).backward(np.ones_like(x))
    layer.record(x, lengths=[0, 0, 0, 0])
    for name, array in layer.buffers.items():
        assert_same_bits(array, before[name])
    tape = layer.record(x)
    np.testing.assert_allclose(layer.buffers["running_mean"], 0.25 * x.mean((0, 1)), atol=1e-15)
    np.testing.assert_allclose(layer.buffers["running_var"], 0.75 + 0.25 * x.reshape(-1, 3).var(0, ddof=1), atol=1e-15)
    after = {name: array.copy() for name, array in layer.buffers.items()}
    tape.backward(np.ones_like(x))
    for name, array in layer.buffers.items():
        assert_same_bits(array, after[name])
    layer.reset_parameters()
    for name, array in layer.buffers.items():
        assert_same_bits(array, before[name])


def test_a_record_that_fails_moves_nothing() -> None:
    """The second norm has one step to train on, and refuses when the first one is done."""
    layer = rc.BatchNorm(3)
    before = {name: array.copy() for name, array in layer.buffers.items()}
    model = rc.Sequential(layer, rc.Pool("mean"), rc.BatchNorm(3))
    with pytest.raises(ValueError, match="got one valid step"):
        model.record(np.random.default_rng(0).standard_normal((1, 5, 3)).astype(np.float32))
    for name, array in layer.buffers.items():
        assert_same_bits(array, before[name])


def test_threads_lose_no_move() -> None:
    """Records of one batch on many threads end where as many in a row do."""
    x = np.random.default_rng(0).standard_normal((4, 5, 3))
    layer, twin = rc.BatchNorm(3, dtype="float64"), rc.BatchNorm(3, dtype="float64")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _index: layer.record(x).close(), range(40)))
    for _ in range(40):
        twin.record(x)
    for name, array in layer.buffers.items():
        assert_same_bits(array, twin.buffers[name])


def test_refusals() -> None:
    with pytest.raises(ValueError, match="BatchNorm: got one valid step in a batch to train on"):
        rc.BatchNorm(3).record(np.zeros((1, 1, 3), np.float32))
    for make in (rc.LayerNorm, rc.BatchNorm):
        with pytest.raises(ValueError, match=r"got eps=0\.0, expected a number above 0"):
            make(3, eps=0.0)
    with pytest.raises(ValueError, match="momentum=2"):
        rc.BatchNorm(3, momentum=2)


def test_a_model_with_norms_trains() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 12, 4)) * 30 + 100
    y = (x[:, -1, 0] > 100).astype(np.int64)
    model = rc.Sequential(rc.BatchNorm(4), rc.GRU(4, 16), rc.LayerNorm(16), rc.Pool("last"), rc.Linear(16, 2), seed=0)
    settings: dict[str, Any] = {"loss": rc.losses.CrossEntropy(), "optimizer": rc.optim.Adam(1e-2)}
    history = model.fit(x, y, **settings, epochs=30, batch_size=8, seed=0, verbose=0)
    assert history.history["loss"][-1] < 0.3 < history.history["loss"][0]
    assert (model.predict(x).argmax(1) == y).mean() > 0.9


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_frozen_layer_is_in_inference_and_its_statistics_stay(dtype: str) -> None:
    """Keras' meaning of trainable=False: recording it for training normalises by the running statistics and moves
    none."""
    norm = rc.BatchNorm(3, dtype=dtype)
    model = rc.Sequential(rc.Linear(4, 3, dtype=dtype), norm, rc.Linear(3, 2, dtype=dtype), seed=0)
    x = np.random.default_rng(0).standard_normal((6, 5, 4)).astype(dtype)
    model.record(x)
    before = {name: array.copy() for name, array in model.buffers.items()}
    norm.trainable = False
    assert not norm.trainable
    tape = model.record(x)
    expected = model.record(x, training=False)
    assert_same_bits(tape.y, expected.y)
    assert_same_bits(tape.y, model(x)[0])
    dy = np.ones_like(tape.y)
    model.zero_grad()
    dx = tape.backward(dy)[0]
    assert model.grads["1.weight"].any(), "the gradient is there; nobody steps along it"
    assert_same_bits(dx, expected.backward(dy)[0])
    model.fit(
        x, np.zeros((6, 5, 2), dtype), loss=rc.losses.MeanSquaredError(), optimizer=rc.optim.Adam(), epochs=2, verbose=0
    )
    for name, array in before.items():
        assert_same_bits(model.buffers[name], array, name)
    again = copy.deepcopy(model)
    assert not again.layers[1].trainable
    assert_same_bits(again.record(x).y, model.record(x).y)
    model.trainable = True
    model.record(x)
    assert not np.array_equal(model.buffers["1.running_mean"], before["1.running_mean"])
    one = rc.BatchNorm(3, dtype=dtype)
    one.trainable = False
    one.record(np.ones((1, 1, 3), dtype))  # which has no variance of its own


@pytest.mark.parametrize("shape", [(2, 7, 4), (3, 300, 8), (5, 1, 12)], ids=str)
@pytest.mark.parametrize("kind", ["groups", "one group", "instance", "images"])
def test_rows_and_groups_are_torchs(kind: str, shape: tuple[int, int, int]) -> None:
    """GroupNorm and InstanceNorm1d: float64 to 1e-12, float32 as close as torch. Some features are far from zero."""
    size = shape[-1]
    groups, channels = {"groups": (4, size), "one group": (1, size), "instance": (size, size), "images": (2, 4)}[kind]
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, np.float32) + 4 * rng.standard_normal(size, np.float32)
    dy = rng.standard_normal(shape, np.float32)
    params = {name: rng.standard_normal(channels, np.float32) for name in ("weight", "bias")}
    found = {}
    for dtype in ("float32", "float64"):
        layer: Any = rc.GroupNorm(groups, channels, dtype=dtype)
        if kind == "instance":
            layer = rc.InstanceNorm1d(size, affine=True, dtype=dtype)
        layer.load_state_dict({name: value.astype(dtype) for name, value in params.items()})
        module = torch.nn.GroupNorm(groups, channels).to(getattr(torch, dtype))
        with torch.no_grad():
            for name, value in params.items():
                getattr(module, name).copy_(torch.from_numpy(value))
        leaf = torch.tensor(x.astype(dtype), requires_grad=True)
        turned = leaf.reshape(shape[0], -1, channels).transpose(1, 2)
        y = module(turned).transpose(1, 2).reshape(shape)
        y.backward(torch.from_numpy(dy.astype(dtype)))
        assert leaf.grad is not None
        peers = {"y": y, "dx": leaf.grad, "weight": module.weight.grad, "bias": module.bias.grad}
        found[dtype] = (
            solve(layer, x.astype(dtype), dy.astype(dtype)),
            {name: tensor.detach().numpy() for name, tensor in peers.items() if tensor is not None},
        )
    for name, truth in found["float64"][1].items():
        scale = max(1.0, float(np.abs(truth).max()))
        np.testing.assert_allclose(found["float64"][0][name], truth, rtol=0, atol=1e-11 * scale)
        if shape[1] > 1:  # with one step some outputs are nothing but rounding
            assert_as_close_as(found["float32"][1][name], found["float32"][0][name], truth, name)


def test_rows_are_normalised_alone_over_their_valid_steps() -> None:
    rng = np.random.default_rng(0)
    x, lengths = rng.standard_normal((4, 9, 6)), np.array([5, 0, 9, 1])
    for layer in (rc.GroupNorm(2, 6, dtype="float64"), rc.InstanceNorm1d(6, dtype="float64")):
        y, _ = layer(x, lengths=lengths)
        for row, length in enumerate(lengths):
            if not length:
                continue
            count = 2 if layer.label == "GroupNorm" else 6
            groups = x[row, :length].reshape(length, count, -1)
            mean, variance = groups.mean((0, 2), keepdims=True), groups.var((0, 2), keepdims=True)
            expected = ((groups - mean) / np.sqrt(variance + 1e-5)).reshape(length, 6)
            np.testing.assert_allclose(y[row, :length], expected, atol=1e-12)
            assert not y[row, length:].any()
        with pytest.raises(ValueError, match=rf"^{layer.label}: got reset, expected none"):
            layer(x, reset=np.ones((4, 9), bool))
