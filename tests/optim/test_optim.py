"""Optimisers: PyTorch's steps, over layers and models; scaling, clipping, frozen layers, memory that can be saved."""

from __future__ import annotations

import copy
import gc
import json
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
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
    "Nesterov decay": (
        lambda: rc.optim.SGD(0.1, momentum=0.5, nesterov=True, weight_decay=0.2),
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.5, nesterov=True, weight_decay=0.2),
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
for name, options in {
    "RMSprop": {},
    "RMSprop centered": {"centered": True, "alpha": 0.9},
    "RMSprop momentum": {"momentum": 0.9, "weight_decay": 0.1},
    "RMSprop all": {"centered": True, "momentum": 0.5, "weight_decay": 0.3, "alpha": 0.8, "eps": 1e-3},
}.items():
    PAIRS[name] = (
        lambda options=options: rc.optim.RMSprop(0.01, **options),
        lambda p, options=options: torch.optim.RMSprop(p, 0.01, **options),
    )
PAIRS["Adagrad"] = (lambda: rc.optim.Adagrad(0.1), lambda p: torch.optim.Adagrad(p, 0.1))
PAIRS["Adagrad decay"] = (
    lambda: rc.optim.Adagrad(0.1, eps=1e-3, weight_decay=0.3),
    lambda p: torch.optim.Adagrad(p, 0.1, eps=1e-3, weight_decay=0.3),
)
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
        # Values of order 1 moved 20 times, each time by a few roundings of the dtype; the order of operations may
        # differ.
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
    assert returned.clipped == 0.0
    assert returned.norm == pytest.approx(0.25 * norm_of(one), rel=1e-6)
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
    assert returned.clipped == 1.0
    assert returned.norm == pytest.approx(0.5 * norm, rel=1e-6)
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
    assert rc.optim.Adam(0.1).step(one, clip_norm=1e9, clip_value=100.0).clipped == 0.0
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
    assert rc.optim.SGD(0.5).step(layer, clip_norm=1.0).norm == pytest.approx(float(theirs), rel=1e-6)
    for tensor, name in zip(tensors, layer.params, strict=True):
        np.testing.assert_allclose(layer.params[name], tensor.detach().numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_frozen_layers_stay(make: Callable[[], Any]) -> None:
    subject = model()
    subject.layers[0].trainable = False
    kept = {name: subject.params[name].copy() for name in subject.params}
    gradients(subject, 0)
    returned = make().step(subject)
    assert returned.norm == pytest.approx(np.hypot(norm_of(subject.layers[1]), norm_of(subject.layers[2])), rel=1e-6)
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


@pytest.mark.parametrize("again", ["state_dict", "deepcopy", "copy"])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_memory_can_be_saved(make: Callable[[], Any], again: str) -> None:
    whole, optimizer = model(), make()
    run(optimizer, whole, range(10))
    part, first = model(), make()
    run(first, part, range(5))
    if again in ("deepcopy", "copy"):
        second = getattr(copy, again)(first)
        run(first, copy.deepcopy(part), range(5, 7))  # which is no business of the copy's
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
            norms.append(optimizer.step(layer, clip_norm=1.0, clip_value=1.5))
        results.append(layer.params["weight_hh_l0"].copy())
    assert norms[0:2] == norms[2:4] == norms[4:6]
    assert rc.optim.SGD(0.1).step(layer, clip_value=1.5).clipped == pytest.approx(0.1336, abs=0.005)  # of a normal law
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


@pytest.mark.parametrize("dtype", DTYPES)
def test_clipping_by_value_then_by_norm_agrees_with_torch(dtype: str) -> None:
    layers = [rc.GRU(3, 17, dtype=dtype, seed=0), rc.Linear(17, 5, dtype=dtype, seed=0)]
    for layer in layers:
        gradients(layer, 3)
    pairs = [(layer, name) for layer in layers for name in layer.params]
    tensors = [torch.tensor(layer.params[name].copy(), requires_grad=True) for layer, name in pairs]
    for tensor, (layer, name) in zip(tensors, pairs, strict=True):
        tensor.grad = torch.tensor(layer.grads[name].copy()) * 0.5
    whole = torch.cat([tensor.grad.flatten() for tensor in tensors if tensor.grad is not None])
    torch.nn.utils.clip_grad_value_(tensors, 0.4)
    torch.nn.utils.clip_grad_norm_(tensors, 2.0)
    torch.optim.SGD(tensors, 0.5).step()
    kept = [layer.grads[name].copy() for layer, name in pairs]
    by_value = rc.optim.SGD(0.0).step(layers, scale=0.5, clip_value=0.4)
    assert by_value.norm == pytest.approx(float(whole.norm()), rel=1e-6)
    assert by_value.clipped == float((whole.abs() > 0.4).sum()) / len(whole)
    both = rc.optim.SGD(0.5).step(layers, scale=0.5, clip_value=0.4, clip_norm=2.0)
    assert both == (by_value.norm, 1.0)
    for tensor, (layer, name), gradient in zip(tensors, pairs, kept, strict=True):
        # Values of order 1, rounded a few times; torch adds 1e-6 to the norm.
        atol = 1e-6 if dtype == "float64" else 4 * np.finfo(dtype).eps
        np.testing.assert_allclose(layer.params[name], tensor.detach().numpy(), rtol=0, atol=atol)
        assert_same_bits(layer.grads[name], gradient, "a step leaves the gradients as they are")


def test_a_gradient_that_cutting_made_short_is_not_made_longer() -> None:
    one, other = model(), model()
    gradients(one, 0)
    gradients(other, 0)
    step = rc.optim.SGD(0.1).step(one, clip_value=0.01, clip_norm=1.0)
    assert step.norm > 1.0
    assert 0.98 < step.clipped < 1.0
    rc.optim.SGD(0.1).step(other, clip_value=0.01)
    for name in one.params:
        assert_same_bits(one.params[name], other.params[name])


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_cut_gradient_is_what_every_optimiser_sees(make: Callable[[], Any]) -> None:
    one, other = model(), model()
    first, second = make(), make()
    for step in range(3):
        gradients(one, step)
        for name in one.grads:
            other.grads[name][...] = np.clip(one.grads[name], np.float32(-0.7), np.float32(0.7))
        first.step(one, clip_value=0.7)
        second.step(other)
    for name in one.params:
        assert_same_bits(one.params[name], other.params[name], name)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_gradients_that_are_not_finite_can_be_refused(value: float) -> None:
    subject, optimizer = model(), rc.optim.Adam(0.1)
    run(optimizer, subject, range(2))
    gradients(subject, 2)
    subject.grads["2.bias"][3] = value
    before, memory = subject.state_dict(), optimizer.state_dict()
    with pytest.raises(FloatingPointError, match=r"^Adam\.step: got .* in the gradient of 2\.bias, expected"):
        optimizer.step(subject, clip_norm=1.0, clip_value=1.0, error_if_nonfinite=True)
    for name, array in {**before, **memory}.items():
        assert_same_bits({**subject.state_dict(), **optimizer.state_dict()}[name], array, name)
    assert not np.isfinite(optimizer.step(subject).norm)
    assert not np.isfinite(subject.params["2.bias"][3])


def test_cutting_by_value_tames_an_infinity_but_not_nan() -> None:
    layer = rc.Linear(3, 1, bias=False, seed=0)
    start = layer.params["weight"][0].copy()
    layer.grads["weight"][0] = (np.inf, -np.inf, np.nan)
    step = rc.optim.SGD(1.0).step(layer, clip_value=0.5)
    np.testing.assert_array_equal(layer.params["weight"][0], start + np.array([-0.5, 0.5, np.nan], np.float32))
    assert step.clipped == 2 / 3


def test_a_centred_rmsprop_stays_finite_where_the_gradient_stays_the_same() -> None:
    """Its variance goes to 0, and rounding takes it below."""
    layer = rc.Linear(100, 1, bias=False, seed=0)
    layer.grads["weight"][0] = np.linspace(0.1, 3.0, 100)
    optimizer = rc.optim.RMSprop(1e-9, centered=True, alpha=0.5)
    for _ in range(100):
        optimizer.step(layer)
    assert np.isfinite(layer.params["weight"]).all()


def test_the_rate_follows_a_schedule() -> None:
    layer = rc.Linear(1, 1, bias=False, seed=0, dtype="float64")
    layer.grads["weight"][...] = 1.0
    optimizer = rc.optim.SGD(rc.optim.schedules.Chain([0.5, 0.25], [2]))
    seen = []
    for _ in range(4):
        before = float(layer.params["weight"][0, 0])
        seen.append(optimizer.lr)
        optimizer.step(layer)
        assert before - float(layer.params["weight"][0, 0]) == pytest.approx(seen[-1], rel=1e-12)
    assert seen == [0.5, 0.5, 0.25, 0.25]
    assert optimizer.steps == 4


def test_a_rate_that_makes_no_sense_moves_nothing() -> None:
    layer = rc.Linear(1, 1, seed=0)
    before = layer.state_dict()
    optimizer = rc.optim.SGD(lambda step: -1.0)
    with pytest.raises(ValueError, match=r"^Function: got rate\(0\)=-1\.0, expected a finite number"):
        optimizer.step(layer)
    assert optimizer.steps == 0
    assert_same_bits(layer.params["weight"], before["weight"])


@pytest.mark.parametrize("rate", [0.05, rc.optim.schedules.Warmup(rc.optim.schedules.CosineDecay(0.05, 8), 3)], ids=str)
def test_the_state_holds_the_rate_or_its_place(rate: Any) -> None:
    """Half a run, saved and gone on with by a fresh optimiser, has the bits of the whole; a rate set by hand too."""

    def half(optimizer: Any, subject: Any, steps: range) -> None:
        run(optimizer, subject, steps)
        if optimizer.schedule is None:
            optimizer.lr = optimizer.lr / 3

    whole, part = model(), model()
    optimizer, first, second = (rc.optim.RMSprop(rate, momentum=0.5) for _ in range(3))
    for steps in (range(5), range(5, 10)):
        half(optimizer, whole, steps)
    half(first, part, range(5))
    second.load_state_dict(first.state_dict())
    assert second.lr == first.lr
    assert second.config() == first.config() == json.loads(json.dumps(optimizer.config()))
    half(second, part, range(5, 10))
    assert second.steps == 10
    for name in whole.params:
        assert_same_bits(part.params[name], whole.params[name], name)


def test_layers_that_thaw_late_find_their_own_memory_again() -> None:
    """Two layers of one size; the first one is frozen at first, so that it learns later than the second."""

    def begin() -> Any:
        subject = rc.Sequential(rc.Linear(4, 4), rc.Linear(4, 4), seed=0)
        subject.layers[0].trainable = False
        return subject

    whole, part = begin(), begin()
    optimizer, first, second = (rc.optim.Adam(0.1) for _ in range(3))
    for subject, own in ((whole, optimizer), (part, first)):
        run(own, subject, range(3))
    second.load_state_dict(first.state_dict())
    for subject, own in ((whole, optimizer), (part, second)):
        subject.trainable = True
        run(own, subject, range(3, 6))
    third = rc.optim.Adam(0.1)
    third.load_state_dict(second.state_dict())
    for subject, own in ((whole, optimizer), (part, third)):
        run(own, subject, range(6, 9))
    for name in whole.params:
        assert_same_bits(part.params[name], whole.params[name], name)


def test_the_configuration_is_plain_data() -> None:
    optimizer = rc.optim.AdamW(rc.optim.schedules.StepDecay(0.1, 5), no_decay=("bias",))
    assert optimizer.config() == {
        "class": "AdamW",
        "lr": {"class": "StepDecay", "lr": 0.1, "step_size": 5, "gamma": 0.1},
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "weight_decay": 0.01,
        "no_decay": ["bias"],
        "lr_multipliers": {},
    }
    plain = rc.optim.SGD(0.1)
    plain.lr = 0.01
    assert plain.config()["lr"] == 0.1, "what it was made with; the state has the other"
    assert repr(plain).startswith("SGD(lr=0.01, momentum=0.0")


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
        lambda: rc.optim.AdamW(0.1, no_decay=5),
        lambda: rc.optim.SGD(0.1).step(rc.Linear(1, 1), scale=float("inf")),
        lambda: rc.optim.SGD(0.1).step(rc.Linear(1, 1), clip_norm=-1.0),
        lambda: rc.optim.SGD(0.1).step(rc.Linear(1, 1), clip_value=-1.0),
        lambda: rc.optim.SGD(0.1).step(rc.Linear(1, 1), error_if_nonfinite=1),
        lambda: rc.optim.SGD(0.1).step("model"),
        lambda: rc.optim.SGD(rc.optim.schedules.CosineDecay),
        lambda: rc.optim.RMSprop(alpha=1.5),
        lambda: rc.optim.RMSprop(momentum=-0.1),
        lambda: rc.optim.RMSprop(centered=1),
        lambda: setattr(rc.optim.Adam(), "lr", float("nan")),
        lambda: setattr(rc.optim.Adam(rc.optim.schedules.StepDecay(0.1, 5)), "lr", 0.1),
        lambda: rc.optim.SGD(0.1).load_state_dict([1]),
        lambda: rc.optim.SGD(0.1).load_state_dict({"lr": 0.1}),
        lambda: rc.optim.SGD(0.1).load_state_dict({"lr": 0.1, "steps": -1}),
        lambda: rc.optim.SGD(0.1).load_state_dict({"lr": -0.1, "steps": 1}),
        lambda: rc.optim.SGD(0.1).load_state_dict({"steps": 1}),
        lambda: rc.optim.SGD(lambda step: 0.1).load_state_dict({"lr": 0.1, "steps": 1}),
        lambda: rc.optim.SGD(0.1).load_state_dict({"lr": 0.1, "steps": 1}, models=rc.Linear(1, 1)),
        lambda: rc.optim.Adagrad(eps=-1.0),
    ],
)
def test_what_does_not_fit_is_explained(make: Callable[[], Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^(SGD|Adagrad|Adam|AdamW|RMSprop|Function).*got.*expected"):
        make()


def test_a_foreign_memory_is_refused_before_anything_moves() -> None:
    first, subject = rc.optim.Adam(0.1), model()
    run(first, subject, range(2))
    second = rc.optim.Adam(0.1)
    second.load_state_dict(first.state_dict())
    layer = rc.Linear(3, 4, seed=0)
    before = layer.params["weight"].copy()
    with pytest.raises(ValueError, match="got"):
        second.step(layer)
    assert_same_bits(layer.params["weight"], before)
    with pytest.raises(ValueError, match="got"):
        rc.optim.SGD(0.1).load_state_dict(first.state_dict())


def scaled(layer: Any, unit: float) -> list[Array]:
    """Gradients of this order, and what they are in units of it."""
    units = []
    for name in layer.grads:
        drawn = np.random.default_rng(len(name)).uniform(-2, 2, layer.grads[name].shape)
        layer.grads[name][...] = drawn * unit
        units.append(drawn)
    return units


HUGE = [("float32", 1e38), ("float32", 1e30), ("float32", 1e-30), ("float64", 1e200), ("float64", 8e307)]


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 30.0])
@pytest.mark.parametrize(("dtype", "unit"), [*HUGE, ("float64", 1e-200), ("float64", 1e-300)])
def test_a_finite_gradient_of_any_size_is_clipped_to_the_norm(dtype: str, unit: float, scale: float, cut: bool) -> None:
    """Neither its squares nor the factor may leave the dtype's range: the step was 0, or refused."""
    layer = rc.Linear(3, 7, dtype=dtype, seed=0)
    before = layer.state_dict()
    units = scaled(layer, unit)
    options = {}
    if cut:
        options["clip_value"] = unit * scale if unit * scale < np.finfo(np.float64).max else unit
        limit = options["clip_value"] / unit / scale
        units = [np.clip(one, -limit, limit) for one in units]
    norm = np.sqrt(sum((one**2).sum() for one in units))
    bound = 0.25 if unit > 1 else unit * scale * 0.25
    options["error_if_nonfinite"] = True
    rate = 0.25 / bound
    returned = rc.optim.SGD(rate).step(layer, scale=scale, clip_norm=bound, **options)
    assert returned.clipped == 1.0
    for name, one in zip(layer.params, units, strict=True):
        moved = before[name].astype(np.float64) - layer.params[name]
        # Differences of numbers around 1, each rounded once.
        np.testing.assert_allclose(moved, 0.25 * one / norm, rtol=0, atol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize(("dtype", "unit"), HUGE)
def test_the_norm_of_huge_gradients_is_told(dtype: str, unit: float) -> None:
    layer = rc.Linear(3, 7, dtype=dtype, seed=0)
    units = scaled(layer, unit)
    with np.errstate(over="ignore"):
        norm = unit * np.sqrt(sum((one**2).sum() for one in units))
    assert rc.optim.SGD(0.0).step(layer).norm == pytest.approx(float(norm), rel=1e-6)


def two_models() -> tuple[Any, Any]:
    return tuple(rc.Sequential(rc.Linear(3, 4), rc.Linear(4, 3), seed=seed) for seed in (0, 1))  # type: ignore[return-value]


@pytest.mark.parametrize("order", ["AB", "BA", "together", "the other way round"])
def test_one_optimiser_for_two_models_goes_on_with_the_same_bits(order: str) -> None:
    """Whichever is stepped first after loading finds its own memory: it is known by its parameters."""

    def take(optimizer: Any, models: Any, steps: range, turns: str) -> None:
        for step in steps:
            for turn in turns:
                gradients(models["AB".index(turn)], 10 * step + "AB".index(turn))
                optimizer.step(models["AB".index(turn)])

    whole, part = two_models(), two_models()
    first, second, undisturbed = (rc.optim.Adam(0.1) for _ in range(3))
    take(first, part, range(3), "AB")
    take(undisturbed, whole, range(3), "AB")
    second.load_state_dict(first.state_dict())
    part = tuple(copy.deepcopy(part))
    if order in ("AB", "BA"):
        take(undisturbed, whole, range(3, 6), order)
        take(second, part, range(3, 6), order)
    else:
        turned = slice(None, None, 1 if order == "together" else -1)
        for models, optimizer in ((whole, undisturbed), (part, second)):
            for k, model in enumerate(models):
                gradients(model, k)
            optimizer.step(list(models)[turned])
    for one, other in zip(whole, part, strict=True):
        for name in one.params:
            assert_same_bits(other.params[name], one.params[name], name)


def test_a_model_that_the_state_does_not_know_is_refused() -> None:
    """It would have taken the memory of another model of its sizes."""
    one, other = two_models()
    first, second = rc.optim.Adam(0.1), rc.optim.Adam(0.1)
    run(first, one, range(2))
    second.load_state_dict(first.state_dict())
    gradients(other, 0)
    before = other.state_dict()
    with pytest.raises(ValueError, match=r"^Adam\.step: got a Linear whose parameters are not .* models="):
        second.step(other)
    assert_same_bits(other.params["0.weight"], before["0.weight"])
    assert second.steps == 2
    second.load_state_dict(first.state_dict(), models=other)  # on purpose
    second.step(other)
    assert second.steps == 3


def test_layers_of_equal_parameters_are_not_confused() -> None:
    """A rate of 0 has moved nothing yet: what each remembers is told apart by the models alone, or in a model by the
    order."""
    one, other = (rc.Sequential(rc.Linear(3, 4, seed=0), rc.LayerNorm(4), rc.LayerNorm(4)) for _ in range(2))

    def take(optimizer: Any, model: Any, seed: int) -> None:
        gradients(model, seed)
        optimizer.step(model)

    first, second = (rc.optim.Adam(lambda step: 0.1 * (step >= 2)) for _ in range(2))
    take(first, one, 0)
    take(first, other, 1)
    saved = first.state_dict()
    second.load_state_dict(saved)
    with pytest.raises(
        ValueError, match=r"^Adam\.step: got a Linear whose parameters are those of 2 layers .* models="
    ):
        take(second, other, 2)
    second.load_state_dict(saved, models=[one, other])
    twin = copy.deepcopy(other)
    take(second, other, 2)
    take(first, twin, 2)  # unknown to it: it starts anew, at the same step
    assert any((twin.params[name] != other.params[name]).any() for name in twin.params)
    alone, whole = rc.optim.Adam(lambda step: 0.1 * (step >= 1)), copy.deepcopy(one)
    undisturbed = rc.optim.Adam(lambda step: 0.1 * (step >= 1))
    for optimizer, model in ((alone, one), (undisturbed, whole)):
        take(optimizer, model, 0)
    again = rc.optim.Adam(lambda step: 0.1 * (step >= 1))
    again.load_state_dict(alone.state_dict())
    for optimizer, model in ((again, one), (undisturbed, whole)):
        take(optimizer, model, 1)
    for name in one.params:
        assert_same_bits(one.params[name], whole.params[name], name)


def test_an_optimiser_keeps_no_model_alive() -> None:
    optimizer = rc.optim.Adam(0.1)
    alive = []
    for seed in range(20):
        layer = rc.Linear(50, 50, seed=seed)
        gradients(layer, seed)
        optimizer.step(layer)
        arrays = optimizer._memory.slot_of(layer).arrays
        alive.append((weakref.ref(layer), weakref.ref(arrays["m"])))
        assert len(optimizer.state_dict()) == 2 + 4
        del layer, arrays
        gc.collect()
    assert [one for pair in alive for one in pair if one() is not None] == []
    assert set(optimizer.state_dict()) == {"steps", "lr"}
    assert optimizer.steps == 20
