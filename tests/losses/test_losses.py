"""Losses: sum, count and gradient, against the specification, PyTorch and finite differences; padding does not
count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributions

import loss_reference
import recurra as rc
from agreement import assert_as_close_as, assert_same_bits
from array_types import DTYPES, Array
from single_thread import central_difference

pytestmark = pytest.mark.every_isa

LENGTHS = np.array([9, 0, 4, 1, 7])


@dataclass(frozen=True)
class Kind:
    """One of our losses, PyTorch's sum of the same, the specification's, and how to draw targets for so many features.

    `count` is what the sum is divided by, and `width` how many predictions go with `features`.
    """

    ours: Any
    torchs: Any
    targets: Any
    specified: Any = None  # where PyTorch's is the plainest one
    count: Callable[[Array, Array], float] = lambda x, t: t.size
    width: Callable[[int], int] = lambda features: features
    scale: float = 3.0  # of predictions


def labels(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.integers(0, shape[-1], shape[:-1])


def some_ignored(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    drawn = labels(rng, shape)
    drawn[rng.random(drawn.shape) < 0.3] = IGNORED
    return drawn


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape, np.float32)


def smoothed(smoothing: float, ignored: int | None, weighted: bool) -> Kind:
    """Cross-entropy with its options."""

    def ours(x: Array, *arguments: Any, **options: Any) -> Any:
        weights = class_weights(x.shape[-1]) if weighted else None
        return rc.losses.CrossEntropy(smoothing, ignored, weights)(x, *arguments, **options)

    def weight(features: int) -> Array:
        return class_weights(features) if weighted else np.ones(features)

    def torchs(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        weights = torch.from_numpy(weight(x.shape[-1])).to(x.dtype)
        return F.cross_entropy(
            x.flatten(0, -2), t.flatten(), weights, ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing
        )

    return Kind(
        ours,
        torchs,
        labels if ignored is None else some_ignored,
        lambda x, t: loss_reference.cross_entropy(x, t, smoothing, IGNORED, weight(x.shape[-1])),
        lambda x, t: (
            float(class_weights(x.shape[-1])[t[t != IGNORED]].sum()) if weighted else int((t != IGNORED).sum())
        ),
    )


def class_weights(classes: int) -> Array:
    """Exact, and so are their sums; 0 among them."""
    return np.arange(classes) % 7 / 4.0


def density(features: int, components: int, correlated: bool, end: bool) -> Kind:
    """A mixture density; PyTorch's by its distributions."""
    loss = rc.losses.MixtureDensity(components, features, correlated=correlated, end_of_stroke=end)
    both = components * features

    def targets(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        drawn = normal(rng, (*shape[:-1], features + end))
        if end:
            drawn[..., -1] = rng.random(shape[:-1]) < 0.4
        return drawn

    def torchs(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        logits, means, sigmas, rest = x.split([components, both, both, x.shape[-1] - components - 2 * both], -1)
        shape = (*x.shape[:-1], components, features)
        means, sigmas = means.reshape(shape), sigmas.reshape(shape).exp()
        one: Any = distributions.Independent(distributions.Normal(means, sigmas), 1)
        if correlated:
            rho = rest[..., :components].tanh()
            low = sigmas[..., 1] * (1 - rho**2).sqrt()
            lower = torch.stack([sigmas[..., 0], torch.zeros_like(rho), sigmas[..., 1] * rho, low], -1)
            one = distributions.MultivariateNormal(means, scale_tril=lower.reshape(*shape, 2))
        mixture = distributions.MixtureSameFamily(distributions.Categorical(logits=logits), one)
        total = -mixture.log_prob(t[..., :features]).sum()
        if end:
            total = total + F.binary_cross_entropy_with_logits(x[..., -1], t[..., -1], reduction="sum")
        return total

    return Kind(
        loss,
        torchs,
        targets,
        lambda x, t: loss_reference.mixture_density(x, t, components, features, correlated, end),
        lambda x, t: x[..., 0].size,
        lambda _: loss.prediction_size,
        scale=0.5,
    )


def pinball(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    error, q = t[..., None] - x.unflatten(-1, (-1, len(QUANTILES))), torch.tensor(QUANTILES, dtype=x.dtype)
    return torch.maximum(q * error, (q - 1) * error).sum()


def gaussian(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    mean, log_variance = x.chunk(2, -1)
    return F.gaussian_nll_loss(mean, t, log_variance.exp(), full=True, eps=1e-6, reduction="sum")


def policy(gaussian: bool, clip: float | None, entropy: float) -> Kind:
    """A policy's loss; PyTorch's by its distributions."""
    distribution = "gaussian" if gaussian else "categorical"
    loss = (
        rc.losses.PolicyGradient(distribution, entropy=entropy)
        if clip is None
        else rc.losses.PPO(distribution, clip=clip, entropy=entropy)
    )

    def targets(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        actions = rng.standard_normal(shape) if gaussian else rng.integers(0, shape[-1], (*shape[:-1], 1))
        rest = rng.standard_normal((*shape[:-1], 1 if clip is None else 2)) - [0.0, 1.5][: 1 if clip is None else 2]
        return np.concatenate([actions, rest], -1).astype(np.float32)

    def torchs(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        one: Any = distributions.Categorical(logits=x)
        actions, given = t[..., 0], t[..., 1:]
        if gaussian:
            mean, log_variance = x.chunk(2, -1)
            one = distributions.Independent(distributions.Normal(mean, (log_variance / 2).exp()), 1)
            actions, given = t[..., : mean.shape[-1]], t[..., mean.shape[-1] :]
        log_p, advantage = one.log_prob(actions), given[..., 0]
        gain = log_p * advantage
        if clip is not None:
            ratio = (log_p - given[..., 1]).exp()
            gain = torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
        return -(gain + entropy * one.entropy()).sum()

    return Kind(
        loss,
        torchs,
        targets,
        lambda x, t: loss_reference.policy(x, t, gaussian, clip, entropy),
        lambda x, t: x[..., 0].size,
        (lambda features: 2 * features) if gaussian else (lambda features: features),
        scale=0.5,
    )


def clipped_value(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    wanted, old = t.chunk(2, -1)
    return torch.maximum((x - wanted) ** 2, (old + (x - old).clamp(-0.25, 0.25) - wanted) ** 2).sum()


IGNORED = -100
QUANTILES = (0.05, 0.5, 0.8)
DELTA = 1.25
KINDS = {
    "cross entropy": Kind(
        rc.losses.CrossEntropy(),
        lambda x, t: F.cross_entropy(x.flatten(0, -2), t.flatten(), reduction="sum"),
        labels,
    ),
    "smoothed": smoothed(0.1, None, False),
    "ignored": smoothed(0.0, IGNORED, False),
    "weighted": smoothed(0.0, None, True),
    "weighted, smoothed and ignored": smoothed(0.3, IGNORED, True),
    "binary cross entropy": Kind(
        rc.losses.BinaryCrossEntropy(),
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction="sum"),
        lambda rng, shape: rng.random(shape, np.float32),
    ),
    "mean squared error": Kind(rc.losses.MeanSquaredError(), lambda x, t: F.mse_loss(x, t, reduction="sum"), normal),
    "l1": Kind(rc.losses.L1(), lambda x, t: F.l1_loss(x, t, reduction="sum"), normal),
    "huber": Kind(
        rc.losses.Huber(DELTA),
        lambda x, t: F.huber_loss(x, t, reduction="sum", delta=DELTA),
        normal,
        lambda x, t: loss_reference.huber(x, t, DELTA),
    ),
    "quantile": Kind(
        rc.losses.Quantile(QUANTILES),
        pinball,
        normal,
        lambda x, t: loss_reference.quantile(x, t, QUANTILES),
        lambda x, t: x.size,
        lambda features: len(QUANTILES) * features,
    ),
    "gaussian": Kind(
        rc.losses.GaussianNLL(),
        gaussian,
        normal,
        lambda x, t: loss_reference.gaussian_nll(x, t, 1e-6),
        width=lambda features: 2 * features,
        scale=1.0,
    ),
    "handwriting": density(2, 4, True, True),
    "mixture": density(3, 5, False, False),
    "policy gradient": policy(False, None, 0.0),
    "policy gradient and entropy": policy(False, None, 0.3),
    "ppo": policy(False, 0.3, 0.1),
    "gaussian policy gradient": policy(True, None, 0.3),
    "gaussian ppo": policy(True, 0.2, 0.1),
    "value": Kind(
        rc.losses.ValueFunction(0.25),
        clipped_value,
        lambda rng, shape: normal(rng, (*shape[:-1], 2 * shape[-1])),
        lambda x, t: loss_reference.clipped_value(x, t, 0.25),
        lambda x, t: x.size,
    ),
}


def drawn(kind: Kind, shape: tuple[int, ...], seed: int = 0) -> tuple[Array, Array]:
    """Predictions, a few units wide, and targets; both exact in float32."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((*shape[:-1], kind.width(shape[-1])), np.float32)
    return np.float32(kind.scale) * x, kind.targets(rng, shape)


def by_torch(kind: Kind, x: Array, t: Array, dtype: str) -> tuple[Array, Array]:
    """Sum and gradient."""
    predictions = torch.tensor(x.astype(dtype), requires_grad=True)
    total = kind.torchs(predictions, torch.from_numpy(t if t.dtype.kind == "i" else t.astype(dtype)))
    total.backward()
    assert predictions.grad is not None
    return total.detach().numpy(), predictions.grad.numpy()


@pytest.mark.parametrize("shape", [(1, 1), (13, 5), (5, 9, 17), (3, 33, 1), (7, 2, 256), (2, 3, 1000)], ids=str)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_sum_count_and_gradient(kind: Kind, shape: tuple[int, ...]) -> None:
    x, t = drawn(kind, shape)
    exact_sum, exact_gradient = by_torch(kind, x, t, "float64")
    double = kind.ours(x.astype(np.float64), t)
    assert double.count == kind.count(x, t)
    assert type(double.count) is type(kind.count(x, t))
    assert double.mean == pytest.approx(double.sum / double.count if double.count else np.nan, rel=1e-15, nan_ok=True)
    # Thousands of terms of order 1 in float64, each good to a few roundings of 1e-16.
    np.testing.assert_allclose(double.sum, exact_sum, rtol=1e-13)
    np.testing.assert_allclose(double.gradient, exact_gradient, rtol=1e-13, atol=1e-13)
    assert double.gradient.dtype == np.float64
    single = kind.ours(x, t)
    assert single.gradient.dtype == np.float32
    _, peer_gradient = by_torch(kind, x, t, "float32")
    assert_as_close_as(peer_gradient, single.gradient, exact_gradient, "gradient")
    # Each term to a few float32 roundings (6e-8) of a value of up to ten; their sum in float64 adds none.
    np.testing.assert_allclose(single.sum, exact_sum, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.specified])
def test_the_sum_is_the_specified_one(name: str) -> None:
    kind = KINDS[name]
    for seed in range(3):
        x, t = drawn(kind, (4, 6, 5), seed)
        x = x.astype(np.float64)
        assert kind.ours(x, t).sum == pytest.approx(kind.specified(x, t), rel=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_padding_does_not_count(kind: Kind, dtype: str) -> None:
    """Neither in sum, count nor gradient, whatever lies there."""
    x, t = drawn(kind, (5, 9, 17))
    x = x.astype(dtype)
    valid = np.arange(9) < LENGTHS[:, None]
    loss = kind.ours(x, t, LENGTHS)
    alone = [kind.ours(x[row : row + 1, :length], t[row : row + 1, :length]) for row, length in enumerate(LENGTHS)]
    assert loss.count == sum(one.count for one in alone)
    np.testing.assert_allclose(loss.sum, sum(one.sum for one in alone), rtol=1e-14 if dtype == "float64" else 1e-6)
    for row, (length, one) in enumerate(zip(LENGTHS, alone, strict=True)):
        assert_same_bits(loss.gradient[row, :length], one.gradient[0])
    assert not loss.gradient[~valid].any()
    sick, wrong = x.copy(), t.copy()
    sick[~valid] = np.nan
    wrong[~valid] = -77
    other = kind.ours(sick, wrong, LENGTHS)
    assert (other.sum, other.count) == (loss.sum, loss.count)
    assert_same_bits(other.gradient, loss.gradient)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_gradients_by_central_differences(kind: Kind) -> None:
    x, t = drawn(kind, (3, 4, 5))
    x, lengths = x.astype(np.float64), np.array([4, 0, 2])
    gradient = kind.ours(x, t, lengths).gradient
    expected = central_difference(lambda: float(kind.ours(x, t, lengths).sum), x, np.arange(x.size))
    # As in test_gradients.py; a sum of a few tens loses one digit more.
    np.testing.assert_allclose(gradient.ravel(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_without_the_gradient(kind: Kind) -> None:
    x, t = drawn(kind, (5, 9, 17))
    full, bare = kind.ours(x, t, LENGTHS), kind.ours(x, t, LENGTHS, gradient=False)
    assert bare.gradient is None
    assert (bare.sum, bare.count) == (full.sum, full.count)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_threads_change_no_bit(kind: Kind) -> None:
    x, t = drawn(kind, (64, 50, 67))
    results = []
    for threads in (1, 2, 3):
        rc.set_num_threads(threads)
        results.append(kind.ours(x, t, np.arange(64) % 51))
    for other in results[1:]:
        assert other.sum == results[0].sum
        assert_same_bits(other.gradient, results[0].gradient)


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_logits(dtype: str) -> None:
    """No overflow, no log of zero: the loss of a wrong and certain answer is the logit itself."""
    x = np.array([[1000.0, 0.0, -1000.0], [-1e30, 1e30, 0.0]], dtype)
    loss = rc.losses.CrossEntropy()(x, np.array([2, 1]))
    assert loss.sum == pytest.approx(2000.0)
    np.testing.assert_allclose(loss.gradient, [[1.0, 0.0, -1.0], [0.0, 0.0, 0.0]], rtol=0, atol=1e-7)
    binary = rc.losses.BinaryCrossEntropy()(np.array([[1000.0, -1000.0, 0.0]], dtype), np.array([[0.0, 0.0, 1.0]]))
    assert binary.sum == pytest.approx(1000.0 + np.log(2.0), rel=1e-6)
    np.testing.assert_allclose(binary.gradient, [[1.0, 0.0, -0.5]], rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_nothing_to_count(kind: Kind) -> None:
    x, t = drawn(kind, (5, 9, 3))
    for loss in (kind.ours(x, t, np.zeros(5, int)), kind.ours(x[:0], t[:0]), kind.ours(x[:, :0], t[:, :0])):
        assert (loss.sum, loss.count) == (0.0, 0)
        assert np.isnan(loss.mean)
        assert not loss.gradient.any()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_nan_in_a_prediction_is_not_hidden(kind: Kind) -> None:
    x, t = drawn(kind, (5, 9, 17))
    expected = kind.ours(x, t)
    x[2, 3, 4] = np.nan
    loss = kind.ours(x, t)
    assert np.isnan(loss.sum)
    assert np.isnan(loss.gradient[2, 3]).any()
    others = np.ones((5, 9), bool)
    others[2, 3] = False
    assert_same_bits(loss.gradient[others], expected.gradient[others])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_mean_is_pytorchs(smoothing: float, weighted: bool) -> None:
    """Which divides by the sum of the weights of the labels that count."""
    x, t = drawn(KINDS["ignored"], (4, 9, 6))
    weights = class_weights(6) if weighted else None
    peer = torch.nn.CrossEntropyLoss(
        None if weights is None else torch.from_numpy(weights), ignore_index=IGNORED, label_smoothing=smoothing
    )
    expected = peer(torch.from_numpy(x).double().flatten(0, -2), torch.from_numpy(t).flatten())
    value = rc.losses.CrossEntropy(smoothing, IGNORED, weights)(x.astype(np.float64), t)
    assert value.mean == pytest.approx(expected.item(), rel=1e-13)


def test_what_is_ignored_is_not_read() -> None:
    x, t = drawn(KINDS["ignored"], (4, 9, 6))
    loss = rc.losses.CrossEntropy(ignore_index=IGNORED)
    expected = loss(x, t)
    x[t == IGNORED] = np.nan
    value = loss(x, t)
    assert (value.sum, value.count) == (expected.sum, expected.count)
    assert_same_bits(value.gradient, expected.gradient)
    assert value.gradient is not None
    assert not value.gradient[t == IGNORED].any()


def test_a_weight_of_zero_leaves_a_class_out() -> None:
    x, _ = drawn(KINDS["cross entropy"], (4, 9, 6))
    value = rc.losses.CrossEntropy(class_weights=[1, 0, 1, 1, 1, 1])(x, np.ones((4, 9), int))
    assert (value.sum, value.count) == (0.0, 0.0)
    assert np.isnan(value.mean)


def test_impossible_classes_with_weights() -> None:
    """Logits of -infinity, without smoothing."""
    x = np.array([[0.0, -np.inf, 1.0]], np.float32)
    value = rc.losses.CrossEntropy(class_weights=[1.0, 2.0, 3.0])(x, np.array([2]))
    assert value.sum == pytest.approx(3 * np.log1p(np.exp(-1.0)), rel=1e-6)
    assert np.isfinite(value.gradient).all()  # type: ignore[arg-type]


FLOORS: dict[str, tuple[Any, list[float], list[float], list[int]]] = {
    "variance": (rc.losses.GaussianNLL(eps=0.01), [0.3, -9.0], [0.25], [1]),
    "policy's variance": (rc.losses.PolicyGradient("gaussian", eps=0.01), [0.3, -9.0], [0.25, 1.5], [1]),
    "standard deviation": (rc.losses.MixtureDensity(1, 1, eps=0.01), [0.0, 0.3, -9.0], [0.25], [2]),
    "correlation": (
        rc.losses.MixtureDensity(1, correlated=True, eps=0.01),
        [0.0, 0.1, 0.2, 0.0, 0.0, -9.0],
        [0.3, 0.4],
        [5],
    ),
}


@pytest.mark.parametrize(("loss", "x", "t", "floored"), FLOORS.values(), ids=FLOORS)
def test_distributions_do_not_collapse(loss: Any, x: list[float], t: list[float], floored: list[int]) -> None:
    """Below the floor nothing changes any more, and what is there is finite whatever is predicted."""
    predictions, targets = np.array([x]), np.array([t])
    value = loss(predictions, targets)
    assert not value.gradient[0, floored].any()
    entries = np.arange(predictions.size)
    expected = central_difference(lambda: float(loss(predictions, targets).sum), predictions, entries)
    np.testing.assert_allclose(value.gradient.ravel(), expected, rtol=0, atol=1e-6)
    lower = predictions.copy()
    lower[0, floored] *= 1000
    assert loss(lower, targets).sum == value.sum
    for extreme in (1e3, -1e3, 1e30, -1e30):
        lower[0, floored] = extreme
        other = loss(lower, targets)
        assert np.isfinite(other.sum)
        assert np.isfinite(other.gradient).all()


def test_far_targets_of_a_mixture() -> None:
    """Where all densities are 0 as numbers, their logarithms are not."""
    loss = rc.losses.MixtureDensity(2, 1)
    value = loss(np.zeros((1, 6), np.float32), np.array([[1e4]]))
    assert value.sum == pytest.approx(0.5e8, rel=1e-6)
    np.testing.assert_allclose(value.gradient, [[0, 0, -5e3, -5e3, -5e7, -5e7]], rtol=1e-6)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(list(KINDS)),
    shape=st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(1, 40)),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape_and_lengths(name: str, shape: tuple[int, int, int], seed: int) -> None:
    """A ragged batch is its rows, one by one."""
    kind = KINDS[name]
    x, t = drawn(kind, shape, seed)
    lengths = np.random.default_rng(seed).integers(0, shape[1] + 1, shape[0])
    x[np.arange(shape[1]) >= lengths[:, None]] = np.nan
    value = kind.ours(x, t, lengths)
    total = 0.0
    for row, steps in enumerate(lengths):
        one = kind.ours(x[row : row + 1, :steps], t[row : row + 1, :steps])
        total += one.sum
        assert_same_bits(value.gradient[row, :steps], one.gradient[0])
        assert not value.gradient[row, steps:].any()
    assert value.sum == total


BAD: list[tuple[Any, Any, Any, Any]] = [
    (rc.losses.CrossEntropy(), np.zeros((2, 3), np.float32), np.array([0, 3]), None),
    (rc.losses.CrossEntropy(), np.zeros((2, 3), np.float32), np.array([0, -1]), None),
    (rc.losses.CrossEntropy(), np.zeros((2, 3), np.float32), np.array([0.0, 1.0]), None),
    (rc.losses.CrossEntropy(), np.zeros((2, 3), np.float32), np.eye(3, dtype=int)[:2], None),
    (rc.losses.CrossEntropy(), np.zeros((2, 3), np.int64), np.array([0, 1]), None),
    (rc.losses.CrossEntropy(), np.zeros((2, 3), np.float32), np.array([0, 1]), np.array([1, 1])),
    (rc.losses.CrossEntropy(), np.zeros((2, 4, 3), np.float32), np.zeros((2, 4), int), np.array([1, 5])),
    (rc.losses.CrossEntropy(), np.zeros((2, 4, 3), np.float32), np.zeros((2, 4), int), np.array([1])),
    (rc.losses.CrossEntropy(), np.zeros((2, 4, 3), np.float32), np.zeros((2, 4), int), np.array([1.0, 2.0])),
    (rc.losses.CrossEntropy(), np.zeros((2, 4, 0), np.float32), np.zeros((2, 4), int), None),
    (rc.losses.BinaryCrossEntropy(), np.zeros((2, 3), np.float32), np.full((2, 3), 1.5), None),
    (rc.losses.BinaryCrossEntropy(), np.zeros((2, 3), np.float32), np.zeros((2, 1)), None),
    (rc.losses.MeanSquaredError(), np.zeros((2, 3), np.float32), np.zeros((3, 2)), None),
    (rc.losses.MeanSquaredError(), np.zeros((2, 3), np.float32), np.full((2, 3), np.nan), None),
    (rc.losses.MeanSquaredError(), np.zeros(3, np.float32), np.zeros(3), None),
    (rc.losses.MeanSquaredError(), np.zeros((2, 3), np.float32), np.array([["a"] * 3] * 2), None),
    (rc.losses.CrossEntropy(ignore_index=7), np.zeros((2, 3), np.float32), np.array([7, 3]), None),
    (rc.losses.CrossEntropy(class_weights=[1.0, 2.0]), np.zeros((2, 3), np.float32), np.array([0, 1]), None),
    (rc.losses.L1(), np.zeros((2, 3), np.float32), np.zeros((2, 4)), None),
    (rc.losses.L1(), np.zeros((2, 3), np.float32), np.full((2, 3), 1e300), None),
    (rc.losses.BinaryCrossEntropy(), np.zeros((2, 3), np.float32), np.full((2, 3), 1e300), None),
    (rc.losses.Huber(), np.zeros((2, 3), np.float32), np.full((2, 3), np.inf), None),
    (rc.losses.Quantile(), np.zeros((2, 4), np.float32), np.zeros((2, 1)), None),
    (rc.losses.Quantile(), np.zeros((2, 3), np.float32), np.zeros((2, 3)), None),
    (rc.losses.GaussianNLL(), np.zeros((2, 3), np.float32), np.zeros((2, 1)), None),
    (rc.losses.GaussianNLL(), np.zeros((2, 4), np.float32), np.zeros((2, 4)), None),
    (rc.losses.MixtureDensity(2), np.zeros((2, 9), np.float32), np.zeros((2, 2)), None),
    (rc.losses.MixtureDensity(2), np.zeros((2, 10), np.float32), np.zeros((2, 3)), None),
    (rc.losses.MixtureDensity(1, 1, end_of_stroke=True), np.zeros((2, 4), np.float32), np.full((2, 2), 0.5), None),
    (rc.losses.PolicyGradient(), np.zeros((2, 3), np.float32), np.zeros((2, 3)), None),
    (rc.losses.PolicyGradient(), np.zeros((2, 3), np.float32), np.full((2, 2), 3.0), None),
    (rc.losses.PolicyGradient(), np.zeros((2, 3), np.float32), np.full((2, 2), 0.5), None),
    (rc.losses.PolicyGradient("gaussian"), np.zeros((2, 3), np.float32), np.zeros((2, 2)), None),
    (rc.losses.PPO(), np.zeros((2, 3), np.float32), np.zeros((2, 2)), None),
    (rc.losses.PPO(), np.zeros((2, 3), np.float32), np.full((2, 3), [0.0, np.inf, 0.0]), None),
    (rc.losses.ValueFunction(0.1), np.zeros((2, 1), np.float32), np.zeros((2, 1)), None),
    (rc.losses.ValueFunction(), np.zeros((2, 1), np.float32), np.zeros((2, 2)), None),
]


@pytest.mark.parametrize(("loss", "x", "t", "lengths"), BAD)
def test_what_does_not_fit_is_explained(loss: Any, x: Any, t: Any, lengths: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=rf"^{type(loss).__name__}.*got.*expected"):
        loss(x, t, lengths)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (rc.losses.CrossEntropy, {"label_smoothing": 1.1}),
        (rc.losses.CrossEntropy, {"label_smoothing": "a"}),
        (rc.losses.CrossEntropy, {"ignore_index": 0.5}),
        (rc.losses.CrossEntropy, {"class_weights": [1.0, -1.0]}),
        (rc.losses.CrossEntropy, {"class_weights": [1.0, np.nan]}),
        (rc.losses.CrossEntropy, {"class_weights": 1.0}),
        (rc.losses.Huber, {"delta": 0.0}),
        (rc.losses.Huber, {"delta": np.inf}),
        (rc.losses.Quantile, {"quantiles": []}),
        (rc.losses.Quantile, {"quantiles": [0.5, 1.5]}),
        (rc.losses.Quantile, {"quantiles": [np.nan]}),
        (rc.losses.Quantile, {"quantiles": 0.5}),
        (rc.losses.GaussianNLL, {"eps": 0.0}),
        (rc.losses.MixtureDensity, {"components": 0}),
        (rc.losses.MixtureDensity, {"components": 3, "features": 3, "correlated": True}),
        (rc.losses.MixtureDensity, {"components": 3, "end_of_stroke": 1}),
        (rc.losses.MixtureDensity, {"components": 3, "eps": 1.0}),
        (rc.losses.PolicyGradient, {"distribution": "beta"}),
        (rc.losses.PolicyGradient, {"entropy": -1.0}),
        (rc.losses.PPO, {"clip": 0.0}),
        (rc.losses.PPO, {"clip": 1.0}),
        (rc.losses.ValueFunction, {"clip": 0.0}),
    ],
)
def test_wrong_options_are_explained(make: Any, options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=rf"^{make.__name__}: got.*expected"):
        make(**options)
