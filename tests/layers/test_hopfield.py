"""Retrieval from modern Hopfield networks: against plain numpy, central differences; the contracts of layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from single_thread import central_difference

pytestmark = pytest.mark.every_isa

LENGTHS, PATTERN_LENGTHS = np.array([6, 3, 0, 4, 1]), np.array([4, 2, 3, 0, 7])
ROWS, STEPS, PATTERNS, SIZE = 5, 6, 7, 5
#: The second one's states converge after different numbers of steps.
OPTIONS: dict[str, dict[str, Any]] = {
    "one step": {"beta": None, "steps": 1},
    "to convergence": {"beta": 1.5, "steps": 40, "tolerance": 1e-3},
    "three steps": {"beta": 0.7, "steps": 3},
}
every_kind = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def problem(dtype: str) -> tuple[Array, Array, Array]:
    """States, patterns and gradients of the output, NaN past the lengths."""
    rng = np.random.default_rng(0)
    shapes = ((ROWS, STEPS, SIZE), (ROWS, PATTERNS, SIZE), (ROWS, STEPS, SIZE))
    x, patterns, dy = (rng.standard_normal(shape).astype(np.float32).astype(dtype) for shape in shapes)
    for row in range(ROWS):
        x[row, LENGTHS[row] :] = dy[row, LENGTHS[row] :] = np.nan
        patterns[row, PATTERN_LENGTHS[row] :] = np.nan
    return x, patterns, dy


def retrieved(state: Array, patterns: Array, options: dict[str, Any]) -> tuple[Array, int]:
    """One state, by equation 3 of Ramsauer et al. (2021), and the number of steps."""
    beta = options["beta"] or 1 / np.sqrt(len(state))
    for step in range(options["steps"]):
        scores = beta * patterns @ state
        weights = np.exp(scores - scores.max(initial=-np.inf))
        following = weights @ patterns / weights.sum() if len(patterns) else np.zeros_like(state)
        moved, state = np.abs(following - state).max(), following
        if moved <= options.get("tolerance", 0.0):
            return state, step + 1
    return state, options["steps"]


def solve(layer: Any, x: Array, patterns: Array, dy: Array, lengths: Any) -> dict[str, Array]:
    tape = layer.record((x, patterns), lengths=lengths)
    (dx, dpatterns), _ = tape.backward(dy)
    return {"y": tape.y, "dx": dx, "dpatterns": dpatterns}


@pytest.mark.parametrize("dtype", DTYPES)
@every_kind
def test_values(options: dict[str, Any], dtype: str) -> None:
    layer = rc.Hopfield(SIZE, dtype=dtype, **options)
    x, patterns, _ = problem(dtype)
    y, _ = layer((x, patterns), lengths=(LENGTHS, PATTERN_LENGTHS))
    taken = set()
    for row in range(ROWS):
        for step in range(LENGTHS[row]):
            own = patterns[row, : PATTERN_LENGTHS[row]].astype(np.float64)
            expected, steps = retrieved(x[row, step].astype(np.float64), own, options)
            taken.add(steps)
            np.testing.assert_allclose(y[row, step], expected, rtol=0, atol=1e-12 if dtype == "float64" else 1e-5)
        assert not y[row, LENGTHS[row] :].any()
    assert (len(taken) > 2) == ("tolerance" in options)


@every_kind
def test_central_differences(options: dict[str, Any]) -> None:
    layer = rc.Hopfield(SIZE, dtype="float64", **options)
    x, patterns, dy = problem("float64")
    found = solve(layer, x, patterns, dy, (LENGTHS, PATTERN_LENGTHS))
    valid = (np.arange(STEPS) < LENGTHS[:, None])[:, :, None]

    def total() -> float:
        y, _ = layer((x, patterns), lengths=(LENGTHS, PATTERN_LENGTHS))
        return float(np.where(valid, y * dy, 0.0).sum())

    for name, variable in {"dx": x, "dpatterns": patterns}.items():
        entries = np.random.default_rng(0).permutation(np.flatnonzero(~np.isnan(variable)))[:40]
        expected = central_difference(total, variable, entries)
        np.testing.assert_allclose(found[name].flat[entries], expected, rtol=0, atol=1e-6, err_msg=name)
        assert not found[name][np.isnan(variable)].any()


@pytest.mark.parametrize("dtype", DTYPES)
@every_kind
def test_bits(options: dict[str, Any], dtype: str) -> None:
    """A row alone and in a batch, padded or not, in parts, with one thread or two."""
    layer = rc.Hopfield(SIZE, dtype=dtype, **options)
    x, patterns, dy = problem(dtype)
    rc.set_num_threads(1)
    found = solve(layer, x, patterns, dy, (LENGTHS, PATTERN_LENGTHS))
    rc.set_num_threads(2)
    for name, array in solve(layer, x, patterns, dy, (LENGTHS, PATTERN_LENGTHS)).items():
        assert_same_bits(array, found[name], name)
    assert_same_bits(layer((x, patterns), lengths=(LENGTHS, PATTERN_LENGTHS))[0], found["y"])
    for row, (n, m) in enumerate(zip(LENGTHS, PATTERN_LENGTHS, strict=True)):
        one = slice(row, row + 1)
        alone = solve(layer, x[one, :n], patterns[one, :m], dy[one, :n], None)
        for name, count in (("y", n), ("dx", n), ("dpatterns", m)):
            assert_same_bits(alone[name][0], found[name][row, :count], name)
            assert not found[name][row, count:].any()
        for step in range(n):
            assert_same_bits(layer((x[one, step : step + 1], patterns[one, :m]))[0][0, 0], found["y"][row, step])


def test_one_step_is_attention() -> None:
    x, patterns, dy = problem("float64")
    lengths = (LENGTHS, PATTERN_LENGTHS)
    attention = rc.MultiplicativeAttention(SIZE, SIZE, score="scaled_dot", dtype="float64")
    expected = solve(attention, x, patterns, dy, lengths)
    for name, array in solve(rc.Hopfield(SIZE, dtype="float64"), x, patterns, dy, lengths).items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-13, err_msg=name)


def test_steps_are_calls_one_after_another() -> None:
    x, patterns, _ = problem("float64")
    one, three = (rc.Hopfield(SIZE, beta=0.7, steps=steps, dtype="float64") for steps in (1, 3))
    expected, _ = three((x, patterns), lengths=(LENGTHS, PATTERN_LENGTHS))
    for _ in range(3):
        x, _state = one((x, patterns), lengths=(LENGTHS, PATTERN_LENGTHS))
    assert_same_bits(expected, x)


def test_a_disturbed_pattern_is_retrieved() -> None:
    rng = np.random.default_rng(0)
    patterns = rng.standard_normal((1, 200, 64)).astype(np.float32)
    disturbed = patterns[:, :20] + 0.5 * rng.standard_normal((1, 20, 64)).astype(np.float32)
    y, _ = rc.Hopfield(64, beta=1.0, steps=5)((disturbed, patterns))
    np.testing.assert_allclose(y, patterns[:, :20], atol=1e-3)


def test_in_a_model(tmp_path: Any) -> None:
    """Vectors as states, training through the retrieval, and files."""
    state, patterns = rc.Input(features=SIZE, sequence=False), rc.Input(features=3)
    stored = rc.Linear(3, SIZE, seed=0)(patterns)
    model = rc.Model((state, patterns), rc.Linear(SIZE, 1, seed=1)(rc.Hopfield(SIZE, steps=2)((state, stored))))
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((16, SIZE)).astype(np.float32), rng.standard_normal((16, 4, 3)).astype(np.float32))
    y = x[1].sum((1, 2))[:, None]
    history = model.fit(x, y, loss="mse", optimizer=rc.optim.Adam(0.02), epochs=30, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    model.save(tmp_path / "model.safetensors")
    assert_same_bits(rc.load(tmp_path / "model.safetensors")(x)[0], model(x)[0])


@pytest.mark.parametrize(
    "options",
    [{"size": 0}, {"beta": 0.0}, {"beta": np.inf}, {"steps": 0}, {"tolerance": -1.0}, {"dtype": "int32"}],
)
def test_errors(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^Hopfield: got .*expected"):
        rc.Hopfield(**{"size": 3, **options})
