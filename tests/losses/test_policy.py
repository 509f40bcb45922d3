"""Losses of reinforcement learning beyond what all losses have: targets of several fields, sampling, advantages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurra as rc
from array_types import Array

RNG = np.random.default_rng(0)
LOGITS = RNG.standard_normal((4, 6, 3)).astype(np.float32)
ADVANTAGES = RNG.standard_normal((4, 6))


def reference_gae(r: Array, v: Array, last: float, reset: Array, discount: float, lam: float) -> Array:
    """One row, by the sum of equation 16: discounted errors up to the end of the episode."""
    made = np.zeros(len(r))
    for t in range(len(r)):
        end = next((s for s in range(t + 1, len(r)) if reset[s]), len(r))
        following = [*v[t + 1 : end], last if end == len(r) else 0.0]
        errors = r[t:end] + discount * np.array(following) - v[t:end]
        made[t] = sum(error * (discount * lam) ** k for k, error in enumerate(errors))
    return made


def test_no_advantage_is_no_loss_whatever_the_ratio() -> None:
    loss = rc.losses.PPO()
    value = loss(np.zeros((1, 2), np.float32), loss.targets(np.array([0]), np.array([0.0]), np.array([-1000.0])))
    assert value.sum == 0
    assert not np.any(value.gradient)


def test_gae_is_the_sum_of_equation_16() -> None:
    rewards, values = RNG.standard_normal((2, 5, 9))
    reset, lengths, last = RNG.random((5, 9)) < 0.3, np.array([9, 0, 4, 1, 7]), RNG.standard_normal(5)
    sick = np.arange(9) >= lengths[:, None]
    rewards[sick] = values[sick] = np.nan
    advantages, returns = rc.losses.gae(rewards, values, last, reset=reset, lengths=lengths, discount=0.9, lambda_=0.8)
    for row, n in enumerate(lengths):
        own = reference_gae(rewards[row, :n], values[row, :n], last[row], reset[row, :n], 0.9, 0.8)
        np.testing.assert_allclose(advantages[row, :n], own, rtol=1e-13, atol=1e-13)
        np.testing.assert_allclose(returns[row, :n], own + values[row, :n], rtol=1e-13, atol=1e-13)
    assert not advantages[sick].any()
    assert not returns[sick].any()


@pytest.mark.parametrize(
    "options",
    [{"values": np.zeros((2, 4))}, {"last_values": np.zeros(3)}, {"reset": np.zeros((2, 3))}, {"discount": 1.5}],
)
def test_gae_explains_what_does_not_fit(options: dict[str, Any]) -> None:
    given: dict[str, Any] = {"rewards": np.zeros((2, 3)), "values": np.zeros((2, 3)), **options}
    with pytest.raises((ValueError, TypeError), match=r"^losses\.gae: got .*expected"):
        rc.losses.gae(**given)


def test_gae_and_sample_refuse_what_is_not_finite() -> None:
    for name in ("rewards", "values", "last_values"):
        given = {"rewards": np.zeros((1, 3)), "values": np.zeros((1, 3)), "last_values": np.zeros(1)}
        given[name][0] = np.nan
        with pytest.raises(ValueError, match=rf"^losses\.gae: got NaN or infinity in {name}, "):
            rc.losses.gae(**given)
    padded = np.array([[1.0, np.nan]])
    assert rc.losses.gae(padded, padded, lengths=[1])[0][0, 0] == 0
    for wrong in (np.nan, -np.inf, np.inf):
        with pytest.raises(ValueError, match=r"^PolicyGradient\.sample: got predictions with NaN or infinity"):
            rc.losses.PolicyGradient().sample(np.full((1, 2, 2), wrong))


def test_targets_of_nested_lists_are_those_of_arrays() -> None:
    loss = rc.losses.PolicyGradient()
    actions, advantages = [[0, 1, 1], [1, 0, 0]], [[1.0, -0.5, 2.0], [0.0, 1.0, 2.0]]
    np.testing.assert_array_equal(loss.targets(actions, advantages), np.stack([actions, advantages], -1))
    np.testing.assert_array_equal(loss.targets(actions[0], advantages[0]), np.stack([actions[0], advantages[0]], -1))
    rows = loss.targets([[0, 1], [1]], [[1.0, 2.0], [3.0]])
    assert [row.tolist() for row in rows] == [[[0, 1], [1, 2]], [[1, 3]]]


def test_targets_of_rows_are_those_of_arrays() -> None:
    loss = rc.losses.PPO()
    actions, old = loss.sample(LOGITS, seed=0), np.zeros((4, 6))
    rows = loss.targets(list(actions), list(ADVANTAGES), list(old))
    np.testing.assert_array_equal(np.stack(rows), loss.targets(actions, ADVANTAGES, old))
    with pytest.raises(ValueError, match=r"^PPO\.targets: got .*expected"):
        loss.targets(actions, ADVANTAGES[:2], old)
    with pytest.raises(ValueError, match=r"^ValueFunction\.targets: got .*expected"):
        rc.losses.ValueFunction(0.1).targets(ADVANTAGES[..., None])


@pytest.mark.parametrize("distribution", ["categorical", "gaussian"])
def test_a_ratio_of_one_has_the_policy_gradient(distribution: str) -> None:
    """With the old policy's own log-probabilities, PPO begins where REINFORCE does."""
    x = np.concatenate([LOGITS, LOGITS], -1).astype(np.float64)
    plain, ppo = rc.losses.PolicyGradient(distribution), rc.losses.PPO(distribution)
    actions = plain.sample(x, seed=1)
    one = plain(x, plain.targets(actions, ADVANTAGES))
    other = ppo(x, ppo.targets(actions, ADVANTAGES, ppo.log_probs(x, actions)))
    np.testing.assert_allclose(other.gradient, one.gradient, rtol=1e-12, atol=1e-12)  # type: ignore[arg-type]
    assert other.sum == pytest.approx(-ADVANTAGES.sum(), rel=1e-12)


def test_ruled_out_actions() -> None:
    """A logit of -infinity leaves the others as if it were not there."""
    loss = rc.losses.PolicyGradient(entropy=0.5)
    masked = np.concatenate([LOGITS, np.full((4, 6, 1), -np.inf, np.float32)], -1)
    actions = loss.sample(masked, seed=0)
    assert actions.max() == 2
    targets = loss.targets(actions, ADVANTAGES)
    one, other = loss(LOGITS, targets), loss(masked, targets)
    assert other.sum == pytest.approx(one.sum, rel=1e-6)
    assert not other.gradient[..., 3].any()  # type: ignore[index]


def test_samples_follow_the_policy() -> None:
    loss = rc.losses.PolicyGradient()
    logits = np.array([1.0, 0.0, -1.0, -np.inf])
    drawn = loss.sample(np.tile(logits, (100_000, 1)), seed=0)
    expected = 100_000 * np.exp(logits[:3]) / np.exp(logits[:3]).sum()
    counts = np.bincount(drawn, minlength=4)
    assert counts[3] == 0
    assert ((counts[:3] - expected) ** 2 / expected).sum() < 13.8  # chi-square of 2 degrees: 1 in 1000
    x = np.tile([0.5, np.log(4.0)], (100_000, 1))
    real = rc.losses.PolicyGradient("gaussian").sample(x, seed=0)
    assert real.mean() == pytest.approx(0.5, abs=4 * 2 / 316)
    assert real.std() == pytest.approx(2.0, abs=4 * 2 / 447)


def policy_and_value() -> Any:
    x = rc.Input(features=2)
    hidden = rc.GRU(2, 8)(x)
    return rc.Model(x, (rc.Linear(8, 3)(hidden), rc.Linear(8, 1)(hidden)), seed=0)


def test_fit_is_a_loop_of_ones_own() -> None:
    """A shared network with two heads, and ragged rows: the same parameters, bit for bit."""
    x = RNG.standard_normal((4, 6, 2)).astype(np.float32)
    lengths = np.array([6, 3, 5, 0])
    ppo, value = rc.losses.PPO(entropy=0.01), rc.losses.ValueFunction(0.2)
    fitted, looped = policy_and_value(), policy_and_value()
    (logits, values), _ = looped(x, lengths=lengths)
    actions = ppo.sample(logits, seed=0)
    advantages, returns = rc.losses.gae(ADVANTAGES, values[..., 0], lengths=lengths)
    y = (
        ppo.targets(actions, advantages, ppo.log_probs(logits, actions)),
        value.targets(returns[..., None], values),
    )
    fitted.fit(
        x,
        y,
        lengths=lengths,
        loss=(ppo, value),
        loss_weights=(1.0, 0.5),
        optimizer=rc.optim.SGD(0.1),
        epochs=3,
        batch_size=4,
        shuffle=False,
        verbose=0,
    )
    optimizer = rc.optim.SGD(0.1)
    for _ in range(3):
        tape = looped.record(x, lengths=lengths)
        gradients = []
        for loss, one, target, weight in zip((ppo, value), tape.y, y, (1.0, 0.5), strict=True):
            found = loss(one, target, lengths)
            gradients.append(found.gradient * np.float32(weight / found.count))
        looped.zero_grad()
        tape.backward(tuple(gradients))
        optimizer.step(looped)
    for name, array in fitted.state_dict().items():
        np.testing.assert_array_equal(looped.state_dict()[name], array)


def test_a_policy_that_ends_in_a_softmax_is_refused() -> None:
    model = rc.Sequential(rc.GRU(2, 4), rc.Linear(4, 3), rc.Activation("softmax"))
    loss = rc.losses.PolicyGradient()
    with pytest.raises(ValueError, match="softmax"):
        model.fit(
            np.zeros((4, 6, 2), np.float32),
            loss.targets(np.zeros((4, 6), int), ADVANTAGES),
            loss=loss,
            optimizer="adam",
        )


def test_a_bandit_is_learnt() -> None:
    """REINFORCE raises the probability of what is rewarded."""
    model = rc.Sequential(rc.GRU(1, 4), rc.Linear(4, 3), seed=0)
    loss, x = rc.losses.PolicyGradient(), np.ones((16, 5, 1), np.float32)
    rng, optimizer = np.random.default_rng(0), rc.optim.Adam(0.03)
    for _ in range(60):
        actions = loss.sample(model(x)[0], rng)
        rewards = (actions == 1) * 1.0
        targets = loss.targets(actions, rewards - rewards.mean())
        model.fit(x, targets, loss=loss, optimizer=optimizer, batch_size=16, verbose=0)
    assert (loss.sample(model(x)[0], rng) == 1).mean() > 0.9
