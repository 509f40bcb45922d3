"""CTC: value and gradient against the specification, all paths, PyTorch and finite differences; targets of all
lengths."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import loss_reference
import recurra as rc
from agreement import assert_same_bits
from array_types import DTYPES, Array
from single_thread import central_difference

pytestmark = pytest.mark.every_isa

BLANK = 2
LOSS = rc.losses.CTC(blank=BLANK)


def labels(rng: np.random.Generator, classes: int, n: int) -> Array:
    """Labels other than the blank, some of them repeated."""
    drawn = rng.integers(0, classes - 1, n)
    again = rng.random(n) < 0.3
    again[:1] = False
    drawn[again] = drawn[np.flatnonzero(again) - 1]
    return drawn + (drawn >= BLANK)


def problem(
    rows: int = 7, steps: int = 23, classes: int = 5, most: int = 9, seed: int = 0
) -> tuple[Array, list[Array], Array]:
    """Logits exact in float32, NaN past the lengths; targets, one of them empty; lengths, one of them 0."""
    rng = np.random.default_rng(seed)
    x = 2 * rng.standard_normal((rows, steps, classes), np.float32)
    lengths = rng.integers(0, steps + 1, rows)
    lengths[0], lengths[-1] = steps, 0
    targets = [labels(rng, classes, int(n)) for n in rng.integers(0, most + 1, rows)]
    targets[0] = targets[0][:0]
    x[np.arange(steps) >= lengths[:, None]] = np.nan
    return x, targets, lengths


def gradient_of(value: rc.losses.LossValue) -> Array:
    assert value.gradient is not None
    return value.gradient


def specified(x: Array, targets: list[Array], lengths: Array) -> Array:
    """Each row's loss, infinity where the target is infeasible."""
    rows = zip(x.astype(np.float64), targets, lengths, strict=True)
    with np.errstate(invalid="ignore"):
        return np.array([loss_reference.ctc(row[:steps], target, BLANK) for row, target, steps in rows])


def by_torch(x: Array, targets: list[Array], lengths: Array, dtype: str) -> tuple[Array, Array]:
    """Each row's loss and the gradient of their sum, 0 where the target is infeasible."""
    logits = torch.tensor(np.nan_to_num(x).astype(dtype), requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        losses = torch.nn.functional.ctc_loss(
            logits.log_softmax(-1).transpose(0, 1),
            torch.from_numpy(np.concatenate(targets)),
            torch.from_numpy(lengths),
            torch.tensor([len(target) for target in targets]),
            BLANK,
            "none",
            zero_infinity=True,
        )
    losses.sum().backward()
    assert logits.grad is not None
    return losses.detach().numpy(), logits.grad.numpy()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "size", [(7, 23, 5, 9), (5, 9, 3, 4), (4, 70, 40, 33), (9, 3, 4, 3), (3, 40, 300, 16)], ids=str
)
def test_value_and_gradient(size: tuple[int, int, int, int], seed: int) -> None:
    x, targets, lengths = problem(*size, seed=seed)
    expected = specified(x, targets, lengths)
    feasible = np.isfinite(expected)
    losses, gradient = by_torch(x, targets, lengths, "float64")
    # PyTorch gives empty targets without steps another loss; there is nothing to differ in otherwise.
    np.testing.assert_allclose(losses[lengths > 0], np.where(feasible, expected, 0.0)[lengths > 0], rtol=1e-12)
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-6)):
        value = LOSS(x.astype(dtype), targets, lengths)
        assert value.count == (feasible & (lengths > 0)).sum()
        assert value.sum == pytest.approx(expected[feasible].sum(), rel=tolerance)
        assert gradient_of(value).dtype == dtype
        # Differences of two probabilities: absolutely.
        np.testing.assert_allclose(gradient_of(value), gradient, rtol=0, atol=3 * tolerance)


def test_central_differences() -> None:
    x, targets, lengths = problem(4, 9, 4, 3, seed=3)
    x = x.astype(np.float64)
    gradient = gradient_of(LOSS(x, targets, lengths))
    valid = np.flatnonzero(np.isfinite(x))
    expected = central_difference(lambda: LOSS(x, targets, lengths).sum, x, valid)
    np.testing.assert_allclose(gradient.ravel()[valid], expected, rtol=0, atol=1e-6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(steps=st.integers(1, 6), classes=st.integers(2, 4), seed=st.integers(0, 2**32 - 1), data=st.data())
def test_all_paths_of_tiny_rows(steps: int, classes: int, seed: int, data: Any) -> None:
    """Each label sequence's probability is that of its paths; those that no path gives are infeasible."""
    x = 3 * np.random.default_rng(seed).standard_normal((1, steps, classes))
    blank = data.draw(st.integers(0, classes - 1))
    target = data.draw(st.lists(st.sampled_from([k for k in range(classes) if k != blank]), max_size=steps + 1))
    value = rc.losses.CTC(blank)(x, [np.array(target, int)])
    known = loss_reference.ctc_by_paths(x[0], blank)
    assert value.count == (tuple(target) in known)
    assert value.sum == pytest.approx(-known.get(tuple(target), 0.0), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_have_their_bits_to_themselves(dtype: str) -> None:
    """Alone or in a batch, padded or not, whatever the padding holds."""
    x, targets, lengths = problem(9, 40, 21, 18, seed=1)
    whole = LOSS(x.astype(dtype), targets, lengths)
    total = 0.0
    for row, (target, steps) in enumerate(zip(targets, lengths, strict=True)):
        alone = LOSS(np.ascontiguousarray(x[row : row + 1, :steps]).astype(dtype), [target])
        assert_same_bits(gradient_of(whole)[row, :steps], gradient_of(alone)[0])
        assert not gradient_of(whole)[row, steps:].any()
        total += alone.sum
    assert whole.sum == total
    longest = max(map(len, targets))
    padded = np.array([[*target, *[-1] * (longest + 2 - len(target))] for target in targets])
    assert_same_bits(gradient_of(LOSS(x.astype(dtype), padded, lengths)), gradient_of(whole))


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_and_the_gradient_change_no_bit(dtype: str) -> None:
    x, targets, lengths = problem(33, 60, 30, 25, seed=2)
    x = x.astype(dtype)
    rc.set_num_threads(1)
    expected = LOSS(x, targets, lengths)
    assert LOSS(x, targets, lengths, gradient=False).sum == expected.sum
    for threads in (2, 3):
        rc.set_num_threads(threads)
        value = LOSS(x, targets, lengths)
        assert value.sum == expected.sum
        assert_same_bits(gradient_of(value), gradient_of(expected))


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_long_sequences(scale: float) -> None:
    """5000 steps: values to 1e-8 of float64, and gradients no worse for the length."""
    rng = np.random.default_rng(5)
    x = (scale * rng.standard_normal((2, 5000, 32))).astype(np.float32)
    targets, lengths = [labels(rng, 32, 400), labels(rng, 32, 3)], np.array([5000, 4999])
    expected = specified(x, targets, lengths).sum()
    double = LOSS(x.astype(np.float64), targets, lengths)
    assert double.sum == pytest.approx(expected, rel=1e-10)
    single = LOSS(x, targets, lengths)
    assert single.sum == pytest.approx(expected, rel=1e-8)
    np.testing.assert_allclose(gradient_of(single), gradient_of(double), rtol=0, atol=2e-5)
    np.testing.assert_allclose(gradient_of(single).sum(-1), 0.0, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_states_far_less_likely_than_others_count(dtype: str) -> None:
    """A model that is certain of the blank: each label costs 60 nats, all 40 of them far more than a number can
    hold."""
    x = np.zeros((1, 100, 5), dtype)
    x[..., BLANK] = 60.0
    targets = [np.arange(40) % 2]
    value = LOSS(x, targets)
    (expected,) = specified(x, targets, np.array([100]))
    assert expected > 2000
    assert value.sum == pytest.approx(expected, rel=1e-6)
    _, gradient = by_torch(x, targets, np.array([100]), "float64")
    np.testing.assert_allclose(gradient_of(value), gradient, rtol=0, atol=1e-5 if dtype == "float32" else 1e-10)


INFEASIBLE: dict[str, tuple[int, list[int]]] = {
    "more labels than steps": (3, [0, 1, 0, 1]),
    "a repeated label takes a blank": (3, [0, 0, 1]),
    "no steps": (0, [0]),
}


@pytest.mark.parametrize(("steps", "target"), INFEASIBLE.values(), ids=INFEASIBLE)
def test_infeasible_targets(steps: int, target: list[int]) -> None:
    """Are left out, or refused; the other rows do not notice."""
    x = np.random.default_rng(0).standard_normal((2, 6, 4)).astype(np.float32)
    targets, lengths = [np.array([0, 1]), np.array(target)], np.array([6, steps])
    value, other = LOSS(x, targets, lengths), LOSS(x[:1], targets[:1])
    assert (value.sum, value.count) == (other.sum, 1)
    assert_same_bits(gradient_of(value)[0], gradient_of(other)[0])
    assert not gradient_of(value)[1].any()
    with pytest.raises(ValueError, match=r"^CTC: got.*row 1.*expected.*infeasible='ignore'"):
        rc.losses.CTC(BLANK, infeasible="error")(x, targets, lengths)
    enough = len(target) + sum(a == b for a, b in itertools.pairwise(target))
    assert rc.losses.CTC(BLANK, infeasible="error")(x, targets, np.array([6, enough])).count == 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_logits(dtype: str) -> None:
    """What is impossible by -infinity is infeasible where it is needed, and changes nothing where it is not."""
    x = np.random.default_rng(0).standard_normal((2, 8, 4)).astype(dtype)
    x[..., 3] = -np.inf
    value = LOSS(x, [np.array([0, 1]), np.array([0, 3])])
    without = LOSS(np.ascontiguousarray(x[:1, :, :3]), [np.array([0, 1])])
    assert value.count == 1
    assert value.sum == pytest.approx(without.sum, rel=1e-6)
    assert np.isfinite(gradient_of(value)).all()
    assert not gradient_of(value)[1].any()
    certain = np.full((1, 3, 4), -1e5, dtype)
    certain[0, [0, 1, 2], [0, BLANK, 1]] = 1e5
    right, wrong = LOSS(certain, [np.array([0, 1])]), LOSS(certain, [np.array([1, 0])])
    assert right.sum == pytest.approx(0.0, abs=1e-6)
    assert wrong.sum == pytest.approx(4e5, rel=1e-6)
    assert np.isfinite(gradient_of(wrong)).all()


def test_a_nan_in_a_prediction_is_not_hidden() -> None:
    x, targets, _ = problem(3, 12, 5, 4)
    x = np.random.default_rng(0).standard_normal(x.shape).astype(np.float32)
    expected = LOSS(x, targets)
    x[1, 5, 4] = np.nan
    value = LOSS(x, targets)
    assert np.isnan(value.sum)
    assert np.isnan(gradient_of(value)[1, 5]).any()
    assert_same_bits(gradient_of(value)[[0, 2]], gradient_of(expected)[[0, 2]])


def test_nothing_to_count() -> None:
    x, targets, _ = problem(3, 12, 5, 4)
    for value in (
        LOSS(x, [target[:0] for target in targets], np.zeros(3, int)),
        LOSS(x[:0], []),
        LOSS(x[:0], np.zeros((0, 4), int)),
        LOSS(x[:, :0], np.full((3, 0), -1)),
    ):
        assert (value.sum, value.count) == (0.0, 0)
        assert np.isnan(value.mean)


X = np.zeros((2, 6, 4), np.float32)
BAD: list[tuple[Any, Any, Any]] = [
    (X, [[0, 1]], None),
    (X, [[0, 4], [1]], None),
    (X, [[0, BLANK], [1]], None),
    (X, [[0, -1], [1]], None),
    (X, [[0.0], [1.0]], None),
    (X, [[[0]], [[1]]], None),
    (X, np.array([[0, -1, 1], [1, 0, 0]]), None),
    (X, np.array([[0, -2], [1, 0]]), None),
    (X, np.array([0, 1]), None),
    (X, np.array([[0, 1]] * 3), None),
    (X, [[0], [1]], [6, 7]),
    (X[..., :2], [[0], [1]], None),
    (X[:, 0], [[0], [1]], None),
    (X[:, 0], np.array([0, 1]), None),
    (X, [0, 1], None),
]


@pytest.mark.parametrize(("x", "t", "lengths"), BAD)
def test_what_does_not_fit_is_explained(x: Any, t: Any, lengths: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^CTC.*got.*expected"):
        LOSS(x, t, lengths)


@pytest.mark.parametrize("options", [{"blank": -1}, {"blank": 0.5}, {"infeasible": "zero"}, {"infeasible": True}])
def test_wrong_options_are_explained(options: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^CTC: got.*expected"):
        rc.losses.CTC(**options)


def spoken(rng: np.random.Generator) -> tuple[Array, Array]:
    """Noisy features of 2 or 3 different labels, each of which lasts for a few steps; blank 0."""
    said = rng.permutation(np.arange(1, 4))[: rng.integers(2, 4)]
    steps = np.repeat(said, rng.integers(2, 5, len(said)))
    return (np.eye(4)[steps] + 0.1 * rng.standard_normal((len(steps), 4))).astype(np.float32), said


def data(seed: int, rows: int = 120) -> tuple[list[Array], list[Array]]:
    rng = np.random.default_rng(seed)
    pairs = [spoken(rng) for _ in range(rows)]
    return [x for x, _ in pairs], [y for _, y in pairs]


@pytest.mark.parametrize("as_arrays", [False, True])
def test_fit_learns_unaligned_targets(as_arrays: bool) -> None:
    """Lists of any lengths, or padded arrays, which give the same model."""
    x, y = data(0)
    lengths = None
    model = rc.Sequential(rc.GRU(4, 16, seed=0), rc.Linear(16, 4, seed=0), seed=0)
    inputs: Any = x
    targets: Any = y
    if as_arrays:
        lengths = np.array([len(row) for row in x])
        inputs = np.full((len(x), lengths.max(), 4), np.nan, np.float32)
        targets = np.full((len(y), max(map(len, y))), -1)
        for row, (one, other) in enumerate(zip(x, y, strict=True)):
            inputs[row, : len(one)], targets[row, : len(other)] = one, other
    loss, optimizer = rc.losses.CTC(), rc.optim.Adam(0.02)
    before = model.evaluate(inputs, targets, lengths, loss=loss)
    history = model.fit(
        inputs, targets, lengths, loss=loss, optimizer=optimizer, epochs=12, batch_size=16, seed=0, verbose=0
    )
    assert history.history["loss"][-1] < 0.05 * before
    x, y = data(1)
    found = [rc.ctc.greedy(logits[None])[0].labels for logits in model.predict(x)]
    right = [np.array_equal(one, other) for one, other in zip(found, y, strict=True)]
    assert np.mean(right) > 0.95


@pytest.mark.parametrize(
    "y",
    [
        [[1, 2], [3]],
        [[1, 2], [3], [4]],
        [[1, 2], [3], [0]],
        [[1, 2], [3], [1.5]],
        [[1, 2], [3], [-1]],
        np.zeros((3, 2), int),
        np.array([[1, -1], [-1, 1], [2, 2]]),
    ],
)
def test_fit_refuses_targets_that_do_not_fit(y: Any) -> None:
    x = [np.zeros((n, 4), np.float32) for n in (3, 4, 5)]
    model = rc.Sequential(rc.GRU(4, 5), rc.Linear(5, 4))
    with pytest.raises((ValueError, TypeError), match=r"^fit: got.*y.*expected"):
        model.fit(x, y, loss=rc.losses.CTC(), optimizer=rc.optim.SGD(0.1), verbose=0)


def test_fit_refuses_models_without_a_time_axis() -> None:
    model = rc.Sequential(rc.GRU(4, 5, return_sequences=False), rc.Linear(5, 4))
    with pytest.raises(ValueError, match=r"^fit: got CTC.*expected.*return_sequences=True"):
        model.fit([X[0]], [[1]], loss=rc.losses.CTC(), optimizer=rc.optim.SGD(0.1), verbose=0)
