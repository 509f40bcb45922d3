"""Binary Hopfield networks: weights and energies by their definitions, fixed points, retrieval, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurra as rc
from array_types import Array


def patterns(count: int, size: int, seed: int = 0) -> Array:
    return np.where(np.random.default_rng(seed).random((count, size)) < 0.5, -1, 1)


def stored(rule: str, count: int, size: int, **options: Any) -> tuple[Any, Array]:
    network, x = rc.HopfieldNetwork(size, rule=rule, **options), patterns(count, size)
    network.store(x)
    return network, x


def test_weights_and_energy_are_the_definitions() -> None:
    thresholds = np.linspace(-1, 1, 12)
    network, x = stored("hebb", 3, 12, thresholds=thresholds)
    s = patterns(4, 12, seed=1)
    for i in range(12):
        for j in range(12):
            expected = 0.0 if i == j else sum(p[i] * p[j] for p in x) / 12
            assert network.weights[i, j] == pytest.approx(expected, abs=1e-15)
    for row, energy in zip(s, network.energy(s), strict=True):
        pairs = sum(network.weights[i, j] * row[i] * row[j] for i in range(12) for j in range(i))
        assert energy == pytest.approx(-pairs + thresholds @ row, rel=1e-12)
        assert network.energy(row) == pytest.approx(energy, rel=1e-12)


def test_the_pseudo_inverse_projects_on_the_patterns() -> None:
    network, x = stored("pseudo_inverse", 5, 20)
    projection = x.T @ np.linalg.inv(x @ x.T) @ x
    np.fill_diagonal(projection, 0)
    np.testing.assert_allclose(network.weights, projection, atol=1e-12)


@pytest.mark.parametrize("mode", ["asynchronous", "synchronous"])
@pytest.mark.parametrize(("rule", "count"), [("hebb", 4), ("pseudo_inverse", 25)])
def test_disturbed_patterns_are_recalled(rule: str, count: int, mode: str) -> None:
    network, x = stored(rule, count, 100)
    np.testing.assert_array_equal(network.retrieve(x, mode=mode), x)
    disturbed = x.copy()
    disturbed[:, :6] *= -1
    np.testing.assert_array_equal(network.retrieve(disturbed, mode=mode), x)


def test_correlated_patterns_need_the_pseudo_inverse() -> None:
    x = np.ones((8, 40), int)
    for row in range(8):
        x[row, 5 * row : 5 * row + 5] = -1
    network, hebb = rc.HopfieldNetwork(40, rule="pseudo_inverse"), rc.HopfieldNetwork(40)
    network.store(x)
    hebb.store(x)
    np.testing.assert_array_equal(network.retrieve(x), x)
    assert (hebb.retrieve(x) != x).any()


def test_asynchronous_updates_lower_the_energy_to_a_fixed_point() -> None:
    network, _ = stored("hebb", 30, 60)  # overloaded: many minima that are no pattern
    s = patterns(20, 60, seed=2)
    before = network.energy(s)
    for number in range(30):
        s = network.step(s, seed=number)
        after = network.energy(s)
        assert (after <= before + 1e-12).all()
        before = after
    np.testing.assert_array_equal(network.step(s, mode="synchronous"), s)


def test_synchronous_updates_may_cycle() -> None:
    network = rc.HopfieldNetwork(2)
    network.store([1, -1])
    s = np.array([1, 1])
    np.testing.assert_array_equal(network.step(s, mode="synchronous"), -s)
    np.testing.assert_array_equal(network.retrieve(s, mode="synchronous", max_steps=3), -s)
    assert network.energy(network.retrieve(s)) == network.energy([1, -1])


def test_a_row_does_not_depend_on_others() -> None:
    network, _ = stored("hebb", 12, 50)
    s = patterns(9, 50, seed=3)
    together = network.retrieve(s, seed=5)
    for row, alone in zip(together, s, strict=True):
        np.testing.assert_array_equal(network.retrieve(alone, seed=5), row)
    assert network.retrieve(s[:0]).shape == (0, 50)


def test_storing_in_parts_is_storing_at_once() -> None:
    for rule in ("hebb", "pseudo_inverse"):
        whole, x = stored(rule, 6, 30)
        parts = rc.HopfieldNetwork(30, rule=rule)
        parts.store(x[:4] > 0)
        parts.store(x[4])
        parts.store(x[5:])
        np.testing.assert_array_equal(parts.weights, whole.weights)
        assert parts.num_patterns == 6


@pytest.mark.parametrize(
    "call",
    [
        lambda n: rc.HopfieldNetwork(0),
        lambda n: rc.HopfieldNetwork(3, rule="delta"),
        lambda n: rc.HopfieldNetwork(3, thresholds=[1.0]),
        lambda n: n.store([[1, -1]]),
        lambda n: n.store([[1, 0, 1]]),
        lambda n: n.store([[1, np.nan, 1]]),
        lambda n: n.store("abc"),
        lambda n: n.retrieve([1, 1, 1], mode="random"),
        lambda n: n.energy(np.ones((2, 2, 3))),
    ],
)
def test_errors(call: Any) -> None:
    network = rc.HopfieldNetwork(3)
    with pytest.raises((ValueError, TypeError), match=r"^HopfieldNetwork.*: got .*expected"):
        call(network)
    assert network.num_patterns == 0
