"""Optimisers: PyTorch's steps, over layers and models; scaling, clipping, frozen layers, memory that can be saved."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import recurra as rc
from support import Array, assert_same_bits
from test_values import DTYPES
from user_layers import Scale

pytestmark = pytest.mark.every_isa

PAIRS: dict[str, tuple[Callable[[], Any], Callable[[Any], torch.optim.Optimizer]]] = {
    "SGD": (lambda: rc.optim.SGD(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "SGD decay": (lambda: rc.optim.SGD(0.1, weight_decay=0.3), lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.3)),
    "momentum": (
        lambda: rc.optim.SGD(0.1, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1),
    ),
    "Nesterov": (
        lambda: rc.optim.SGD(0.1, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True),
    ),
    "Adam": (lambda: rc.optim.Adam(0.02), lambda p: torch.optim.Adam(p, 0.02)),
    "Adam decay": (
        lambda: rc.optim.Adam(0.02, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.3),
        lambda p: torch.optim.Adam(p, 0.02, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.3),
    ),
    "AdamW": (lambda: rc.optim.AdamW(0.02), lambda p: torch.optim.AdamW(p, 0.02)),
    "AdamW decay": (
        lambda: rc.optim.AdamW(0.02, weight_decay=0.3),
        lambda p: torch.optim.AdamW(p, 0.02, weight_decay=0.3),
    ),
}
OPTIMIZERS = {name: pair[0] for name, pair in PAIRS.items()}


def gradients(layer: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for name in layer.grads:
        layer.grads[name][...] = rng.standard_normal(layer.grads[name].shape)


def model(dtype: str = "float32") -> Any:
    return rc.Sequential(rc.GRU(3, 17, 2, dtype=dtype), Scale(17, dtype), rc.Linear(17, 5, dtype=dtype), seed=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_the_steps_are_torchs(pair: Any, dtype: str) -> None:
    ours, theirs = pair[0](), model(dtype)
    tensors = {name: torch.tensor(value.copy(), requires_grad=True) for name, value in theirs.params.items()}
    peer = pair[1](list(tensors.values()))
    for step in range(20):
        gradients(theirs, step)
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(theirs.grads[name].copy())
        ours.step(theirs)
        peer.step()
    for name, tensor in tensors.items():
        # Values of order 1 moved 20 times, each time by a few roundings of the dtype; the order of operations may differ.
        atol = 20 * 8 * np.finfo(dtype).eps
        np.testing.assert_allclose(theirs.params[name], tensor.detach().numpy(), rtol=0, atol=atol, err_msg=name)


def norm_of(layer: Any) -> float:
    return float(np.sqrt(sum((layer.grads[name].astype(np.float64) ** 2).sum() for name in layer.grads)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_scale_multiplies_the_gradients(make: Callable[[], Any], dtype: str) -> None:
    one, other = model(dtype), model(dtype)
    gradients(one, 0)
    for name in one.grads:
        other.grads[name][...] = one.grads[name] * 0.25  # exact: the same bits either way
    kept = {name: one.grads[name].copy() for name in one.grads}
    returned = make().step(one, scale=0.25)
    make().step(other)
    assert returned == pytest.approx(0.25 * norm_of(one), rel=1e-6)
    for name, gradient in kept.items():
        assert_same_bits(one.params[name], other.params[name], name)
        assert_same_bits(one.grads[name], gradient, "a step leaves the gradients as they are")


@pytest.mark.parametrize("dtype", DTYPES)
def test_clipping_by_the_global_norm(dtype: str) -> None:
    layers = [rc.GRU(3, 17, dtype=dtype, seed=0), rc.Linear(17, 5, dtype=dtype, seed=0)]
    before = [{name: layer.params[name].copy() for name in layer.params} for layer in layers]
    for layer in layers:
        gradients(layer, 1)
    norm = float(np.hypot(*(norm_of(layer) for layer in layers)))
    returned = rc.optim.SGD(1.0).step(layers, scale=0.5, clip_norm=2.0)
    assert returned == pytest.approx(0.5 * norm, rel=1e-6)
    moved = 0.0
    for layer, old in zip(layers, before, strict=True):
        for name in layer.params:
            difference = old[name].astype(np.float64) - layer.params[name]
            expected = layer.grads[name] * (2.0 / norm)
            # The difference of two values of order 1, each rounded once.
            np.testing.assert_allclose(difference, expected, rtol=0, atol=2 * np.finfo(dtype).eps)
            moved += float((difference**2).sum())
    assert np.sqrt(moved) == pytest.approx(2.0, rel=1e-5)


def test_short_gradients_are_not_clipped() -> None:
    one, other = model(), model()
    gradients(one, 0)
    gradients(other, 0)
    rc.optim.Adam(0.1).step(one, clip_norm=1e9)
    rc.optim.Adam(0.1).step(other)
    for name in one.params:
        assert_same_bits(one.params[name], other.params[name])


def test_clipping_agrees_with_torch() -> None:
    layer = rc.LSTM(3, 17, seed=0)
    gradients(layer, 0)
    tensors = [torch.tensor(value.copy(), requires_grad=True) for value in layer.params.values()]
    for tensor, name in zip(tensors, layer.grads, strict=True):
        tensor.grad = torch.tensor(layer.grads[name].copy())
    theirs = torch.nn.utils.clip_grad_norm_(tensors, 1.0)
    torch.optim.SGD(tensors, 0.5).step()
    assert rc.optim.SGD(0.5).step(layer, clip_norm=1.0) == pytest.approx(float(theirs), rel=1e-6)
    for tensor, name in zip(tensors, layer.params, strict=True):
        np.testing.assert_allclose(layer.params[name], tensor.detach().numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_frozen_layers_stay(make: Callable[[], Any]) -> None:
    subject = model()
    subject.layers[0].trainable = False
    kept = {name: subject.params[name].copy() for name in subject.params}
    gradients(subject, 0)
    returned = make().step(subject)
    assert returned == pytest.approx(np.hypot(norm_of(subject.layers[1]), norm_of(subject.layers[2])), rel=1e-6)
    for name, old in kept.items():
        assert np.array_equal(subject.params[name], old) == name.startswith("0."), name


@pytest.mark.parametrize("make", [PAIRS["SGD decay"][0], PAIRS["Adam decay"][0], PAIRS["AdamW decay"][0]])
def test_some_parameters_do_not_decay(make: Callable[[], Any]) -> None:
    subject = model()
    optimizer, plain = make(), make()
    optimizer.no_decay = ("bias", "1.")
    plain.weight_decay = 0.0
    twin = copy.deepcopy(subject)
    decayed = copy.deepcopy(subject)
    for one in (subject, twin, decayed):
        gradients(one, 0)
    optimizer.step(subject)
    plain.step(twin)
    make().step(decayed)
    for name in subject.params:
        expected = twin if "bias" in name or name.startswith("1.") else decayed
        assert_same_bits(subject.params[name], expected.params[name], name)


def run(optimizer: Any, subject: Any, steps: range) -> None:
    for step in steps:
        gradients(subject, step)
        optimizer.step(subject)


@pytest.mark.parametrize("again", ["state_dict", "deepcopy"])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_memory_can_be_saved(make: Callable[[], Any], again: str) -> None:
    whole, optimizer = model(), make()
    run(optimizer, whole, range(10))
    part, first = model(), make()
    run(first, part, range(5))
    if again == "deepcopy":
        second = copy.deepcopy(first)
    else:
        second = make()
        second.load_state_dict(first.state_dict())
    part = copy.deepcopy(part)
    run(second, part, range(5, 10))
    for name in whole.params:
        assert_same_bits(part.params[name], whole.params[name], name)


def test_each_layer_has_a_memory_of_its_own() -> None:
    """Two layers of one size stepped in turn by one optimiser move as by two."""
    one, other = (rc.Linear(3, 5, seed=seed) for seed in (0, 1))
    twins = [copy.deepcopy(one), copy.deepcopy(other)]
    shared, own = rc.optim.Adam(0.1), [rc.optim.Adam(0.1), rc.optim.Adam(0.1)]
    for step in range(5):
        for k, (layer, twin) in enumerate(zip((one, other), twins, strict=True)):
            gradients(layer, 10 * step + k)
            gradients(twin, 10 * step + k)
            shared.step(layer)
            own[k].step(twin)
    assert_same_bits(one.params["weight"], twins[0].params["weight"])
    assert_same_bits(other.params["weight"], twins[1].params["weight"])


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_threads_change_no_bit(make: Callable[[], Any]) -> None:
    results: list[Array] = []
    norms = []
    for threads in (1, 2, 3):
        rc.set_num_threads(threads)
        layer, optimizer = rc.LSTM(256, 256, seed=0), make()
        for step in range(2):
            gradients(layer, step)
            norms.append(optimizer.step(layer, clip_norm=1.0))
        results.append(layer.params["weight_hh_l0"].copy())
    assert norms[0:2] == norms[2:4] == norms[4:6]
    for other in results[1:]:
        assert_same_bits(other, results[0])


def test_the_learning_rate_may_change() -> None:
    layer = rc.Linear(1, 1, bias=False, seed=0)
    optimizer = rc.optim.SGD(0.5)
    layer.grads["weight"][...] = 1.0
    start = float(layer.params["weight"][0, 0])
    optimizer.step(layer)
    optimizer.lr = 0.25
    optimizer.step(layer)
    assert float(layer.params["weight"][0, 0]) == pytest.approx(start - 0.75, abs=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: rc.optim.SGD(-0.1),
        lambda: rc.optim.SGD(float("nan")),
        lambda: rc.optim.SGD("fast"),
        lambda: rc.optim.SGD(0.1, nesterov=True),
        lambda: rc.optim.SGD(0.1, weight_decay=-1.0),
        lambda: rc.optim.Adam(0.1, betas=(0.9, 1.0)),
        lambda: rc.optim.Adam(0.1, betas=0.9),
        lambda: rc.optim.Adam(0.1, eps=-1.0),
        lambda: rc.optim.AdamW(0.1, no_decay="bias"),
        lambda: rc.optim.SGD(0.1).step(rc.Linear(1, 1), scale=float("inf")),
        lambda: rc.optim.SGD(0.1).step(rc.Linear(1, 1), clip_norm=-1.0),
        lambda: rc.optim.SGD(0.1).step("model"),
    ],
)
def test_what_does_not_fit_is_explained(make: Callable[[], Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^(SGD|Adam|AdamW).*got.*expected"):
        make()


def test_a_foreign_memory_is_refused_before_anything_moves() -> None:
    first = rc.optim.Adam(0.1)
    run(first, model(), range(2))
    second = rc.optim.Adam(0.1)
    second.load_state_dict(first.state_dict())
    layer = rc.Linear(3, 4, seed=0)
    before = layer.params["weight"].copy()
    with pytest.raises(ValueError, match="got"):
        second.step(layer)
    assert_same_bits(layer.params["weight"], before)
    with pytest.raises(ValueError, match="got"):
        rc.optim.SGD(0.1).load_state_dict(first.state_dict())
